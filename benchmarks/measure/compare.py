"""Compare two measurements: what changed, and whether noise of the machine explains it.

A latency distribution is stored with the medians of twenty consecutive blocks of queries. Resampling the blocks of both
measurements gives a 99 % interval of the ratio of their medians. A change counts if that interval excludes 1, and is a
regression if the ratio also exceeds the tolerance: two processes on one machine can differ by more than the blocks of
one process do. Sizes and memory have no distribution, so the tolerance alone decides for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from edge_ct.errors import EdgeCTError, GateFailed

from .bundle import Benchmark
from .timing import Latency

RESAMPLES = 4000
# With fewer blocks, noise cannot be told from a change.
_FEWEST = 5
Verdict = Literal["regression", "worse", "same", "better"]


class Change(msgspec.Struct, frozen=True):
    """One quantity in both measurements.

    Attributes:
        model: Name of the model.
        measure: Name of the quantity.
        before: Value in the first measurement.
        after: Value in the second one.
        ratio: `after` divided by `before`.
        low: Lower end of the ratio's 99 % interval; None if there is no distribution. `high` is the upper end.
        verdict: `worse` is a change beyond noise that the tolerance allows.
    """

    model: str
    measure: str
    before: float
    after: float
    ratio: float
    low: float | None
    high: float | None
    verdict: Verdict


class Comparison(msgspec.Struct, frozen=True):
    """All changes between two measurements.

    Attributes:
        tolerance: Per cent by which a quantity may become worse.
        changes: One entry a model and quantity.
        notes: Differences that make the two measurements hard to compare.
    """

    tolerance: float
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """Changes for the worse that exceed the tolerance."""
        return tuple(change for change in self.changes if change.verdict == "regression")


def read(path: Path) -> dict[str, Benchmark]:
    """Read a file of `benchmark --json`, or the report.json of `benchmark report`.

    Returns:
        Name of each model, without its seal -> measurement.

    Raises:
        EdgeCTError: The file is neither, or holds no measurement.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EdgeCTError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        fields = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        if "subjects" in fields:
            rows = msgspec.json.decode(fields["subjects"], type=list[dict[str, msgspec.Raw]])
            benchmarks = [msgspec.json.decode(row["benchmark"], type=Benchmark | None) for row in rows]
        else:
            benchmarks = [msgspec.json.decode(content, type=Benchmark)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError) as error:
        raise EdgeCTError(f"{path}: not a file of `edge-ct benchmark --json` or a report.json: {error}") from error
    measured = {benchmark.model.partition("@")[0]: benchmark for benchmark in benchmarks if benchmark is not None}
    if not measured:
        raise EdgeCTError(f"{path}: holds no measurement; every model of the report failed")
    return measured


def compare(before: dict[str, Benchmark], after: dict[str, Benchmark], tolerance: float) -> Comparison:
    """Compare the models that are in both measurements; if each has one model, these two, whatever their names.

    Args:
        before: The first measurement, as `read` returns it.
        after: The second one.
        tolerance: Per cent by which a quantity may become worse without being a regression.

    Raises:
        EdgeCTError: No model is in both.
    """
    notes = []
    if len(before) == len(after) == 1:
        pairs = [(next(iter(after)), next(iter(before.values())), next(iter(after.values())))]
        if before.keys() != after.keys():
            notes.append(f"the models have different names: {next(iter(before))} before, {next(iter(after))} after")
    else:
        pairs = [(name, before[name], after[name]) for name in before if name in after]
        for word, extra in (("before", before.keys() - after.keys()), ("after", after.keys() - before.keys())):
            if extra:
                notes.append(f"only {word}: {', '.join(sorted(extra))}")
    if not pairs:
        raise EdgeCTError("no model is in both measurements; compare measurements of the same models")
    changes: list[Change] = []
    for name, old, new in pairs:
        notes += [f"{name}: {note}" for note in _differences(old, new)]
        changes += _changes(name, old, new, tolerance / 100)
    return Comparison(tolerance, tuple(changes), tuple(dict.fromkeys(notes)))


def enforce(comparison: Comparison) -> None:
    """Raise `GateFailed` if there is a regression."""
    if comparison.regressions:
        worst = max(comparison.regressions, key=lambda change: change.ratio)
        raise GateFailed(
            f"{len(comparison.regressions)} regressions past {comparison.tolerance:g} %; the largest is {worst.model}, "
            f"{worst.measure} {worst.before:g} before, {worst.after:g} after ({100 * (worst.ratio - 1):+.1f} %)"
        )


def ratio_interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Return a 99 % bootstrap interval of median(after) / median(before); the same on every call.

    Args:
        before: Medians of blocks of queries.
        after: The same of the second measurement.
    """
    generator = np.random.default_rng(0)
    medians = [
        np.median(np.asarray(blocks)[generator.integers(0, len(blocks), (RESAMPLES, len(blocks)))], axis=1)
        for blocks in (before, after)
    ]
    low, high = np.percentile(medians[1] / medians[0], [0.5, 99.5])
    return float(low), float(high)


def _changes(name: str, old: Benchmark, new: Benchmark, tolerance: float) -> Iterator[Change]:
    for label, first, second in _distributions(old, new):
        for measure, blocks in (("p50_ms", "block_p50s"), ("p90_ms", "block_p90s")):
            values = getattr(first, measure), getattr(second, measure)
            yield _change(
                name, f"{label} {measure}", values, (getattr(first, blocks), getattr(second, blocks)), tolerance
            )
    starts = old.cold_starts_ms, new.cold_starts_ms
    yield _change(name, "cold_start_ms", (old.cold_start_ms, new.cold_start_ms), starts, tolerance)
    for measure in ("peak_rss_mb", "bytes"):
        yield _change(name, measure, (getattr(old, measure), getattr(new, measure)), None, tolerance)


def _distributions(old: Benchmark, new: Benchmark) -> Iterator[tuple[str, Latency, Latency]]:
    rows = {row.threads: row for row in old.by_threads}
    pairs = [(rows[row.threads], row) for row in new.by_threads if row.threads in rows]
    if not pairs:  # a measurement of an earlier version has no `by_threads`
        yield "model_only", old.model_only, new.model_only
        yield "end_to_end", old.end_to_end, new.end_to_end
    for first, second in pairs:
        suffix = f" ({first.threads} threads)" if first.threads > 1 else ""
        yield f"model_only{suffix}", first.model_only, second.model_only
        yield f"end_to_end{suffix}", first.end_to_end, second.end_to_end


def _change(
    name: str,
    measure: str,
    values: tuple[float, float],
    blocks: tuple[Sequence[float], Sequence[float]] | None,
    tolerance: float,
) -> Change:
    before, after = values
    ratio = after / before if before else 1.0
    low = high = None
    if blocks and min(map(len, blocks)) >= _FEWEST and min(map(min, blocks)) > 0:
        low, high = ratio_interval(*blocks)
    verdict: Verdict = "same"
    if low is not None and high is not None and low <= 1 <= high:
        verdict = "same"
    elif ratio > 1 + tolerance:
        verdict = "regression"
    elif ratio > 1:
        verdict = "worse"
    elif ratio < 1:
        verdict = "better"
    return Change(name, measure, before, after, ratio, low, high, verdict)


def _differences(old: Benchmark, new: Benchmark) -> Iterator[str]:
    for field in ("cpu", "cores", "architecture", "governor", "python", "runtime"):
        first, second = getattr(old.machine, field), getattr(new.machine, field)
        if first != second:
            yield f"different machine or software: {field} was {first} and is {second}"
    for field in ("slices", "device"):
        first, second = getattr(old, field), getattr(new, field)
        if first != second:
            yield f"different {field}: {first} before, {second} after"
    if old.quick or new.quick:
        yield "quick measurement: too few queries for a report"
    for word, benchmark in (("before", old), ("after", new)):
        if not benchmark.model_only.block_p50s:
            yield f"the measurement {word} has no blocks of queries: noise cannot be told from a change"
