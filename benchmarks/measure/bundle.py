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
from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier
from edge_ct.engines.comparison import EngineTime, compare_engines
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName, describe_engine
from edge_ct.errors import InputRejected
from edge_ct.imaging.slice_files import list_slices
from edge_ct.phantom import make_slice
from edge_ct.system.progress import QUIET, Progress
from edge_ct.trust.opening import open_bundle

from . import mlperf_loadgen, operator_times
from .machine import Condition, Machine, condition, describe
from .mlperf_loadgen import LoadGen
from .operator_times import Profile
from .processes import cold_starts, resident_mb
from .throughput import Throughput, throughput
from .timing import Latency, measure, queries, summarise, timer_ns

COLD_STARTS = 5
PHANTOM_SIZE = 512
MAX_SLICES = 256


class ThreadLatency(msgspec.Struct, frozen=True):
    """Both latency distributions at one number of interpreter threads."""

    threads: int
    model_only: Latency
    end_to_end: Latency


class BatchLatency(msgspec.Struct, frozen=True):
    """The median time of a batch of a run's network, and the slices per second that it gives."""

    batch: int
    batch_ms: float
    slices_per_second: float


class Benchmark(msgspec.Struct, frozen=True):
    """What `edge-ct benchmark --json` prints.

    Attributes:
        model: Name and seal of the bundle, or name of the run.
        bytes: Size of the file or files.
        slices: The slices that were measured on, in words.
        quick: Whether there were fewer queries than a report needs.
        model_only: Time from a preprocessed image to outputs and probability.
        end_to_end: Time from the bytes of a file to a result.
        cold_start_ms: Median time of a new process that classifies one slice, from its start to its end.
        peak_rss_mb: Highest resident memory of such a process.
        slices_per_second: End-to-end throughput of one worker, sustained.
        machine: The machine that was measured.
        parameters: Number of parameters.
        macs: Multiply-accumulates of one inference.
        by_threads: Both distributions at each number of threads; the first are also `model_only` and `end_to_end`.
        by_workers: Throughput of a folder that several workers judge.
        by_batch: Batch sizes of a run; empty for a bundle.
        cold_starts_ms: Times of all cold starts.
        resident_mb: Resident memory of the measuring process at the end.
        timer_ns: Time that the timer itself adds to each query.
        before: Condition of the machine before the measurement.
        after: Condition of the machine after it.
        device: What computed: `cpu`, or `gpu:` and its name.
        precision: Number format of the network.
        backend: Runtime or framework, with its version.
        profile: Time of each operator, where asked for.
        loadgen: Results of MLPerf's load generator, where asked for.
        engines: Times of the installed engines, measured in turns; empty if only LiteRT is installed.
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
    by_threads: tuple[ThreadLatency, ...] = ()
    by_workers: tuple[Throughput, ...] = ()
    by_batch: tuple[BatchLatency, ...] = ()
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
    engines: tuple[EngineTime, ...] = ()


class BundleOptions(msgspec.Struct, frozen=True):
    """How a bundle is measured.

    Attributes:
        data: Folder or CSV of slices; None measures on 512 px phantoms.
        threads: Numbers of interpreter threads; the first counts as the result.
        workers: Numbers of workers that judge a folder; empty leaves this out.
        quick: Whether 200 queries are enough.
        profile: Whether each operator is timed.
        loadgen_logs: Folder for the logs of MLPerf's load generator; None leaves it out.
        engine: The program that computes the network.
    """

    data: Path | None = None
    threads: Sequence[int] = (1,)
    workers: Sequence[int] = ()
    quick: bool = False
    profile: bool = False
    loadgen_logs: Path | None = None
    engine: EngineName = DEFAULT_ENGINE


def measure_bundle(path: Path, options: BundleOptions, progress: Progress = QUIET) -> Benchmark:
    """Measure a bundle on this machine.

    Raises:
        ModelRejected: The bundle fails verification.
        InputRejected: No slice can be read.
    """
    bundle = open_bundle(path)
    classifier = Classifier(bundle, options.threads[0], options.engine)
    classifier.check_golden()
    machine, before = describe(), condition()
    contents = phantom_files() if options.data is None else read_slice_files(options.data)
    rows, slices_per_second = _measure_threads(classifier, bundle, contents, options, progress)
    resident = resident_mb()
    starts = _measure_cold_starts(path, contents[0], options.engine, progress)
    return Benchmark(
        model=classifier.identity,
        bytes=len(bundle.content),
        slices=describe_slices(contents, options.data),
        quick=options.quick,
        model_only=rows[0].model_only,
        end_to_end=rows[0].end_to_end,
        cold_start_ms=float(np.median([wall for wall, _ in starts])),
        peak_rss_mb=max(memory for _, memory in starts),
        slices_per_second=slices_per_second,
        machine=machine,
        parameters=bundle.manifest.network.parameters,
        macs=operator_times.count_macs(bundle.model),
        by_threads=tuple(rows),
        by_workers=_measure_workers(path, bundle, contents, rows, machine, options, progress),
        cold_starts_ms=tuple(round(wall, 2) for wall, _ in starts),
        resident_mb=resident,
        timer_ns=timer_ns(),
        before=before,
        after=condition(),
        precision=bundle.manifest.variant,
        backend=machine.runtime if options.engine == DEFAULT_ENGINE else describe_engine(options.engine),
        profile=operator_times.profile(bundle.model, options.threads[0], progress) if options.profile else None,
        loadgen=_run_loadgen(classifier, contents, options),
        engines=compare_engines(bundle, options.threads[0]),
    )


def _measure_threads(
    classifier: Classifier, bundle: Bundle, contents: Sequence[bytes], options: BundleOptions, progress: Progress
) -> tuple[list[ThreadLatency], float]:
    """Return the latencies at each number of threads, and the slices per second at the first."""
    measured = []
    for threads in options.threads:
        used = classifier if threads == options.threads[0] else Classifier(bundle, threads, options.engine)
        measured.append(_measure_one_thread_count(used, contents, threads, options.quick, progress))
    return [row for row, _ in measured], measured[0][1]


def _measure_one_thread_count(
    classifier: Classifier, contents: Sequence[bytes], threads: int, quick: bool, progress: Progress
) -> tuple[ThreadLatency, float]:
    """Return both distributions, and the slices per second end to end."""
    images = _preprocess(classifier, contents)
    count, seconds = queries(quick)
    label = f", {threads} threads" if threads > 1 else ""
    model_only, _ = measure(
        lambda i: classifier.infer(images[i % len(images)]), count, seconds, f"model only{label}", progress
    )
    end_to_end, rate = measure(
        lambda i: classifier.classify(contents[i % len(contents)]), count, seconds, f"end to end{label}", progress
    )
    return ThreadLatency(threads, summarise(model_only, threads), summarise(end_to_end, threads)), rate


def _measure_cold_starts(
    path: Path, content: bytes, engine: EngineName, progress: Progress
) -> list[tuple[float, float]]:
    """Return milliseconds and peak MB of new processes that classify one slice."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "slice.png"
        file.write_bytes(content)
        command = [sys.executable, "-m", "edge_ct", "classify", str(file), "--model", str(path), "--json"]
        command += ["--engine", engine]
        return cold_starts(command, COLD_STARTS, progress)


def _measure_workers(
    path: Path,
    bundle: Bundle,
    contents: Sequence[bytes],
    rows: Sequence[ThreadLatency],
    machine: Machine,
    options: BundleOptions,
    progress: Progress,
) -> tuple[Throughput, ...]:
    if not options.workers:
        return ()
    # Workers share the cores already, so each has one thread, whatever numbers of threads were measured before.
    one_thread = next((row for row in rows if row.threads == 1), None)
    if one_thread is None:
        one_worker = Classifier(bundle, engine=options.engine)
        one_thread = _measure_one_thread_count(one_worker, contents, 1, True, progress)[0]
    model_ms = one_thread.model_only.p50_ms
    return throughput(path, contents, options.workers, machine.cores, model_ms, options.engine, progress)


def _run_loadgen(classifier: Classifier, contents: Sequence[bytes], options: BundleOptions) -> LoadGen | None:
    if options.loadgen_logs is None:
        return None
    images = _preprocess(classifier, contents)
    count, seconds = queries(options.quick)
    return mlperf_loadgen.run(lambda i: classifier.infer(images[i]), len(images), count, seconds, options.loadgen_logs)


def _preprocess(classifier: Classifier, contents: Sequence[bytes]) -> list[np.ndarray]:
    return [classifier.manifest.preprocess(slices.decode(content, "slice").pixels) for content in contents]


def describe_slices(contents: Sequence[bytes], data: Path | None) -> str:
    """Return what was measured on, in words."""
    return f"{len(contents)} phantoms of {PHANTOM_SIZE} px" if data is None else f"{len(contents)} of {data.name}"


def phantom_files(count: int = 16) -> list[bytes]:
    """Return PNG files of 512 px phantom slices, the size of a scanner's export."""
    encoded = (
        cv2.imencode(".png", make_slice(i, 2 + i % 4, i % 2 == 0, PHANTOM_SIZE, seed=11).image)[1] for i in range(count)
    )
    return [content.tobytes() for content in encoded]


def read_slice_files(data: Path) -> list[bytes]:
    """Return the bytes of at most 256 readable slices, spread evenly over a data set.

    Args:
        data: A file, a folder, or a CSV with a column `path`.

    Raises:
        InputRejected: No file is a readable slice.
    """
    if data.suffix.lower() == ".csv":
        with data.open(newline="", encoding="utf-8-sig") as file:
            paths = [data.parent / row["path"] for row in DictReader(file)]
    else:
        paths = list_slices(data).paths if data.is_dir() else [data]
    contents = []
    for path in paths[:: max(1, len(paths) // MAX_SLICES)][:MAX_SLICES]:
        try:
            content = slices.read_bytes(path)
            slices.decode(content, str(path))
        except InputRejected:
            continue
        contents.append(content)
    if not contents:
        raise InputRejected(f"{data}: no readable slice; name a folder or CSV of CT slices")
    return contents
