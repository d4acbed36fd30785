"""Timing one query many times: warm-up apart, distribution and its drift kept, the timer's own cost measured."""

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
# Drawing a bar takes time: not after every query.
REDRAW_NS = 200_000_000
QUANTILES = (*(float(p) for p in range(0, 100, 5)), 99.0, 99.5, 99.9, 100.0)

# Nanoseconds since some moment; never back. A test's clock may be an invented one.
Clock = Callable[[], int]


class Latency(msgspec.Struct, frozen=True):
    """Distribution of one query's wall time; n queries after a warm-up.

    quantiles: milliseconds at `QUANTILES`. block_p50s, block_p90s: of `BLOCKS` consecutive blocks of the queries: how
    much the machine drifted while measuring, by which `benchmark compare` tells noise from a change.
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
    """How many queries at the least, and for how many seconds."""
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
    """Call `query(i)` at least `queries` times and for at least `seconds`, after a warm-up.

    Returns each call's milliseconds and the calls a second. What the timer itself costs: `timer_ns`.
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
    """Median nanoseconds that an empty query takes in `measure`: what every figure of it holds too much."""
    times, _ = measure(lambda i: None, 2000, 0, "timer", QUIET, clock)
    return float(np.median(times)) * 1e6


def summarise(milliseconds: Sequence[float], threads: int) -> Latency:
    """Percentiles by linear interpolation, sample standard deviation."""
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
    """To a tenth of a microsecond: the file is read by people too."""
    return tuple(round(float(ms), 4) for ms in milliseconds)
