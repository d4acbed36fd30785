"""A folder of slices, judged by several workers at once: throughput, and whether memory stays flat."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import msgspec

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier
from edge_ct.progress import QUIET, Progress

from .processes import resident_mb

FEW, MANY = 200, 2000


class Throughput(msgspec.Struct, frozen=True):
    """Of `slices` files judged by `workers` workers with an interpreter each, of one thread.

    of_possible: the rate over cores (no more than there are workers) divided by the model-only time: 1 where reading
    and preparing slices cost nothing. growth_mb: what the process held after all slices more than after the first 200.
    """

    workers: int
    slices: int
    seconds: float
    slices_per_second: float
    of_possible: float
    resident_mb: float | None
    growth_mb: float | None


def judge_folder(bundle: Bundle, paths: Sequence[Path], workers: int, progress: Progress = QUIET) -> float:
    """Judge every file once; returns the seconds it took, those of opening the interpreters left out."""
    own = threading.local()
    ready = threading.Barrier(workers + 1)

    def open_classifier() -> None:
        own.classifier = Classifier(bundle)
        ready.wait()

    with ThreadPoolExecutor(workers) as pool, progress.bar(f"{workers} workers", len(paths)) as on_done:
        for _ in range(workers):
            pool.submit(open_classifier)
        ready.wait()
        begun = perf_counter()
        for _ in pool.map(lambda path: own.classifier.classify(path).probability, paths):
            on_done(1)
        return perf_counter() - begun


def throughput(
    bundle: Bundle, paths: Sequence[Path], workers: int, cores: int, model_ms: float, progress: Progress = QUIET
) -> Throughput:
    """Measure `MANY` slices; where there are fewer files, they are read again and again."""
    chosen = [paths[i % len(paths)] for i in range(MANY)]
    judge_folder(bundle, chosen[:FEW], workers)
    before = resident_mb()
    seconds = judge_folder(bundle, chosen, workers, progress)
    after = resident_mb()
    rate = len(chosen) / seconds
    return Throughput(
        workers=workers,
        slices=len(chosen),
        seconds=seconds,
        slices_per_second=rate,
        of_possible=rate * model_ms / 1000 / min(workers, cores),
        resident_mb=after,
        growth_mb=None if after is None or before is None else after - before,
    )
