"""Frames -> judged slices -> the result of a series.

A slice votes if it shows enough lung, which slices of the neck and the abdomen do not. Each slice is judged by itself,
so that a series can be judged while it arrives; sorting and averaging are left for its end.
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
from edge_ct.imaging.lung_box import Box
from edge_ct.lesions import LesionAreas, pooled_share
from edge_ct.manifest import Manifest
from edge_ct.reporting.counts import count_of
from edge_ct.slices import Slice

from .dicom_frames import FrameAttributes, acquisition_order, reason_to_skip

# Share of the body's area. Provisional, from 25 slices of one real series between the shoulders and the hilum: 0 above
# the lungs and at their tips, which are too small to be told from an airway; 0.076 below the tips; 0.09 to 0.4 lower.
LEAST_LUNG = 0.07
# Median grey level of a lung field: gas in the trachea, the stomach or the bowel is darker than the emptiest lung.
_GAS = int(lung_window(np.array([-960.0]))[0])
# Fat and soft tissue are brighter than the fullest lung: in slices of eight sources the median is at most -460 HU.
_NO_LUNG = int(lung_window(np.array([-400.0]))[0])


class FrameRow(msgspec.Struct, frozen=True):
    """One slice in the result of a series.

    Attributes:
        along: Position on the body axis in mm.
        decision: None if the slice was skipped; `reason` says why.
        lung: Lung area as a share of the body area; None if the pixels were not decoded.
        sha256: Identity of the pixels; None if they were not decoded.
        areas: Areas of the lungs and of the opacities in them; None if they were not measured.
    """

    instance: str
    frame: int
    along: float | None
    decision: Decision | None
    probability: float | None
    reason: str | None
    lung: float | None
    sha256: str | None
    areas: LesionAreas | None = None


@dataclass(frozen=True, eq=False)
class JudgedFrame:
    """A frame with its judgement.

    Attributes:
        judgement: The judgement of the slice by itself; None once it has been stored.
        class_map: float32 [h, w, 2] of a slice that votes.
        lesion_map: Logits, float32 [h, w], of a slice that votes.
        region: The part of the slice that both maps are of; None for the whole slice.
    """

    attributes: FrameAttributes
    row: FrameRow
    judgement: Judgement | None = None
    class_map: np.ndarray | None = None
    lesion_map: np.ndarray | None = None
    region: Box | None = None

    @property
    def skipped(self) -> bool:
        """True if the frame was readable but must not be judged."""
        return self.row.decision is None


class SeriesResult(msgspec.Struct, frozen=True):
    """The result of one series.

    Attributes:
        verdict: None if no slice votes; `reason` says why.
        skipped: Number of skipped frames by reason.
        thickness: Stated slice thickness in mm (median).
        gap: Median distance in mm between neighbouring slices that vote.
        notes: Remarks for the reader of the result.
        lesion_share: Share of the lungs that shows opacities, over all slices that vote, 0 to 1; None if the bundle
            has no lesion map.
    """

    study: str
    series: str
    verdict: SeriesVerdict | None
    reason: str | None
    rows: tuple[FrameRow, ...]
    skipped: dict[str, int]
    thickness: float | None
    gap: float | None
    notes: tuple[str, ...]
    lesion_share: float | None = None

    @property
    def decision(self) -> Decision:
        """The decision; a series in which no slice votes is rejected."""
        return self.verdict.decision if self.verdict else "rejected"

    @property
    def digest(self) -> str:
        """SHA-256 over the frames that the result rests on; it changes when the series grows."""
        return hashlib.sha256(" ".join(sorted(f"{row.instance}#{row.frame}" for row in self.rows)).encode()).hexdigest()


def judge_skipped(classifier: Classifier, attributes: FrameAttributes, source: str) -> JudgedFrame:
    """Return the row of a frame that its header rules out; its pixels are not needed."""
    return _not_judged(classifier, attributes, source, reason_to_skip(attributes) or "skipped")


def judge_pixels(
    classifier: Classifier, attributes: FrameAttributes, pixels: np.ndarray, source: str, decode_ms: float | None = None
) -> JudgedFrame:
    """Judge one frame.

    Args:
        classifier: The classifier.
        attributes: The attributes of the frame.
        pixels: uint8 [h, w], lung window.
        source: The name under which the frame is reported.
        decode_ms: Time in ms that decoding took.
    """
    reason = reason_to_skip(attributes)
    if reason:
        return _not_judged(classifier, attributes, source, reason)
    lung_fields = lungs.segment(pixels)
    reason = reason_without_lung(pixels, lung_fields)
    slice_ = Slice(
        pixels, source, DicomIds(attributes.patient, attributes.study, attributes.series, attributes.instance)
    )
    if reason:
        return _not_judged(classifier, attributes, source, reason, lung_fields.share, slice_, decode_ms)
    judgement = classifier.judge_slice(slice_, decode_ms, lung_found=True)
    result, outputs = judgement.result, judgement.outputs
    row = FrameRow(
        attributes.instance,
        attributes.frame,
        attributes.along,
        result.decision,
        result.probability,
        result.reason,
        lung_fields.share,
        slice_.sha256,
        judgement.areas,
    )
    class_map = None if outputs is None or outputs.class_map is None else outputs.class_map.copy()
    lesion_map = None if outputs is None or outputs.lesion_map is None else outputs.lesion_map.copy()
    return JudgedFrame(attributes, row, judgement, class_map, lesion_map, judgement.region)


def judge_unreadable(classifier: Classifier, attributes: FrameAttributes, source: str, reason: str) -> JudgedFrame:
    """Return the row of a frame whose pixels cannot be read: it is rejected and does not vote."""
    judged = _not_judged(classifier, attributes, source, reason)
    return replace(judged, row=msgspec.structs.replace(judged.row, decision="rejected"))


def reason_without_lung(pixels: np.ndarray, lung_fields: lungs.Lungs) -> str | None:
    """Return why a slice has too little lung to vote; None if it has enough."""
    if lung_fields.share < LEAST_LUNG:
        return "too little lung in it"
    median = np.median(pixels[lung_fields.mask])
    if median < _GAS:
        return "gas in it, and no lung"
    if median > _NO_LUNG:
        return "no lung in it: its darker parts are denser than lung"
    return None


def conclude(manifest: Manifest, judged: Iterable[JudgedFrame]) -> SeriesResult:
    """Return the result of one series from its frames, at least one, in any order."""
    frames = sorted(judged, key=lambda frame: acquisition_order(frame.attributes))
    rows = tuple(frame.row for frame in frames)
    voting = [row for row in rows if row.probability is not None]
    verdict = mean_verdict(manifest, (row.probability for row in rows))
    skipped = Counter(str(row.reason) for row in rows if row.decision is None)
    attributes = frames[0].attributes
    reason = verdict.reason if verdict else _reason_without_verdict(rows, skipped)
    return SeriesResult(
        attributes.study,
        attributes.series,
        verdict,
        reason,
        rows,
        dict(skipped),
        _thickness(frames),
        _gap(voting),
        _notes(frames),
        pooled_share(row.areas for row in rows),
    )


def most_suspicious(judged: Iterable[JudgedFrame], count: int) -> list[JudgedFrame]:
    """Return the `count` most suspicious slices of those that vote."""
    voting = [frame for frame in judged if frame.row.probability is not None]
    return sorted(voting, key=lambda frame: (-_sortable(frame.row.probability), acquisition_order(frame.attributes)))[
        :count
    ]


def mean_verdict(manifest: Manifest, probabilities: Iterable[float | None]) -> SeriesVerdict | None:
    """Decide by the mean probability of the slices that vote; None if there is none."""
    return decide_series([p for p in probabilities if p is not None], manifest.decision_rule)


def _not_judged(
    classifier: Classifier,
    attributes: FrameAttributes,
    source: str,
    reason: str,
    lung: float | None = None,
    slice_: Slice | None = None,
    decode_ms: float | None = None,
) -> JudgedFrame:
    """Return a skipped frame: a row without a decision in its series, a rejected slice by itself."""
    sha256 = slice_.sha256 if slice_ else None
    row = FrameRow(attributes.instance, attributes.frame, attributes.along, None, None, reason, lung, sha256)
    times = Milliseconds(decode_ms)
    result = Result(source, "rejected", None, reason, attributes.series, classifier.identity, times)
    return JudgedFrame(attributes, row, Judgement(result, slice_))


def _reason_without_verdict(rows: Sequence[FrameRow], skipped: Counter[str]) -> str:
    rejected = [row for row in rows if row.decision == "rejected"]
    if rejected:
        return f"no slice could be judged; {len(rejected)} of {len(rows)} cannot be read: {rejected[0].reason}"
    reason, count = skipped.most_common(1)[0]
    return f"no slice to judge among {len(rows)}: {count} x {reason}"


def _thickness(frames: Sequence[JudgedFrame]) -> float | None:
    stated = [frame.attributes.thickness for frame in frames if frame.attributes.thickness]
    return statistics.median(stated) if stated else None


def _gap(voting: Sequence[FrameRow]) -> float | None:
    places = sorted({row.along for row in voting if row.along is not None})
    gaps = [after - before for before, after in itertools.pairwise(places)]
    return round(statistics.median(gaps), 3) if gaps else None


def _notes(frames: Sequence[JudgedFrame]) -> tuple[str, ...]:
    """Return remarks on the series for the reader of its result."""
    notes = _notes_on_identity(frames)
    voting = [frame for frame in frames if frame.row.probability is not None]
    places: list[Any] = [frame.attributes.along for frame in voting if frame.attributes.along is not None]
    if len(places) < len(voting):
        notes.append(f"{count_of(len(voting) - len(places), 'slice')} without a position")
    if len(set(places)) < len(places):
        notes.append(f"{count_of(len(places) - len(set(places)), 'slice')} at the position of another")
    thickness = _thickness(voting)
    if thickness and thickness > 5:
        notes.append(f"slices {thickness:g} mm thick")
    if any(frame.attributes.lossy for frame in voting):
        notes.append("lossy compression")
    if any(frame.attributes.photometric == "MONOCHROME1" for frame in voting):
        notes.append("MONOCHROME1")
    return tuple(notes)


def _notes_on_identity(frames: Sequence[JudgedFrame]) -> list[str]:
    """Return remarks on identifiers that the objects of a series lack, or share."""
    attributes, notes = frames[0].attributes, []
    identifiers = (
        ("patient ID", attributes.patient),
        ("study UID", attributes.study),
        ("series UID", attributes.series),
    )
    missing = ", ".join(name for name, value in identifiers if not value)
    if not attributes.series:
        notes.append(f"{missing} missing: the slices of each folder are taken as a series")
    elif not attributes.study and not attributes.patient:
        notes.append(f"{missing} missing: each series is taken as a patient")
    times = Counter(frame.attributes.key for frame in frames if frame.attributes.instance)
    shared = sum(count for count in times.values() if count > 1)
    if shared:
        notes.append(f"{shared} slices share an instance UID with another")
    return notes


def _sortable(value: float | None) -> float:
    return -1.0 if value is None or value != value else value
