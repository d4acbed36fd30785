"""Two measurements, side by side: what changed, and whether the machine's own unrest explains it.

A distribution is stored with the medians of twenty consecutive blocks of its queries. Resampling the blocks of both
measurements gives a 99 % interval of the ratio of their medians. A change counts where that interval leaves 1 out, and
is a regression where the ratio, too, is past the tolerance. Between two processes a machine may differ by more than
within one: what is closer than the tolerance is never called a regression. Sizes and memory have no distribution and go
by the tolerance alone.
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
# Fewer blocks than that do not tell noise from a change.
_FEWEST = 5
Verdict = Literal["regression", "worse", "same", "better"]


class Change(msgspec.Struct, frozen=True):
    """One measure of both. ratio: after / before; low, high: its 99 % interval, None where there is no distribution.

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
    """tolerance: per cent. notes: what makes the two hard to compare."""

    tolerance: float
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The changes past the tolerance."""
        return tuple(change for change in self.changes if change.verdict == "regression")


def read(path: Path) -> dict[str, Benchmark]:
    """What `benchmark --json` or `benchmark report` wrote: name of the model without its seal -> measurement.

    Raises `EdgeCTError` for anything else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EdgeCTError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        fields = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        if "subjects" in fields:
            rows = msgspec.json.decode(fields["subjects"], type=list[dict[str, msgspec.Raw]])
            found = [msgspec.json.decode(row["benchmark"], type=Benchmark | None) for row in rows]
        else:
            found = [msgspec.json.decode(content, type=Benchmark)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError) as error:
        raise EdgeCTError(f"{path}: not what edge-ct benchmark --json or report writes: {error}") from error
    measured = {own.model.partition("@")[0]: own for own in found if own is not None}
    if not measured:
        raise EdgeCTError(f"{path}: holds no measurement")
    return measured


def compare(before: dict[str, Benchmark], after: dict[str, Benchmark], tolerance: float) -> Comparison:
    """Compare the models that both hold; where each holds one, those two, whatever they are called.

    tolerance: how much worse, in per cent, is no regression. Raises `EdgeCTError` where no model is in both.
    """
    notes = []
    if len(before) == len(after) == 1:
        pairs = [(next(iter(after)), *before.values(), *after.values())]
        if before.keys() != after.keys():
            notes.append(f"two models: {next(iter(before))} before, {next(iter(after))} after")
    else:
        pairs = [(name, before[name], after[name]) for name in before if name in after]
        for word, extra in (("before", before.keys() - after.keys()), ("after", after.keys() - before.keys())):
            if extra:
                notes.append(f"only {word}: {', '.join(sorted(extra))}")
    if not pairs:
        raise EdgeCTError("no model is in both measurements")
    changes: list[Change] = []
    for name, old, new in pairs:
        notes += [f"{name}: {note}" for note in _unlike(old, new)]
        changes += _changes(name, old, new, tolerance / 100)
    return Comparison(tolerance, tuple(changes), tuple(dict.fromkeys(notes)))


def enforce(comparison: Comparison) -> None:
    """Raise `GateFailed` where something is worse by more than allowed."""
    if comparison.regressions:
        worst = max(comparison.regressions, key=lambda change: change.ratio)
        raise GateFailed(
            f"{len(comparison.regressions)} regressions past {comparison.tolerance:g} %; the largest: {worst.model}, "
            f"{worst.measure} {worst.before:g} before, {worst.after:g} after ({100 * (worst.ratio - 1):+.1f} %)"
        )


def ratio_interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """99 % bootstrap interval of median(after) / median(before), of blocks; the same on every call."""
    generator = np.random.default_rng(0)
    medians = [
        np.median(np.asarray(own)[generator.integers(0, len(own), (RESAMPLES, len(own)))], axis=1)
        for own in (before, after)
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
    if not pairs:  # measurements of earlier versions
        yield "model_only", old.model_only, new.model_only
        yield "end_to_end", old.end_to_end, new.end_to_end
    for first, second in pairs:
        said = f" ({first.threads} threads)" if first.threads > 1 else ""
        yield f"model_only{said}", first.model_only, second.model_only
        yield f"end_to_end{said}", first.end_to_end, second.end_to_end


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


def _unlike(old: Benchmark, new: Benchmark) -> Iterator[str]:
    for field in ("cpu", "cores", "architecture", "governor", "python", "runtime"):
        first, second = getattr(old.machine, field), getattr(new.machine, field)
        if first != second:
            yield f"another machine or software: {field} was {first}, is {second}"
    for field in ("slices", "device"):
        first, second = getattr(old, field), getattr(new, field)
        if first != second:
            yield f"measured on {first} before, on {second} after"
    if old.quick or new.quick:
        yield "a quick measurement: too few queries for a report"
    for word, own in (("before", old), ("after", new)):
        if not own.model_only.block_p50s:
            yield f"no blocks of queries {word}: noise cannot be told from a change"
