"""`edge-ct classify`: what is done with each judgement, on the workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge_ct.classifier import Classifier, Result

from .judging import Found, Judges, Source, judge_each
from .names import printable
from .rollup import Tally

if TYPE_CHECKING:
    from .heatmap import Heat
    from .rows import Entry
    from .worklist import Worklist


class Recorded(Result, frozen=True):
    """A result that is on the disk, with its number in the worklist."""

    id: int


@dataclass(frozen=True, eq=False)
class Recording:
    """Where results are stored, and under what."""

    worklist: Worklist
    patient: str | None = None


def classify(
    judges: Judges,
    sources: Iterable[Source],
    tally: Tally,
    heatmaps: Path | None = None,
    budget: float = 2.0,
    recording: Recording | None = None,
) -> Iterator[Result]:
    """Judge sources, in order; with `recording`, each is on the disk before it is yielded, as `Recorded`.

    tally: counts them, and names their series where it has a name. heatmaps: a folder for pictures. budget: seconds for
    a heat map, at most, where the graph gives none.
    """

    def then(found: Found, classifier: Classifier) -> tuple[Found, Entry | None]:
        own = found.result
        source = printable(own.source)
        if tally.series or source is not own.source:
            own = msgspec.structs.replace(own, source=source, series=tally.series or own.series)
            found = replace(found, result=own)
        heat: Heat | None = None
        if heatmaps:
            from . import explanation, heatmap

            heat = explanation.heat_of(found, classifier, budget)
            heatmap.write(found, classifier.manifest.calibration, heatmaps, heat)
        entry = None
        if recording:
            entry = recording.worklist.entry(
                found,
                classifier.bundle,
                origin="classify",
                patient=recording.patient or found.patient,
                key=found.key,
                heat=heat,
            )
        # Pixels stay on the worker.
        return replace(found, slice=None, outputs=None), entry

    for batch in judge_each(judges, sources, then):
        entries = [entry for _, entry in batch if entry is not None]
        added = recording.worklist.add_all(entries) if recording else []
        for place, (found, _) in enumerate(batch):
            tally.add(found)
            yield Recorded(**_fields(found.result), id=added[place].row.id) if added else found.result


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


def _fields(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__struct_fields__}
