"""Timing one query many times: distribution, drift over the measurement, and the cost of the timer itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns

import msgspec
import numpy as np

from edge_ct.system.progress import QUIET, Progress

WARM_UP = 20
REPORT_QUERIES, REPORT_SECONDS = 1024, 60.0
QUICK_QUERIES = 200
BLOCKS = 20
# Drawing a progress bar takes time, so it is not done after every query.
REDRAW_NS = 200_000_000
QUANTILES = (*(float(p) for p in range(0, 100, 5)), 99.0, 99.5, 99.9, 100.0)

# Returns nanoseconds and never goes back; tests pass an artificial clock.
Clock = Callable[[], int]


class Latency(msgspec.Struct, frozen=True):
    """Distribution of the wall time of one query, after a warm-up.

    Attributes:
        p50_ms: Median in milliseconds; `p90_ms` and `p99_ms` likewise.
        mean_ms: Mean.
        std_ms: Sample standard deviation.
        min_ms: Shortest time; `max_ms` the longest.
        n: Number of queries.
        threads: Number of threads.
        quantiles: Milliseconds at `QUANTILES`.
        block_p50s: Medians of `BLOCKS` consecutive blocks of queries; they show how much the machine drifted, and
            `benchmark compare` tells noise from a change by them.
        block_p90s: 90th percentiles of the same blocks.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    std_ms: float
    min_ms: float
    max_ms: float
    n: int
    threads: int
    quantiles: tuple[float, ...] = ()
    block_p50s: tuple[float, ...] = ()
    block_p90s: tuple[float, ...] = ()


def queries(quick: bool) -> tuple[int, float]:
    """Return the minimum number of queries and the minimum duration in seconds."""
    return (QUICK_QUERIES, 0.0) if quick else (REPORT_QUERIES, REPORT_SECONDS)


def measure(
    query: Callable[[int], object],
    queries: int,
    seconds: float,
    label: str,
    progress: Progress = QUIET,
    clock: Clock = perf_counter_ns,
    warm_up: int = WARM_UP,
) -> tuple[list[float], float]:
    """Call `query(i)` repeatedly and time each call.

    Args:
        query: What to time; called with a running number.
        queries: Minimum number of calls.
        seconds: Minimum duration.
        label: Label of the progress bar.
        progress: Where to show progress.
        clock: The timer.
        warm_up: Number of calls before, which are not timed.

    Returns:
        Milliseconds of each call, and calls per second. The timer's own cost is included; see `timer_ns`.
    """
    for i in range(warm_up):
        query(i)
    times: list[float] = []
    begun = clock()
    until, shown, drawn = begun + int(seconds * 1e9), 0, 0
    with progress.bar(label, queries) as on_done:
        while True:
            start = clock()
            query(len(times))
            end = clock()
            times.append((end - start) / 1e6)
            done = len(times) >= queries and end >= until
            if done or end - begun > (shown + 1) * REDRAW_NS:
                shown = (end - begun) // REDRAW_NS
                on_done(len(times) - drawn)
                drawn = len(times)
            if done:
                break
    return times, len(times) / ((clock() - begun) / 1e9)


def timer_ns(clock: Clock = perf_counter_ns) -> float:
    """Return the median nanoseconds that `measure` reports for a query that does nothing."""
    times, _ = measure(lambda i: None, 2000, 0, "timer", QUIET, clock)
    return float(np.median(times)) * 1e6


def summarise(milliseconds: Sequence[float], threads: int) -> Latency:
    """Summarise times; percentiles are interpolated linearly.

    Args:
        milliseconds: Time of each query.
        threads: Number of threads that the queries ran on.
    """
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    blocks = np.array_split(np.asarray(milliseconds), min(BLOCKS, len(milliseconds)))
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
        quantiles=_rounded(np.percentile(milliseconds, QUANTILES)),
        block_p50s=_rounded([np.median(block) for block in blocks]),
        block_p90s=_rounded([np.percentile(block, 90) for block in blocks]),
    )


def _rounded(milliseconds: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """Round to a tenth of a microsecond, so that the file stays readable."""
    return tuple(round(float(ms), 4) for ms in milliseconds)
