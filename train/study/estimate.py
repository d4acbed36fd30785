"""The estimated duration of a study: a few training steps of each network are timed and multiplied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from edge_ct.dataset import load
from edge_ct.system import malloc, native_output
from edge_ct.system.host import processors
from edge_ct.system.progress import QUIET, Progress

from ..fitting.batches import Batches
from ..fitting.optimise import compile_model, convert_precision
from ..fitting.options import TrainingOptions
from ..zoo.architectures import MODIFIED_PREFIX
from ..zoo.builder import build
from . import runner

with native_output.captured_native_stderr():
    import keras

# Number of steps that are timed, after a first one that builds the graph.
STEPS = 3


class NetworkCost(msgspec.Struct, frozen=True):
    """Estimated cost of one network.

    Attributes:
        network: Name of the network.
        jobs: Number of its jobs.
        step_ms: Duration of a training step, including augmentation.
        slices_per_second: Training throughput.
        scoring_ms: Duration of scoring one slice.
        start_s: Time until the first training step is finished.
        job_hours: Duration of one job.
    """

    network: str
    jobs: int
    step_ms: float
    slices_per_second: float
    scoring_ms: float
    start_s: float
    job_hours: float


class StudyCost(msgspec.Struct, frozen=True):
    """Estimated cost of a study.

    Attributes:
        n: Number of slices.
        size: Side of the input in pixels.
        batch: Slices in a batch.
        epochs: Maximum number of epochs of a job.
        jobs: Number of jobs.
        hours: Duration of all jobs, one after the other.
        device: Device that was measured.
        networks: Cost of each network.
    """

    n: int
    size: int
    batch: int
    epochs: int
    jobs: int
    hours: float
    device: str
    networks: tuple[NetworkCost, ...]


class _Timer(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.ends.append(perf_counter())


def estimate_study(
    data: Path,
    networks: Sequence[str],
    options: TrainingOptions,
    folds: int,
    rounds: int,
    threads: int | None = None,
    progress: Progress = QUIET,
) -> StudyCost:
    """Estimate how long a study takes; the arguments are those of `runner.run_study`.

    The slices are counted but not read: the timed steps train on noise.
    """
    n = len(load(data, options.positive))
    test = 1 / folds if folds else options.test
    trained, scored = round(n * (1 - test - options.validation)), round(n * options.validation)
    batch = max(1, min(options.batch, trained))
    jobs = max(1, folds) * rounds
    measured: dict[str, tuple[float, float, float]] = {}
    costs = []
    for network in dict.fromkeys(networks):
        backbone = network.removeprefix(MODIFIED_PREFIX)
        if backbone not in measured:
            progress.say(f"measuring training steps of {backbone}")
            # Plain labels, and no lesion map: these cost the same time but for a few per cent.
            plain = {"weights": "none", "teacher": "", "label_smoothing": 0.0, "lesions": "", "lesion_phantoms": 0}
            base_options = msgspec.structs.replace(options, network=backbone, **plain)
            measured[backbone] = measure_network(base_options, batch, threads or processors())
        start, step, scoring = measured[backbone]
        seconds = start + options.epochs * (max(1, trained // batch) * step + scored * scoring) + n * scoring
        costs.append(NetworkCost(network, jobs, step * 1000, batch / step, scoring * 1000, start, seconds / 3600))
    hours = sum(cost.job_hours * cost.jobs for cost in costs)
    return StudyCost(n, options.size, batch, options.epochs, jobs * len(costs), hours, _device(), tuple(costs))


def measure_network(options: TrainingOptions, batch: int, threads: int) -> tuple[float, float, float]:
    """Measure, in seconds, the time until the first training step is finished, a further step, and scoring a slice."""
    options.check()
    runner.make_repeatable(threads)
    malloc.keep_freed_memory()
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch * (STEPS + 1), options.size, options.size, 1), dtype=np.uint8)
    labels, preprocess = np.arange(len(images)) % 2, options.preprocess
    started = perf_counter()
    model: Any = build(keras, options.network, options.size, options.alpha, None, options.dropout)
    model = convert_precision(model, options.precision)
    compile_model(model, options, STEPS, frozen=False)
    timer = _Timer()
    batches = Batches(images, labels, preprocess, batch, options.augmentation(), options.seed)
    model.fit(batches, callbacks=[timer], verbose=0)
    steps = np.diff(timer.ends)
    scoring = []
    scored = preprocess.normalise(images[: min(len(images), 8)])
    for _ in range(1 + STEPS):
        before = perf_counter()
        model.predict_on_batch(scored)
        scoring.append((perf_counter() - before) / len(scored))
    keras.utils.clear_session()
    return timer.ends[0] - started, float(median(steps)), float(median(scoring[1:]))


def _device() -> str:
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        names = [
            tensorflow.config.experimental.get_device_details(device).get("device_name", "GPU")
            for device in tensorflow.config.list_physical_devices("GPU")
        ]
        if names:
            return ", ".join(names)
    return f"{keras.backend.backend()}, {processors()} processors"
