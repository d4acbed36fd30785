"""Frames -> judged slices -> the results of a series and of a patient.

A slice votes if it shows enough lung: neck and abdomen do not. Each slice is judged by itself, so that a series can be
judged while it arrives; what is left for its end is sorting and a mean.
"""

from __future__ import annotations

import hashlib
import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from edge_ct.classifier import Classifier, Judgement, Milliseconds, Result
from edge_ct.decision import Decision, SeriesVerdict, decide_series
from edge_ct.dicom import DicomIds, lung_window
from edge_ct.imaging import lungs
from edge_ct.manifest import Manifest
from edge_ct.slices import Slice

from .dicom_frames import Facts, order, why_skipped

# Share of the body's area. Of 25 slices of a real series, from above the shoulders to the hilum: none in those above
# the lungs and at their tips, which are too small to be told from an airway; 0.076 below the tips; 0.09 to 0.4 lower.
LEAST_LUNG = 0.07
# Median grey of a lung field: gas in the trachea, the stomach or the bowel is darker than the emptiest lung.
_GAS = int(lung_window(np.array([-960.0]))[0])


class Row(msgspec.Struct, frozen=True):
    """A slice in a result. decision: None where it was skipped, and `reason` says why.

    lung: share of the body's area, None where the pixels were not looked at. along: mm on the body's axis.
    """

    instance: str
    frame: int
    along: float | None
    decision: Decision | None
    probability: float | None
    reason: str | None
    lung: float | None
    sha256: str | None


@dataclass(frozen=True, eq=False)
class Judged:
    """A frame with what became of it. class_map: float32 [h, w, 2] of a slice that votes.

    judgement: what the slice is by itself; None where that is not kept.
    """

    facts: Facts
    row: Row
    judgement: Judgement | None = None
    class_map: np.ndarray | None = None

    @property
    def skipped(self) -> bool:
        """Whether it was read, as far as need be, and is none to judge."""
        return self.row.decision is None


class SeriesResult(msgspec.Struct, frozen=True):
    """A series. verdict: None where no slice votes, and `reason` says why. skipped: reason -> how many frames.

    thickness: mm, as stated; gap: mm, the median distance of neighbours that vote.
    """

    study: str
    series: str
    verdict: SeriesVerdict | None
    reason: str | None
    rows: tuple[Row, ...]
    skipped: dict[str, int]
    thickness: float | None
    gap: float | None
    notes: tuple[str, ...]

    @property
    def decision(self) -> Decision:
        return self.verdict.decision if self.verdict else "rejected"

    @property
    def digest(self) -> str:
        """Of the frames that the result rests on: a series that has grown has another one."""
        return hashlib.sha256(" ".join(sorted(f"{row.instance}#{row.frame}" for row in self.rows)).encode()).hexdigest()


def judge_skipped(classifier: Classifier, facts: Facts, source: str) -> Judged:
    """A frame that its header rules out; its pixels need not be read."""
    return _not_judged(classifier, facts, source, why_skipped(facts) or "skipped")


def judge_pixels(
    classifier: Classifier, facts: Facts, pixels: np.ndarray, source: str, decode_ms: float | None = None
) -> Judged:
    """Judge one frame. pixels: uint8 [h, w]; decode_ms: what reading them took."""
    reason = why_skipped(facts)
    if reason:
        return _not_judged(classifier, facts, source, reason)
    found = lungs.segment(pixels)
    reason = no_lung(pixels, found)
    one = Slice(pixels, source, DicomIds(facts.patient, facts.study, facts.series, facts.instance))
    if reason:
        return _not_judged(classifier, facts, source, reason, found.share, one, decode_ms)
    judgement = classifier.judge_slice(one, decode_ms)
    result, outputs = judgement.result, judgement.outputs
    row = Row(
        facts.instance, facts.frame, facts.along, result.decision, result.probability, result.reason, found.share,
        one.sha256,
    )  # fmt: skip
    class_map = None if outputs is None or outputs.class_map is None else outputs.class_map.copy()
    return Judged(facts, row, judgement, class_map)


def unreadable(classifier: Classifier, facts: Facts, source: str, reason: str) -> Judged:
    """A frame whose pixels cannot be read: rejected, and it does not vote."""
    judged = _not_judged(classifier, facts, source, reason)
    return replace(judged, row=msgspec.structs.replace(judged.row, decision="rejected"))


def no_lung(pixels: np.ndarray, found: lungs.Lungs) -> str | None:
    """Why a slice has too little lung to vote; None where it has enough."""
    if found.share < LEAST_LUNG:
        return "too little lung in it"
    if np.median(pixels[found.mask]) < _GAS:
        return "gas in it, and no lung"
    return None


def conclude(classifier: Classifier, judged: Iterable[Judged]) -> SeriesResult:
    """The result of one series from its frames, in any order; there must be one at least."""
    frames = sorted(judged, key=lambda one: order(one.facts))
    rows = tuple(one.row for one in frames)
    voting = [row for row in rows if row.probability is not None]
    verdict = mean_verdict(classifier.manifest, (row.probability for row in rows))
    skipped = Counter(str(row.reason) for row in rows if row.decision is None)
    facts = frames[0].facts
    reason = verdict.reason if verdict else _why_none(rows, skipped)
    return SeriesResult(
        facts.study,
        facts.series,
        verdict,
        reason,
        rows,
        dict(skipped),
        _thickness(frames),
        _gap(voting),
        _notes(frames),
    )


def telling(judged: Iterable[Judged], count: int) -> list[Judged]:
    """The slices that tell most: the most suspicious of those that vote."""
    voting = [one for one in judged if one.row.probability is not None]
    return sorted(voting, key=lambda one: (-_number(one.row.probability), order(one.facts)))[:count]


def mean_verdict(manifest: Manifest, probabilities: Iterable[float | None]) -> SeriesVerdict | None:
    """The mean of the slices that vote decides, of a series and of all series of a patient. None: without a vote."""
    return decide_series([p for p in probabilities if p is not None], manifest.operating_point, manifest.zone)


def _not_judged(
    classifier: Classifier,
    facts: Facts,
    source: str,
    reason: str,
    lung: float | None = None,
    one: Slice | None = None,
    decode_ms: float | None = None,
) -> Judged:
    """A frame that is skipped: in its series a row without a decision, by itself a rejected slice."""
    row = Row(facts.instance, facts.frame, facts.along, None, None, reason, lung, None)
    times = Milliseconds(decode_ms)
    result = Result(source, "rejected", None, reason, facts.series, classifier.identity, times)
    return Judged(facts, row, Judgement(result, one))


def _why_none(rows: Sequence[Row], skipped: Counter[str]) -> str:
    rejected = [row for row in rows if row.decision == "rejected"]
    if rejected:
        return f"no slice could be judged; {len(rejected)} of {len(rows)} cannot be read: {rejected[0].reason}"
    reason, count = skipped.most_common(1)[0]
    return f"no slice to judge among {len(rows)}: {count} x {reason}"


def _thickness(frames: Sequence[Judged]) -> float | None:
    stated = [one.facts.thickness for one in frames if one.facts.thickness]
    return statistics.median(stated) if stated else None


def _gap(voting: Sequence[Row]) -> float | None:
    places = sorted({row.along for row in voting if row.along is not None})
    gaps = [after - before for before, after in itertools.pairwise(places)]
    return round(statistics.median(gaps), 3) if gaps else None


def _notes(frames: Sequence[Judged]) -> tuple[str, ...]:
    """What a reader of the result should know of the series."""
    notes = []
    voting = [one for one in frames if one.row.probability is not None]
    places: list[Any] = [one.facts.along for one in voting if one.facts.along is not None]
    if len(places) < len(voting):
        notes.append(f"{len(voting) - len(places)} slices without a position")
    if len(set(places)) < len(places):
        notes.append(f"{len(places) - len(set(places))} slices at the position of another")
    thickness = _thickness(voting)
    if thickness and thickness > 5:
        notes.append(f"slices {thickness:g} mm thick")
    if any(one.facts.lossy for one in voting):
        notes.append("lossy compression")
    if any(one.facts.photometric == "MONOCHROME1" for one in voting):
        notes.append("MONOCHROME1")
    return tuple(notes)


def _number(value: float | None) -> float:
    return -1.0 if value is None or value != value else value
