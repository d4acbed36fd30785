"""Latency, memory and throughput of a bundle, through the `Classifier` that the device runs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from csv import DictReader
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edge_ct import slices
from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.errors import InputRejected
from edge_ct.phantom import make_slice
from edge_ct.system.progress import QUIET, Progress

from . import mlperf_loadgen, operator_times
from .machine import Condition, Machine, condition, describe
from .mlperf_loadgen import LoadGen
from .operator_times import Profile
from .processes import cold_starts, resident_mb
from .throughput import Throughput, throughput
from .timing import Latency, measure, queries, summarise, timer_ns

COLD_STARTS = 5
PHANTOM_SIZE = 512


class OfThreads(msgspec.Struct, frozen=True):
    """Both distributions at one number of interpreter threads."""

    threads: int
    model_only: Latency
    end_to_end: Latency


class OfBatch(msgspec.Struct, frozen=True):
    """A run's network at one batch size: the time of a batch, and slices a second."""

    batch: int
    batch_ms: float
    slices_per_second: float


class Benchmark(msgspec.Struct, frozen=True):
    """What `benchmark --json` prints.

    model_only: a preprocessed image to outputs and probability. end_to_end: file bytes to Result. cold_start_ms: median
    time of a new process from start to end, classifying one slice; peak_rss_mb: the most memory such a process held.
    slices_per_second: end to end, sustained, one worker. quick: fewer queries than a report needs.

    by_threads: the two distributions at each number of threads asked for, the first of which is the one above.
    by_workers: a folder judged by several workers. by_batch: a run's batch sizes; a bundle has none. resident_mb: what
    the measuring process held in the end. timer_ns: what each figure holds too much. before, after: the machine's
    condition. device, precision, backend: what computed.
    """

    model: str
    bytes: int
    slices: str
    quick: bool
    model_only: Latency
    end_to_end: Latency
    cold_start_ms: float
    peak_rss_mb: float
    slices_per_second: float
    machine: Machine
    parameters: int = 0
    macs: int = 0
    by_threads: tuple[OfThreads, ...] = ()
    by_workers: tuple[Throughput, ...] = ()
    by_batch: tuple[OfBatch, ...] = ()
    cold_starts_ms: tuple[float, ...] = ()
    resident_mb: float | None = None
    timer_ns: float = 0.0
    before: Condition | None = None
    after: Condition | None = None
    device: str = "cpu"
    precision: str = ""
    backend: str = ""
    profile: Profile | None = None
    loadgen: LoadGen | None = None


def benchmark(
    bundle: Path,
    data: Path | None,
    threads: Sequence[int] = (1,),
    workers: Sequence[int] = (),
    quick: bool = False,
    with_profile: bool = False,
    logs: Path | None = None,
    progress: Progress = QUIET,
) -> Benchmark:
    """Measure a bundle on the slices of a folder or, without one, on 512 px phantoms.

    logs: a folder for LoadGen's logs; without one it is not run.
    Raises `ModelRejected` for a bundle that fails verification, `InputRejected` where no slice can be read.
    """
    opened = read_bundle(bundle)
    classifier = Classifier(opened, threads[0])
    classifier.check_golden()
    before = condition()
    contents = phantom_files() if data is None else readable(data)
    rows, rates = [], []
    for number in threads:
        own = classifier if number == threads[0] else Classifier(opened, number)
        row, rate = _of_threads(own, contents, number, quick, progress)
        rows.append(row)
        rates.append(rate)
    resident = resident_mb()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slice.png"
        path.write_bytes(contents[0])
        command = [sys.executable, "-m", "edge_ct", "classify", str(path), "--model", str(bundle), "--json"]
        starts = cold_starts(command, COLD_STARTS, progress)
    by_load = None
    if logs:
        images = _prepared(classifier, contents)
        by_load = mlperf_loadgen.run(lambda i: classifier.infer(images[i]), len(images), *queries(quick), logs)
    by_workers: tuple[Throughput, ...] = ()
    if workers:
        # One thread a worker, whatever was asked above: workers share the cores already.
        alone = next((row for row in rows if row.threads == 1), None)
        alone = alone or _of_threads(Classifier(opened), contents, 1, True, progress)[0]
        cores = describe().cores
        by_workers = throughput(bundle, contents, workers, cores, alone.model_only.p50_ms, progress)
    return Benchmark(
        model=classifier.identity,
        bytes=len(opened.content),
        slices=named(contents, data),
        quick=quick,
        model_only=rows[0].model_only,
        end_to_end=rows[0].end_to_end,
        cold_start_ms=float(np.median([wall for wall, _ in starts])),
        peak_rss_mb=max(memory for _, memory in starts),
        slices_per_second=rates[0],
        machine=describe(),
        parameters=opened.manifest.network.parameters,
        macs=operator_times.count_macs(opened.model),
        by_threads=tuple(rows),
        by_workers=by_workers,
        cold_starts_ms=tuple(round(wall, 2) for wall, _ in starts),
        resident_mb=resident,
        timer_ns=timer_ns(),
        before=before,
        after=condition(),
        precision=opened.manifest.variant,
        backend=describe().runtime,
        profile=operator_times.profile(opened.model, threads[0], progress) if with_profile else None,
        loadgen=by_load,
    )


def _of_threads(
    classifier: Classifier, contents: Sequence[bytes], threads: int, quick: bool, progress: Progress
) -> tuple[OfThreads, float]:
    """The two distributions, and slices a second end to end."""
    images = _prepared(classifier, contents)
    count, seconds = queries(quick)
    said = f", {threads} threads" if threads > 1 else ""
    model_only, _ = measure(
        lambda i: classifier.infer(images[i % len(images)]), count, seconds, f"model only{said}", progress
    )
    end_to_end, rate = measure(
        lambda i: classifier.classify(contents[i % len(contents)]), count, seconds, f"end to end{said}", progress
    )
    return OfThreads(threads, summarise(model_only, threads), summarise(end_to_end, threads)), rate


def _prepared(classifier: Classifier, contents: Sequence[bytes]) -> list[np.ndarray]:
    return [classifier.manifest.preprocess(slices.decode(content, "slice").pixels) for content in contents]


def named(contents: Sequence[bytes], data: Path | None) -> str:
    """What was measured on, for people."""
    return f"{len(contents)} phantoms of {PHANTOM_SIZE} px" if data is None else f"{len(contents)} of {data.name}"


def phantom_files(count: int = 16) -> list[bytes]:
    """PNG files of phantom slices, 512 px, as a scanner's export would be."""
    encoded = (
        cv2.imencode(".png", make_slice(i, 2 + i % 4, i % 2 == 0, PHANTOM_SIZE, seed=11).image)[1] for i in range(count)
    )
    return [content.tobytes() for content in encoded]


def readable(data: Path) -> list[bytes]:
    """Up to 256 slice files of a folder, or of a CSV with a column `path`, spread over it."""
    if data.suffix.lower() == ".csv":
        found = [data.parent / row["path"] for row in DictReader(data.open(newline="", encoding="utf-8-sig"))]
    else:
        found = slices.find(data) if data.is_dir() else [data]
    contents = []
    for path in found[:: max(1, len(found) // 256)][:256]:
        try:
            content = slices.read_bytes(path)
            slices.decode(content, str(path))
        except InputRejected:
            continue
        contents.append(content)
    if not contents:
        raise InputRejected(f"{data}: no readable slice")
    return contents
