"""Latency and memory of a trained run, in Keras at full precision: what a bundle made of it is to be compared with."""

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
from edge_ct.run import load_finished_run
from edge_ct.system.progress import QUIET, Progress

from . import accelerators, bundle
from .accelerators import Device, Wanted
from .bundle import Benchmark, OfBatch, OfThreads
from .machine import condition, describe
from .processes import cold_starts, resident_mb
from .timing import measure, queries, summarise, timer_ns

# The best one is looked for among these.
BATCHES = (1, 8, 32, 64)
_BATCH_SECONDS, _QUICK_BATCH_SECONDS = 10.0, 1.0


def benchmark(
    folder: Path,
    data: Path | None,
    threads: int,
    quick: bool,
    progress: Progress = QUIET,
    wanted: Wanted = "auto",
    batches: Sequence[int] = BATCHES,
) -> Benchmark:
    """As `latency.benchmark`, of a run folder; of an ensemble, all its members, one after the other.

    threads: within one operation, where TensorFlow is the backend and has not begun to work; else as many are reported
    as there are. Raises `DataRejected` for what is no finished run, `EdgeCTError` for a GPU asked for by name that is
    not there.
    """
    run = load_finished_run(folder)
    device = accelerators.choose(wanted, threads)
    before = condition()
    contents = bundle.phantom_files() if data is None else bundle.readable(data)
    count, seconds = queries(quick)
    with accelerators.scope(device):
        networks = _networks(folder)
        images = [[_input(network, content) for network in networks] for content in contents]
        model_only, _ = measure(
            lambda i: [
                _infer(network, image) for network, image in zip(networks, images[i % len(images)], strict=True)
            ],
            count,
            seconds,
            "model only",
            progress,
        )
        end_to_end, rate = measure(
            lambda i: [_infer(network, _input(network, contents[i % len(contents)])) for network in networks],
            count,
            seconds,
            "end to end",
            progress,
        )
        by_batch = tuple(_of_batch(networks, images, batch, quick, progress) for batch in batches)
        dtypes = sorted({str(model.compute_dtype) for _, model in networks})
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "slice.png"
        path.write_bytes(contents[0])
        command = [sys.executable, "-m", __spec__.name, str(folder), str(path), wanted]
        starts = cold_starts(command, 1 if quick else bundle.COLD_STARTS, progress)
    row = OfThreads(device.threads, summarise(model_only, device.threads), summarise(end_to_end, device.threads))
    return Benchmark(
        model=run.name,
        bytes=sum(member.model_path.stat().st_size for member in run.members()),
        slices=bundle.named(contents, data),
        quick=quick,
        model_only=row.model_only,
        end_to_end=row.end_to_end,
        cold_start_ms=float(np.median([wall for wall, _ in starts])),
        peak_rss_mb=max(memory for _, memory in starts),
        slices_per_second=rate,
        machine=msgspec.structs.replace(describe(), runtime=device.backend),
        parameters=sum(member.info.network.parameters for member in run.members()),
        macs=sum(count_macs(model) for _, model in networks),
        by_threads=(row,),
        by_batch=by_batch,
        cold_starts_ms=tuple(round(wall, 2) for wall, _ in starts),
        resident_mb=resident_mb(),
        timer_ns=timer_ns(),
        before=before,
        after=condition(),
        device=device.kind if device.kind == "cpu" else f"gpu: {device.name}",
        precision=" and ".join(dtypes),
        backend=device.backend,
    )


def _of_batch(
    networks: Sequence[tuple[Any, Any]],
    images: Sequence[Sequence[np.ndarray]],
    batch: int,
    quick: bool,
    progress: Progress,
) -> OfBatch:
    """Prepared slices through every network, a batch at a time."""
    stacked = [
        np.concatenate([images[i % len(images)][member] for i in range(batch)]) for member in range(len(networks))
    ]
    times, _ = measure(
        lambda i: [model.predict_on_batch(own) for (_, model), own in zip(networks, stacked, strict=True)],
        1,
        _QUICK_BATCH_SECONDS if quick else _BATCH_SECONDS,
        f"batches of {batch}",
        progress,
        warm_up=2,
    )
    median = float(np.median(times))
    return OfBatch(batch, median, 1000 * batch / median)


def _networks(folder: Path) -> list[tuple[Any, Any]]:
    import keras

    load_model = partial(keras.saving.load_model, compile=False)
    return [(own.info.preprocess, own.load_model(load_model)) for own in load_finished_run(folder).members()]


def _input(network: tuple[Any, Any], content: bytes) -> np.ndarray:
    preprocess, _ = network
    return np.asarray(preprocess.normalise(preprocess(slices.decode(content, "slice").pixels)))[np.newaxis]


def _infer(network: tuple[Any, Any], image: np.ndarray) -> float:
    _, model = network
    logits = model.predict_on_batch(image)[0]
    return float(1 / (1 + np.exp(logits[0] - logits[1])))


def main(folder: str, path: str, wanted: str) -> None:
    """From nothing to the members' probabilities of one slice: what a cold start is."""
    device: Device = accelerators.choose(cast(Wanted, wanted), 1)
    content = slices.read_bytes(Path(path))
    with accelerators.scope(device):
        for network in _networks(Path(folder)):
            _infer(network, _input(network, content))


if __name__ == "__main__":
    main(*sys.argv[1:])
