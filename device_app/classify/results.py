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

from ..judging import worker
from ..judging.judge import SliceJudgement
from ..judging.pool import Judge, judge_each
from ..judging.rollup import Tally
from ..judging.sources import Source

if TYPE_CHECKING:
    from ..heatmaps.heatmap import Heat
    from ..worklist.records import Entry
    from ..worklist.worklist import Worklist


class Recorded(Result, frozen=True, kw_only=True):
    """A result that is on the disk.

    Attributes:
        id: Its number in the worklist.
    """

    id: int


@dataclass(frozen=True, eq=False)
class Recording:
    """Where results are stored.

    Attributes:
        patient: Identifier of the patient of all slices, in clear, if the user gives one.
    """

    worklist: Worklist
    patient: str | None = None


@dataclass(frozen=True, eq=False)
class Maps:
    """Heat maps as numbers, in the order of their slices. Rejected slices have none."""

    sources: list[str] = field(default_factory=list)
    heats: list[Heat] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write a NumPy archive: `sources`, `methods`, and the evidence of each slice, float32 [h, w], as `0`, `1`, ...

        The evidence is in calibrated log-odds of COVID-19; its mean is the log-odds of the slice if the method is
        `class map`.
        """
        arrays: dict[str, Any] = {str(number): heat.evidence for number, heat in enumerate(self.heats)}
        buffer = BytesIO()
        np.savez(buffer, sources=np.array(self.sources), methods=np.array([h.method for h in self.heats]), **arrays)
        write_bytes(path, buffer.getvalue())


@dataclass(frozen=True, eq=False)
class Prepared:
    """A judgement without its pixels, with what was made of them."""

    judgement: SliceJudgement
    entry: Entry | None
    heat: Heat | None


@dataclass(frozen=True)
class Preparation:
    """What is done with a judgement on its worker: naming, drawing, encoding.

    Attributes:
        series: Name of the series of all slices, if the user gives one.
        heatmaps: Folder for pictures of heat maps.
        budget: Seconds for a heat map of a network without class map.
        maps: True if heat maps are returned as numbers.
        record: True if results are stored in a worklist.
        patient: Identifier of the patient of all slices, if the user gives one.
    """

    series: str | None = None
    heatmaps: Path | None = None
    budget: float = 2.0
    maps: bool = False
    record: bool = False
    patient: str | None = None

    def __call__(self, judgement: SliceJudgement, classifier: Classifier) -> Prepared:
        result = judgement.result
        source = printable(result.source)
        if self.series or source is not result.source:
            result = msgspec.structs.replace(result, source=source, series=self.series or result.series)
            judgement = replace(judgement, result=result)
        heat: Heat | None = None
        if self.heatmaps or self.maps:
            from ..heatmaps import evidence

            heat = evidence.heat_of(judgement, classifier, self.budget)
        if self.heatmaps:
            from ..heatmaps import heatmap

            heatmap.write_heatmap(judgement, heat, self.heatmaps)
        entry = None
        if self.record:
            from ..worklist.records import prepare_entry

            patient = self.patient or judgement.patient
            entry = prepare_entry(
                judgement, classifier.bundle, origin="classify", patient=patient, key=judgement.key, heat=heat
            )
        return Prepared(replace(judgement, slice=None, outputs=None), entry, heat if self.maps else None)


def classify(
    judge: Judge,
    sources: Iterable[Source],
    tally: Tally,
    heatmaps: Path | None = None,
    budget: float = 2.0,
    recording: Recording | None = None,
    maps: Maps | None = None,
) -> Iterator[Result]:
    """Judge sources, in order.

    Args:
        judge: The workers.
        sources: What to judge.
        tally: Counts the results.
        heatmaps: Folder for pictures of heat maps.
        budget: Seconds for a heat map of a network without class map.
        recording: Where results are stored; each is on the disk before it is yielded, as `Recorded`.
        maps: Takes the heat maps as numbers.
    """
    patient = recording.patient if recording else None
    preparation = Preparation(tally.series, heatmaps, budget, maps is not None, recording is not None, patient)
    seconds = worker.SECONDS + (budget if heatmaps or maps is not None else 0)
    for batch in judge_each(judge, sources, preparation, seconds):
        entries = [own.entry for own in batch if own.entry is not None]
        added = recording.worklist.add_all(entries) if recording else []
        for place, own in enumerate(batch):
            tally.add(own.judgement)
            if maps is not None and own.heat is not None:
                maps.sources.append(own.judgement.result.source)
                maps.heats.append(own.heat)
            result = own.judgement.result
            yield Recorded(**_fields(result), id=added[place].row.id) if added else result


def csv_lines(results: Iterable[Result]) -> Iterator[str]:
    """Yield the header of a CSV table, and one line for each result."""
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
