"""`edge-ct classify`: what is done with each judgement, on the workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge_ct.classifier import Classifier, Result
from edge_ct.system.files import printable, write_bytes

from ..judging.judge import SliceJudgement
from ..judging.pool import Judges, judge_each
from ..judging.rollup import Tally
from ..judging.sources import Source

if TYPE_CHECKING:
    from ..heatmaps.heatmap import Heat
    from ..worklist.records import Entry
    from ..worklist.worklist import Worklist


class Recorded(Result, frozen=True, kw_only=True):
    """A result that is on the disk, with its number in the worklist."""

    id: int


@dataclass(frozen=True, eq=False)
class Recording:
    """Where results are stored, and under what."""

    worklist: Worklist
    patient: str | None = None


@dataclass(frozen=True, eq=False)
class Maps:
    """Heat maps as numbers, in the order of the slices that have one. What was rejected has none."""

    sources: list[str] = field(default_factory=list)
    heats: list[Heat] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """An archive of NumPy: `sources`, `methods`, and of each slice its evidence, float32 [h, w], as `0`, `1`, ...

        Calibrated log-odds of COVID-19, whose mean is the slice's where the method is `class map`.
        """
        arrays: dict[str, Any] = {str(number): heat.evidence for number, heat in enumerate(self.heats)}
        buffer = BytesIO()
        np.savez(buffer, sources=np.array(self.sources), methods=np.array([h.method for h in self.heats]), **arrays)
        write_bytes(path, buffer.getvalue())


def classify(
    judges: Judges,
    sources: Iterable[Source],
    tally: Tally,
    heatmaps: Path | None = None,
    budget: float = 2.0,
    recording: Recording | None = None,
    maps: Maps | None = None,
) -> Iterator[Result]:
    """Judge sources, in order; with `recording`, each is on the disk before it is yielded, as `Recorded`.

    tally: counts them, and names their series where it has a name. heatmaps: a folder for pictures. budget: seconds for
    a heat map, at most, where the graph gives none. maps: takes the maps as numbers.
    """

    def then(found: SliceJudgement, classifier: Classifier) -> tuple[SliceJudgement, Entry | None, Heat | None]:
        own = found.result
        source = printable(own.source)
        if tally.series or source is not own.source:
            own = msgspec.structs.replace(own, source=source, series=tally.series or own.series)
            found = replace(found, result=own)
        heat: Heat | None = None
        if heatmaps or maps is not None:
            from ..heatmaps import evidence

            heat = evidence.heat_of(found, classifier, budget)
        if heatmaps:
            from ..heatmaps import heatmap

            heatmap.write_heatmap(found, heat, heatmaps)
        entry = None
        if recording:
            from ..worklist.records import prepare_entry

            entry = prepare_entry(
                found,
                classifier.bundle,
                origin="classify",
                patient=recording.patient or found.patient,
                key=found.key,
                heat=heat,
            )
        # Pixels stay on the worker.
        return replace(found, slice=None, outputs=None), entry, heat

    for batch in judge_each(judges, sources, then):
        entries = [entry for _, entry, _ in batch if entry is not None]
        added = recording.worklist.add_all(entries) if recording else []
        for place, (found, _, heat) in enumerate(batch):
            tally.add(found)
            if maps is not None and heat is not None:
                maps.sources.append(found.result.source)
                maps.heats.append(heat)
            yield Recorded(**_fields(found.result), id=added[place].row.id) if added else found.result


def csv_lines(results: Iterable[Result]) -> Iterator[str]:
    """A header, then a line a result."""
    from edge_ct.system.csv_text import safe_csv_line

    names = ("source", "decision", "probability", "reason", "series", "model", "decode_ms", "preprocess_ms",
             "inference_ms", "id")  # fmt: skip
    yield safe_csv_line(names)
    for result in results:
        ms = result.ms
        yield safe_csv_line(
            (result.source, result.decision, result.probability, result.reason, result.series, result.model, ms.decode,
             ms.preprocess, ms.inference, getattr(result, "id", None))
        )  # fmt: skip


def _fields(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__struct_fields__}
