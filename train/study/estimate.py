"""How long a study would take: a few training steps of each network, measured here, times what there is to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from edge_ct.dataset import load
from edge_ct.preprocess import Preprocess
from edge_ct.system import malloc, native_output
from edge_ct.system.host import processors
from edge_ct.system.progress import QUIET, Progress

from ..fitting import optimise
from ..fitting.batches import Batches
from ..fitting.options import Options
from ..zoo import build
from . import runner

with native_output.captured_native_stderr():
    import keras

# Steps that are timed, after one that builds the graph.
STEPS = 3


class Cost(msgspec.Struct, frozen=True):
    """Of one network. step_ms: a training step, augmentation included; start_s: until the first one is done."""

    network: str
    jobs: int
    step_ms: float
    slices_per_second: float
    scoring_ms: float
    start_s: float
    job_hours: float


class StudyCost(msgspec.Struct, frozen=True):
    """Of a whole study; hours: of all jobs, one after the other. n: slices; epochs: at most, of each job."""

    n: int
    size: int
    batch: int
    epochs: int
    jobs: int
    hours: float
    device: str
    networks: tuple[Cost, ...]


class _Timer(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.ends.append(perf_counter())


def estimate(
    data: Path,
    networks: Sequence[str],
    options: Options,
    folds: int,
    rounds: int,
    threads: int | None = None,
    progress: Progress = QUIET,
) -> StudyCost:
    """What a study would take, as `study.run` has the arguments. Slices are counted, not read: noise is trained on."""
    n = len(load(data, options.positive))
    test = 1 / folds if folds else options.test
    trained, scored = round(n * (1 - test - options.validation)), round(n * options.validation)
    batch = max(1, min(options.batch, trained))
    jobs = max(1, folds) * rounds
    measured: dict[str, tuple[float, float, float]] = {}
    costs = []
    for network in dict.fromkeys(networks):
        backbone = network.removeprefix(build.MODIFIED)
        if backbone not in measured:
            progress.say(f"measuring {backbone}")
            own = msgspec.structs.replace(options, network=backbone, weights="none", teacher="")
            measured[backbone] = measure(own, batch, threads or processors())
        start, step, scoring = measured[backbone]
        seconds = start + options.epochs * (max(1, trained // batch) * step + scored * scoring) + n * scoring
        costs.append(Cost(network, jobs, step * 1000, batch / step, scoring * 1000, start, seconds / 3600))
    hours = sum(cost.job_hours * cost.jobs for cost in costs)
    return StudyCost(n, options.size, batch, options.epochs, jobs * len(costs), hours, _device(), tuple(costs))


def measure(options: Options, batch: int, threads: int) -> tuple[float, float, float]:
    """Seconds until the first training step is done, of a further step, and of scoring a slice."""
    options.check()
    runner.repeatable(threads)
    malloc.keep_freed_memory()
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch * (STEPS + 1), options.size, options.size, 1), dtype=np.uint8)
    labels, preprocess = np.arange(len(images)) % 2, Preprocess(options.size)
    began = perf_counter()
    model: Any = build.build(keras, options.network, options.size, options.alpha, None, options.dropout)
    model = optimise.in_precision(model, options.precision)
    optimise.compile_model(model, options, STEPS, frozen=False)
    timer = _Timer()
    batches = Batches(images, labels, preprocess, batch, options.augmentation(), options.seed)
    model.fit(batches, callbacks=[timer], verbose=0)
    steps = np.diff(timer.ends)
    scoring = []
    few = preprocess.normalise(images[: min(len(images), 8)])
    for _ in range(1 + STEPS):
        before = perf_counter()
        model.predict_on_batch(few)
        scoring.append((perf_counter() - before) / len(few))
    keras.utils.clear_session()
    return timer.ends[0] - began, float(median(steps)), float(median(scoring[1:]))


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
