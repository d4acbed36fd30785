"""`edge-ct classify`: what is done with each judgement, on the workers, and what is counted of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from edge_ct.classifier import Classifier, Judgement, Result
from edge_ct.decision import Decision, SeriesVerdict, decide_series
from edge_ct.manifest import Manifest

from .judging import Judges, Source, judge_each
from .names import printable

if TYPE_CHECKING:
    from .heatmap import Heat
    from .rows import Entry
    from .worklist import Worklist

DECISIONS: tuple[Decision, ...] = ("positive", "refer", "negative", "rejected")


class Recorded(Result, frozen=True):
    """A result that is on the disk, with its number in the worklist."""

    id: int


class Series(msgspec.Struct, frozen=True):
    """What `classify --by series --json` prints: `SeriesVerdict`, and how many slices were rejected."""

    series: str
    decision: Decision
    probability: float | None
    reason: str | None
    slices: int
    positive_slices: int
    rejected_slices: int
    model: str


@dataclass(frozen=True, eq=False)
class Recording:
    """Where results are stored, and under what."""

    worklist: Worklist
    patient: str | None = None


@dataclass(eq=False)
class Tally:
    """Counts of a run. It holds a number a slice, so that memory stays flat."""

    counts: dict[Decision, int] = field(default_factory=lambda: dict.fromkeys(DECISIONS, 0))
    series: dict[str, list[float]] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    begun: float = field(default_factory=perf_counter)

    def add(self, result: Result) -> None:
        """Count a result."""
        self.counts[result.decision] += 1
        if result.series:
            probabilities = self.series.setdefault(result.series, [])
            if result.probability is not None:
                probabilities.append(result.probability)
            else:
                self.rejected[result.series] = self.rejected.get(result.series, 0) + 1

    def roll_up(self, manifest: Manifest, model: str) -> list[Series]:
        """Each series, in the order of its first slice."""
        return [
            _series(
                name, decide_series(own, manifest.operating_point, manifest.zone), self.rejected.get(name, 0), model
            )
            for name, own in self.series.items()
        ]

    def __str__(self) -> str:
        total, seconds = sum(self.counts.values()), perf_counter() - self.begun
        shown = ", ".join(f"{number} {name}" for name, number in self.counts.items())
        rate = f"{total / seconds:.1f} slices a second" if seconds > 0 else ""
        return f"{shown}. Research use only: triage, not a diagnosis. {rate}"


def classify(
    judges: Judges,
    sources: Iterable[Source],
    series: str | None = None,
    heatmaps: Path | None = None,
    budget: float = 2.0,
    recording: Recording | None = None,
) -> Iterator[Result]:
    """Judge sources, in order; with `recording`, each is on the disk before it is yielded, as `Recorded`.

    series: taken for all of them. heatmaps: a folder for pictures. budget: seconds for a heat map, at most, where the
    graph gives none.
    """

    def then(judgement: Judgement, classifier: Classifier) -> tuple[Result, Entry | None]:
        own = judgement.result
        source = printable(own.source)
        if series or source is not own.source:
            own = msgspec.structs.replace(own, source=source, series=series or own.series)
            judgement = Judgement(own, judgement.slice, judgement.outputs)
        heat: Heat | None = None
        if heatmaps:
            from . import explanation, heatmap

            heat = explanation.heat_of(judgement, classifier, budget)
            heatmap.write(judgement, classifier.manifest.calibration, heatmaps, heat)
        entry = None
        if recording:
            entry = recording.worklist.entry(
                judgement, classifier.bundle, origin="classify", patient=recording.patient, heat=heat
            )
        return judgement.result, entry

    for batch in judge_each(judges, sources, then):
        entries = [entry for _, entry in batch if entry is not None]
        added = recording.worklist.add_all(entries) if recording else []
        for place, (result, _) in enumerate(batch):
            yield Recorded(**_fields(result), id=added[place].row.id) if added else result


def csv_lines(results: Iterable[Result]) -> Iterator[str]:
    """A header, then a line a result."""
    from .tables import csv_line

    names = ("source", "decision", "probability", "reason", "series", "model", "decode_ms", "preprocess_ms",
             "inference_ms", "id")  # fmt: skip
    yield csv_line(names)
    for result in results:
        ms = result.ms
        yield csv_line(
            (result.source, result.decision, result.probability, result.reason, result.series, result.model, ms.decode,
             ms.preprocess, ms.inference, getattr(result, "id", None))
        )  # fmt: skip


def series_csv(rolled: Iterable[Series]) -> Iterator[str]:
    """A header, then a line a series."""
    from .tables import csv_line

    names = Series.__struct_fields__
    yield csv_line(names)
    yield from (csv_line([getattr(own, name) for name in names]) for own in rolled)


def counted(results: Iterable[Result], tally: Tally) -> Iterator[Result]:
    """Results as they pass, counted."""
    for result in results:
        tally.add(result)
        yield result


def _series(name: str, verdict: SeriesVerdict | None, rejected: int, model: str) -> Series:
    if verdict is None:
        return Series(name, "rejected", None, "no slice could be judged", 0, 0, rejected, model)
    return Series(
        name,
        verdict.decision,
        verdict.probability,
        verdict.reason,
        verdict.slices,
        verdict.positive_slices,
        rejected,
        model,
    )


def _fields(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__struct_fields__}
