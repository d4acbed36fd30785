"""Latency and memory of a bundle, through the `Classifier` that the device runs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, perf_counter_ns

import cv2
import msgspec
import numpy as np

from edge_ct import slices
from edge_ct.classifier import Classifier
from edge_ct.errors import EdgeCTError, InputRejected
from edge_ct.phantom import make_slice
from edge_ct.progress import QUIET, Progress

from .machine import Machine, describe

WARM_UP = 20
REPORT_QUERIES, REPORT_SECONDS = 1024, 60.0
QUICK_QUERIES = 200
COLD_STARTS = 5
PHANTOM_SIZE = 512


class Latency(msgspec.Struct, frozen=True):
    """Distribution of one query's wall time; n queries after a warm-up."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    std_ms: float
    min_ms: float
    max_ms: float
    n: int
    threads: int


class Benchmark(msgspec.Struct, frozen=True):
    """What `benchmark --json` prints.

    model_only: a preprocessed image to outputs and probability. end_to_end: file bytes to Result. cold_start_ms: median
    time of a new process from start to end, classifying one slice; peak_rss_mb: the most memory such a process held.
    slices_per_second: end to end, sustained, one worker. quick: fewer queries than a report needs.
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


def benchmark(bundle: Path, data: Path | None, threads: int, quick: bool, progress: Progress = QUIET) -> Benchmark:
    """Measure a bundle on the slices of a folder or, without one, on 512 px phantoms.

    Raises `ModelRejected` for a bundle that fails verification, `InputRejected` where no slice can be read.
    """
    classifier = Classifier(bundle, threads)
    classifier.check_golden()
    contents = phantom_files() if data is None else readable(data)
    images = [classifier.manifest.preprocess(slices.decode(content, "slice").pixels) for content in contents]
    count, seconds = queries(quick)
    model_only, _ = measure(lambda i: classifier.infer(images[i % len(images)]), count, seconds, "model only", progress)
    end_to_end, rate = measure(
        lambda i: classifier.classify(contents[i % len(contents)]), count, seconds, "end to end", progress
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slice.png"
        path.write_bytes(contents[0])
        command = [sys.executable, "-m", "edge_ct", "classify", str(path), "--model", str(bundle), "--json"]
        starts = cold_starts(command, COLD_STARTS, progress)
    return Benchmark(
        model=classifier.identity,
        bytes=len(classifier.bundle.content),
        slices=named(contents, data),
        quick=quick,
        model_only=summarise(model_only, threads),
        end_to_end=summarise(end_to_end, threads),
        cold_start_ms=float(np.median([wall for wall, _ in starts])),
        peak_rss_mb=max(memory for _, memory in starts),
        slices_per_second=rate,
        machine=describe(),
    )


def queries(quick: bool) -> tuple[int, float]:
    """How many queries at the least, and for how many seconds."""
    return (QUICK_QUERIES, 0.0) if quick else (REPORT_QUERIES, REPORT_SECONDS)


def named(contents: Sequence[bytes], data: Path | None) -> str:
    """What was measured on, for people."""
    return f"{len(contents)} phantoms of {PHANTOM_SIZE} px" if data is None else f"{len(contents)} of {data.name}"


def measure(
    query: Callable[[int], object], queries: int, seconds: float, label: str, progress: Progress = QUIET
) -> tuple[list[float], float]:
    """Call `query(i)` at least `queries` times and for at least `seconds`, after a warm-up.

    Returns each call's milliseconds and the calls a second. The timer itself costs well under a microsecond.
    """
    for i in range(WARM_UP):
        query(i)
    times: list[float] = []
    begun = perf_counter()
    with progress.bar(label, queries) as on_done:
        while len(times) < queries or perf_counter() - begun < seconds:
            start = perf_counter_ns()
            query(len(times))
            times.append((perf_counter_ns() - start) / 1e6)
            on_done(1)
    return times, len(times) / (perf_counter() - begun)


def summarise(milliseconds: Sequence[float], threads: int) -> Latency:
    """Percentiles by linear interpolation, sample standard deviation."""
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    return Latency(
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        mean_ms=float(np.mean(milliseconds)),
        std_ms=float(np.std(milliseconds, ddof=1)) if len(milliseconds) > 1 else 0.0,
        min_ms=float(np.min(milliseconds)),
        max_ms=float(np.max(milliseconds)),
        n=len(milliseconds),
        threads=threads,
    )


# Runs a command and prints its wall time and peak memory. A process of its own, and a small one: the kernel counts
# what the parent held at the fork towards the child's peak.
_LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(1000 * (time.perf_counter() - start), usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


def cold_starts(command: list[str], count: int, progress: Progress = QUIET) -> list[tuple[float, float]]:
    """`cold_run` several times."""
    with progress.bar("cold starts", count) as on_done:
        return [cold_run(command, on_done) for _ in range(count)]


def cold_run(command: list[str], on_done: Callable[[int], None] = lambda steps: None) -> tuple[float, float]:
    """Run a command to its end. Returns its wall time in milliseconds and its peak resident memory in MB."""
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command], capture_output=True, text=True, check=True
    )
    wall, peak, code = launched.stdout.split()
    if code != "0":
        raise EdgeCTError(f"exit code {code} from: {' '.join(command)}")
    on_done(1)
    # Linux reports kilobytes, macOS bytes.
    return float(wall), float(peak) / (2**20 if sys.platform == "darwin" else 2**10)


def phantom_files(count: int = 16) -> list[bytes]:
    """PNG files of phantom slices, 512 px, as a scanner's export would be."""
    encoded = (
        cv2.imencode(".png", make_slice(i, 2 + i % 4, i % 2 == 0, PHANTOM_SIZE, seed=11).image)[1] for i in range(count)
    )
    return [content.tobytes() for content in encoded]


def readable(data: Path) -> list[bytes]:
    """Up to 256 slice files of a folder, spread over it."""
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
