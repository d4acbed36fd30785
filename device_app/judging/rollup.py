"""Judged slices -> results of series and patients, and the counts of a run.

DICOM slices are grouped by their own identifiers, and by folder if they state none. A second copy of an instance is not
counted, as in `listen`. Other slices form a series only if the user names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from edge_ct.bundle import Bundle
from edge_ct.decision import Decision, SeriesVerdict, decide_series
from edge_ct.lesions import LesionAreas, pooled_share
from edge_ct.reporting.counts import count_of
from edge_ct.system.files import printable

if TYPE_CHECKING:
    from .judge import SliceJudgement
    from .series import JudgedFrame, SeriesResult

DECISIONS: tuple[Decision, ...] = ("positive", "refer", "negative", "rejected")


class SeriesSummary(msgspec.Struct, frozen=True):
    """One line of `classify --by series --json`.

    Attributes:
        series: Series instance UID; the folder of the slices if the objects state none; or the name that the user gave.
        rejected_slices: Number of slices that could not be judged.
        patient: Pseudonymised key of the patient (DICOM only, like all that follow).
        skipped: Number of readable slices that must not be judged, by reason; they are part of `rejected_slices`.
        thickness: Stated slice thickness in mm.
        gap: Median distance in mm between neighbouring slices that vote.
        notes: Remarks for the reader of the result.
        lesion_share: Share of the lungs that shows opacities, over all judged slices, 0 to 1; None if the bundle has no
            lesion map.
    """

    series: str
    decision: Decision
    probability: float | None
    reason: str | None
    slices: int
    positive_slices: int
    rejected_slices: int
    model: str
    patient: str | None = None
    study: str | None = None
    skipped: dict[str, int] = {}
    thickness: float | None = None
    gap: float | None = None
    notes: tuple[str, ...] = ()
    lesion_share: float | None = None


class PatientSummary(msgspec.Struct, frozen=True):
    """One line of `classify --by patient --json`: all slices of a patient's series together.

    Attributes:
        patient: Pseudonymised key; None if the objects name no patient, and then each study counts as a patient; each
            series, if the objects name no study either.
        lesion_share: Share of the lungs that shows opacities, over all judged slices, 0 to 1; None if the bundle has no
            lesion map.
        notes: Remarks for the reader of the result.
    """

    patient: str | None
    series: tuple[str, ...]
    decision: Decision
    probability: float | None
    reason: str | None
    slices: int
    positive_slices: int
    rejected_slices: int
    model: str
    lesion_share: float | None = None
    notes: tuple[str, ...] = ()


Summary = SeriesSummary | PatientSummary


class _Group(NamedTuple):
    """What the slices of one series have in common. folder: "" for objects that state a series UID."""

    patient: str
    study: str
    series: str
    folder: str

    @property
    def patient_key(self) -> tuple[str, ...]:
        """What the series of one patient have in common; objects that name nobody are never pooled over studies."""
        if self.patient:
            return (self.patient,)
        return ("", self.study) if self.study else ("", "", self.series, self.folder)


@dataclass(eq=False)
class Tally:
    """Counts of a run, and what its summaries need: a number for each slice, and its place in its series for DICOM.

    Attributes:
        key: Returns the key of the pseudonyms; called once, when the first patient is met.
        series: The series that all slices belong to, if the user names one.
        patient: The patient that all slices belong to, in clear, if the user names one.
        left_out: One line for each folder of which something was left out.
    """

    key: Callable[[], bytes]
    series: str | None = None
    patient: str | None = None
    counts: dict[Decision, int] = field(default_factory=lambda: dict.fromkeys(DECISIONS, 0))
    unread: int = 0
    left_out: list[str] = field(default_factory=list)
    begun: float = field(default_factory=perf_counter)
    _probabilities: list[float | None] = field(default_factory=list)
    _areas: list[LesionAreas] = field(default_factory=list)
    _frames: dict[_Group, list[JudgedFrame]] = field(default_factory=dict)
    _counted: set[tuple[_Group, str, str | None]] = field(default_factory=set)

    @property
    def has_judged(self) -> bool:
        """Whether any slice was judged, and not all of them rejected."""
        return any(probability is not None for probability in self._probabilities)

    def add(self, judgement: SliceJudgement) -> None:
        """Count a judgement."""
        self.counts[judgement.result.decision] += 1
        self.unread += not judgement.readable
        self._probabilities.append(judgement.result.probability)
        if judgement.areas is not None:
            self._areas.append(judgement.areas)
        if judgement.frame is None:
            return
        attributes = judgement.frame.attributes
        folder = "" if attributes.series else printable(str(Path(judgement.file).parent))
        group = _Group(self.patient or attributes.patient, attributes.study, attributes.series, folder)
        if attributes.instance:
            # An instance UID that comes again with other pixels is no copy: some exports give all slices the same UID.
            copy = (group, attributes.key, judgement.frame.row.sha256)
            if copy in self._counted:
                return
            self._counted.add(copy)
        self._frames.setdefault(group, []).append(judgement.frame)

    def all_series(self, bundle: Bundle) -> list[SeriesSummary]:
        """Summarise each series, in the order of first slices."""
        if self.series:
            return [self._summarise_named(self.series, bundle)]
        return [self._summarise_series(group, result, bundle) for group, result in self._concluded(bundle)]

    def all_patients(self, bundle: Bundle) -> list[PatientSummary]:
        """Summarise each patient of DICOM objects, in the order of first slices, or the patient that the user named."""
        together: dict[tuple[str, ...], list[tuple[_Group, SeriesResult]]] = {}
        for group, result in self._concluded(bundle):
            together.setdefault(group.patient_key, []).append((group, result))
        patients = [self._summarise_patient(key[0], parts, bundle) for key, parts in together.items()]
        if patients or not self.patient:
            return patients
        series = self._summarise_named(self.series or "", bundle)
        return [
            PatientSummary(
                self._pseudonym(self.patient),
                (self.series,) if self.series else (),
                *(getattr(series, name) for name in PatientSummary.__struct_fields__[2:]),
            )
        ]

    def _concluded(self, bundle: Bundle) -> Iterator[tuple[_Group, SeriesResult]]:
        if not self._frames:
            return
        from . import series

        yield from ((group, series.conclude(bundle.manifest, frames)) for group, frames in self._frames.items())

    @cached_property
    def _key(self) -> bytes:
        return self.key()

    def _pseudonym(self, patient: str) -> str | None:
        # Imported late: without DICOM it is not needed, and the cold start for a single picture is measured.
        from ..pseudonym import pseudonym

        return pseudonym(self._key, patient)

    def _summarise_series(self, group: _Group, result: SeriesResult, bundle: Bundle) -> SeriesSummary:
        verdict = result.verdict
        return SeriesSummary(
            group.series or group.folder,
            *_outcome(verdict, result.reason),
            _rejected_count(result),
            bundle.identity,
            self._pseudonym(group.patient),
            result.study,
            result.skipped,
            result.thickness,
            result.gap,
            result.notes,
            result.lesion_share,
        )

    def _summarise_patient(
        self, patient: str, parts: Sequence[tuple[_Group, SeriesResult]], bundle: Bundle
    ) -> PatientSummary:
        from . import series

        results = [result for _, result in parts]
        votes = [row.probability for result in results for row in result.rows]
        return PatientSummary(
            self._pseudonym(patient),
            tuple(group.series or group.folder for group, _ in parts),
            *_outcome(series.mean_verdict(bundle.manifest, votes), "no slice could be judged"),
            sum(map(_rejected_count, results)),
            bundle.identity,
            pooled_share(row.areas for result in results for row in result.rows),
            notes=tuple(dict.fromkeys(note for result in results for note in result.notes)),
        )

    def _summarise_named(self, name: str, bundle: Bundle) -> SeriesSummary:
        voting = [p for p in self._probabilities if p is not None]
        verdict = decide_series(voting, bundle.manifest.decision_rule)
        outcome = _outcome(verdict, "no slice could be judged")
        rejected, share = len(self._probabilities) - len(voting), pooled_share(self._areas)
        return SeriesSummary(name, *outcome, rejected, bundle.identity, lesion_share=share)

    def __str__(self) -> str:
        total, seconds = sum(self.counts.values()), perf_counter() - self.begun
        shown = ", ".join(f"{number} {name}" for name, number in self.counts.items())
        rate = f" {total / seconds:.1f} slices a second." if total > 1 and seconds > 0 else ""
        judged = f"{count_of(total, 'slice')} judged for COVID-19"
        return f"{judged}: {shown}.{rate} Research use only: triage, not a diagnosis."


def csv_table(kind: type[Summary], summaries: Sequence[Summary]) -> Iterator[str]:
    """Yield a CSV header and one line for each summary; lists are joined by semicolons."""
    from edge_ct.system.csv_text import safe_csv_line

    names = kind.__struct_fields__
    yield safe_csv_line(names)
    yield from (safe_csv_line([_cell(getattr(summary, name)) for name in names]) for summary in summaries)


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return "; ".join(f"{count} x {reason}" for reason, count in value.items())
    return "; ".join(value) if isinstance(value, tuple) else value


def _outcome(verdict: SeriesVerdict | None, reason: str | None) -> tuple[Decision, float | None, str | None, int, int]:
    """Return decision, probability, reason, slices, positive_slices."""
    if verdict is None:
        return "rejected", None, reason, 0, 0
    return verdict.decision, verdict.probability, verdict.reason, verdict.slices, verdict.positive_slices


def _rejected_count(result: SeriesResult) -> int:
    return sum(row.probability is None for row in result.rows)
