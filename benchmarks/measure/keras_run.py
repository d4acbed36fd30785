"""Latency and memory of a trained run in Keras at full precision, to compare its bundles with.

    python -m edge_ct.benchmarks.measure.keras_run RUN SLICE DEVICE

is the cold start: a new process that loads the run's networks and scores one slice.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from edge_ct import slices
from edge_ct.network_analysis.macs import count_macs
from edge_ct.preprocess import Preprocess
from edge_ct.run import load_finished_run
from edge_ct.system.progress import QUIET, Progress

from .accelerators import Device, WantedDevice, choose_device, device_scope
from .bundle import (
    COLD_STARTS,
    BatchLatency,
    Benchmark,
    ThreadLatency,
    describe_slices,
    phantom_files,
    read_slice_files,
)
from .machine import condition, describe
from .processes import cold_starts, resident_mb
from .timing import measure, queries, summarise, timer_ns

# The best batch size is looked for among these.
BATCHES = (1, 8, 32, 64)
_BATCH_SECONDS, _QUICK_BATCH_SECONDS = 10.0, 1.0


class RunOptions(msgspec.Struct, frozen=True):
    """How a run is measured.

    Attributes:
        data: Folder or CSV of slices; None measures on 512 px phantoms.
        threads: Threads within one operation, if the backend is TensorFlow and has not started to work yet.
        quick: Whether 200 queries are enough.
        device: Where to compute; a missing GPU that was asked for by name is an error.
        batches: Batch sizes to measure.
    """

    data: Path | None = None
    threads: int = 1
    quick: bool = False
    device: WantedDevice = "auto"
    batches: Sequence[int] = BATCHES


class LoadedNetwork(msgspec.Struct, frozen=True):
    """A Keras model and the preprocessing that belongs to it."""

    preprocess: Preprocess
    model: Any


class _Timings(msgspec.Struct, frozen=True):
    latency: ThreadLatency
    slices_per_second: float
    by_batch: tuple[BatchLatency, ...]
    precision: str
    macs: int


def measure_run(folder: Path, options: RunOptions, progress: Progress = QUIET) -> Benchmark:
    """Measure a run folder in Keras; of an ensemble all members, one after the other.

    Raises:
        DataRejected: The folder is not a finished run.
        EdgeCTError: A GPU was asked for by name and there is none.
    """
    run = load_finished_run(folder)
    device = choose_device(options.device, options.threads)
    before = condition()
    contents = phantom_files() if options.data is None else read_slice_files(options.data)
    timings = _measure_networks(folder, contents, device, options, progress)
    starts = _measure_cold_starts(folder, contents[0], options, progress)
    return Benchmark(
        model=run.name,
        bytes=sum(member.model_path.stat().st_size for member in run.members()),
        slices=describe_slices(contents, options.data),
        quick=options.quick,
        model_only=timings.latency.model_only,
        end_to_end=timings.latency.end_to_end,
        cold_start_ms=float(np.median([wall for wall, _ in starts])),
        peak_rss_mb=max(memory for _, memory in starts),
        slices_per_second=timings.slices_per_second,
        machine=msgspec.structs.replace(describe(), runtime=device.backend),
        parameters=sum(member.info.network.parameters for member in run.members()),
        macs=timings.macs,
        by_threads=(timings.latency,),
        by_batch=timings.by_batch,
        cold_starts_ms=tuple(round(wall, 2) for wall, _ in starts),
        resident_mb=resident_mb(),
        timer_ns=timer_ns(),
        before=before,
        after=condition(),
        device=device.kind if device.kind == "cpu" else f"gpu: {device.name}",
        precision=timings.precision,
        backend=device.backend,
    )


def _measure_networks(
    folder: Path, contents: Sequence[bytes], device: Device, options: RunOptions, progress: Progress
) -> _Timings:
    count, seconds = queries(options.quick)
    with device_scope(device):
        networks = _load_networks(folder)
        images = [[_preprocess(network, content) for network in networks] for content in contents]

        def infer(index: int) -> None:
            for network, image in zip(networks, images[index % len(images)], strict=True):
                _infer(network, image)

        def classify(index: int) -> None:
            for network in networks:
                _infer(network, _preprocess(network, contents[index % len(contents)]))

        model_only, _ = measure(infer, count, seconds, "model only", progress)
        end_to_end, rate = measure(classify, count, seconds, "end to end", progress)
        by_batch = tuple(_measure_batch(networks, images, batch, options.quick, progress) for batch in options.batches)
    return _Timings(
        latency=ThreadLatency(
            device.threads, summarise(model_only, device.threads), summarise(end_to_end, device.threads)
        ),
        slices_per_second=rate,
        by_batch=by_batch,
        precision=" and ".join(sorted({str(network.model.compute_dtype) for network in networks})),
        macs=sum(count_macs(network.model) for network in networks),
    )


def _measure_batch(
    networks: Sequence[LoadedNetwork],
    images: Sequence[Sequence[np.ndarray]],
    batch: int,
    quick: bool,
    progress: Progress,
) -> BatchLatency:
    """Time preprocessed slices through every network, one batch at a time."""
    batches = [
        np.concatenate([images[i % len(images)][member] for i in range(batch)]) for member in range(len(networks))
    ]

    def predict(index: int) -> None:
        for network, stacked in zip(networks, batches, strict=True):
            network.model.predict_on_batch(stacked)

    seconds = _QUICK_BATCH_SECONDS if quick else _BATCH_SECONDS
    times, _ = measure(predict, 1, seconds, f"batches of {batch}", progress, warm_up=2)
    median = float(np.median(times))
    return BatchLatency(batch, median, 1000 * batch / median)


def _measure_cold_starts(
    folder: Path, content: bytes, options: RunOptions, progress: Progress
) -> list[tuple[float, float]]:
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "slice.png"
        file.write_bytes(content)
        command = [sys.executable, "-m", __spec__.name, str(folder), str(file), options.device]
        return cold_starts(command, 1 if options.quick else COLD_STARTS, progress)


def _load_networks(folder: Path) -> list[LoadedNetwork]:
    import keras

    load_model = partial(keras.saving.load_model, compile=False)
    members = load_finished_run(folder).members()
    return [LoadedNetwork(member.info.preprocess, member.load_model(load_model)) for member in members]


def _preprocess(network: LoadedNetwork, content: bytes) -> np.ndarray:
    pixels = network.preprocess(slices.decode(content, "slice").pixels)
    return np.asarray(network.preprocess.normalise(pixels))[np.newaxis]


def _infer(network: LoadedNetwork, image: np.ndarray) -> float:
    logits = network.model.predict_on_batch(image)[0]
    return float(1 / (1 + np.exp(logits[0] - logits[1])))


def main(folder: str, path: str, device: str) -> None:
    """Load the run's networks and score one slice: what a cold start consists of."""
    chosen = choose_device(cast(WantedDevice, device), 1)
    content = slices.read_bytes(Path(path))
    with device_scope(chosen):
        for network in _load_networks(Path(folder)):
            _infer(network, _preprocess(network, content))


if __name__ == "__main__":
    main(*sys.argv[1:])
