"""Latency and memory of a trained run, in Keras at full precision: what a bundle made of it is to be compared with."""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_ct import quiet, slices
from edge_ct import run as runs
from edge_ct.progress import QUIET, Progress

from . import latency
from .latency import Benchmark
from .machine import describe


def benchmark(folder: Path, data: Path | None, threads: int, quick: bool, progress: Progress = QUIET) -> Benchmark:
    """As `latency.benchmark`, of a run folder; of an ensemble, all its members, one after the other.

    threads: within one operation, where TensorFlow is the backend and has not begun to work; else as many are reported
    as there are. Raises `DataRejected` for what is no finished run.
    """
    run = runs.load_finished(folder)
    backend, threads = _backend(threads)
    networks = _networks(folder)
    contents = latency.phantom_files() if data is None else latency.readable(data)
    images = [[_input(network, content) for network in networks] for content in contents]
    queries, seconds = latency.queries(quick)
    model_only, _ = latency.measure(
        lambda i: [_infer(network, image) for network, image in zip(networks, images[i % len(images)], strict=True)],
        queries,
        seconds,
        "model only",
        progress,
    )
    end_to_end, rate = latency.measure(
        lambda i: [_infer(network, _input(network, contents[i % len(contents)])) for network in networks],
        queries,
        seconds,
        "end to end",
        progress,
    )
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "slice.png"
        path.write_bytes(contents[0])
        command = [sys.executable, "-m", __spec__.name, str(folder), str(path)]
        starts = latency.cold_starts(command, 1 if quick else latency.COLD_STARTS, progress)
    return Benchmark(
        model=run.name,
        bytes=sum(member.model_path.stat().st_size for member in run.members()),
        slices=latency.named(contents, data),
        quick=quick,
        model_only=latency.summarise(model_only, threads),
        end_to_end=latency.summarise(end_to_end, threads),
        cold_start_ms=float(np.median([wall for wall, _ in starts])),
        peak_rss_mb=max(memory for _, memory in starts),
        slices_per_second=rate,
        machine=msgspec.structs.replace(
            describe(), runtime=f"keras {version('keras')} on {backend} {version(backend)}"
        ),
    )


def _backend(threads: int) -> tuple[str, int]:
    """The name of Keras' backend, and the threads that it works with."""
    with quiet.native_stderr():
        import keras

        name = str(keras.backend.backend())
        if name != "tensorflow":
            return name, describe().cores
        import tensorflow

        config = tensorflow.config.threading
        with suppress(RuntimeError):
            config.set_intra_op_parallelism_threads(threads)
        return name, config.get_intra_op_parallelism_threads() or describe().cores


def _networks(folder: Path) -> list[tuple[Any, Any]]:
    import keras

    load_model = partial(keras.saving.load_model, compile=False)
    return [(own.info.preprocess, own.load_model(load_model)) for own in runs.load_finished(folder).members()]


def _input(network: tuple[Any, Any], content: bytes) -> np.ndarray:
    preprocess, _ = network
    return np.asarray(preprocess.normalise(preprocess(slices.decode(content, "slice").pixels)))[np.newaxis]


def _infer(network: tuple[Any, Any], image: np.ndarray) -> float:
    _, model = network
    logits = model.predict_on_batch(image)[0]
    return float(1 / (1 + np.exp(logits[0] - logits[1])))


def main(folder: str, path: str) -> None:
    """From nothing to the members' probabilities of one slice: what a cold start is."""
    _backend(1)
    content = slices.read_bytes(Path(path))
    for network in _networks(Path(folder)):
        _infer(network, _input(network, content))


if __name__ == "__main__":
    main(*sys.argv[1:])
