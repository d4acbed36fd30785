"""Judged slices -> results of series and patients, and counts of a run.

DICOM says whose slice is whose: its series are sorted, and a second copy of an instance votes once, as in `listen`.
Other slices are a series only where somebody gives it a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from edge_ct.classifier import Classifier
from edge_ct.decision import Decision, SeriesVerdict, decide_series

if TYPE_CHECKING:
    from .judge import Found
    from .series import Judged, SeriesResult

DECISIONS: tuple[Decision, ...] = ("positive", "refer", "negative", "rejected")


class Series(msgspec.Struct, frozen=True):
    """What `classify --by series --json` prints: `SeriesVerdict`, and how many slices were rejected.

    Of DICOM also, else empty: patient, its pseudonymised key; skipped, reason -> how many of the rejected were readable
    and none to judge; thickness and gap in mm, as `SeriesResult` has them.
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


class Patient(msgspec.Struct, frozen=True):
    """What `classify --by patient --json` prints: all slices of a patient's series together.

    patient: the pseudonymised key; None where the objects name nobody, and then each study stands for a patient.
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


Rolled = Series | Patient


@dataclass(eq=False)
class Tally:
    """Counts of a run, and what its roll-ups need: of a slice a number, of a DICOM slice its place too; no pixels.

    key: gives that of the pseudonyms; asked once, where there is a patient. series: taken for all slices. patient:
    whose all slices are, in clear.
    """

    key: Callable[[], bytes]
    series: str | None = None
    patient: str | None = None
    counts: dict[Decision, int] = field(default_factory=lambda: dict.fromkeys(DECISIONS, 0))
    unread: int = 0
    begun: float = field(default_factory=perf_counter)
    _named: list[float | None] = field(default_factory=list)
    _frames: dict[tuple[str, str, str], list[Judged]] = field(default_factory=dict)
    _met: set[tuple[str, ...]] = field(default_factory=set)

    def add(self, found: Found) -> None:
        """Count a judgement."""
        self.counts[found.result.decision] += 1
        self.unread += not found.read
        self._named.append(found.result.probability)
        if found.frame is None:
            return
        facts = found.frame.facts
        group = (self.patient or facts.patient, facts.study, facts.series)
        if facts.instance:
            if (*group, facts.key) in self._met:
                return
            self._met.add((*group, facts.key))
        self._frames.setdefault(group, []).append(found.frame)

    def all_series(self, classifier: Classifier) -> list[Series]:
        """Each series, in the order of its first slice."""
        if self.series:
            return [_named(self.series, self._named, classifier)]
        return [self._one(patient, result, classifier) for patient, result in self._concluded(classifier)]

    def all_patients(self, classifier: Classifier) -> list[Patient]:
        """Each patient of DICOM objects, in the order of the first slice; of other slices the one that was named."""
        together: dict[tuple[str, str], list[SeriesResult]] = {}
        for patient, result in self._concluded(classifier):
            together.setdefault((patient, "" if patient else result.study), []).append(result)
        found = [self._patient(patient, results, classifier) for (patient, _), results in together.items()]
        if found or not self.patient:
            return found
        own = _named(self.series or "", self._named, classifier)
        return [
            Patient(
                self._pseudonym(self.patient), (self.series,) if self.series else (), own.decision,
                own.probability, own.reason, own.slices, own.positive_slices, own.rejected_slices, own.model,
            )
        ]  # fmt: skip

    def _concluded(self, classifier: Classifier) -> Iterator[tuple[str, SeriesResult]]:
        if not self._frames:
            return
        from . import series

        yield from ((key[0], series.conclude(classifier, frames)) for key, frames in self._frames.items())

    @cached_property
    def _key(self) -> bytes:
        return self.key()

    def _pseudonym(self, patient: str) -> str | None:
        # Not imported where nothing is DICOM: a cold start of a single picture is measured.
        from ..pseudonym import pseudonym

        return pseudonym(self._key, patient)

    def _one(self, patient: str, result: SeriesResult, classifier: Classifier) -> Series:
        verdict = result.verdict
        return Series(
            result.series,
            *_answer(verdict, result.reason),
            _rejected(result),
            classifier.identity,
            self._pseudonym(patient),
            result.study,
            result.skipped,
            result.thickness,
            result.gap,
            result.notes,
        )

    def _patient(self, patient: str, results: Sequence[SeriesResult], classifier: Classifier) -> Patient:
        from . import series

        votes = [row.probability for result in results for row in result.rows]
        return Patient(
            self._pseudonym(patient),
            tuple(result.series for result in results),
            *_answer(series.mean_verdict(classifier.manifest, votes), "no slice could be judged"),
            sum(map(_rejected, results)),
            classifier.identity,
        )

    def __str__(self) -> str:
        total, seconds = sum(self.counts.values()), perf_counter() - self.begun
        shown = ", ".join(f"{number} {name}" for name, number in self.counts.items())
        rate = f"{total / seconds:.1f} slices a second" if seconds > 0 else ""
        return f"{shown}. Research use only: triage, not a diagnosis. {rate}"


def csv_table(kind: type[Rolled], rolled: Sequence[Rolled]) -> Iterator[str]:
    """A header, then a line for each; lists are joined by semicolons."""
    from edge_ct.system.csv_text import safe_csv_line

    names = kind.__struct_fields__
    yield safe_csv_line(names)
    yield from (safe_csv_line([_cell(getattr(own, name)) for name in names]) for own in rolled)


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return "; ".join(f"{count} x {reason}" for reason, count in value.items())
    return "; ".join(value) if isinstance(value, tuple) else value


def _named(name: str, probabilities: Sequence[float | None], classifier: Classifier) -> Series:
    voting = [p for p in probabilities if p is not None]
    manifest = classifier.manifest
    verdict = decide_series(voting, manifest.operating_point, manifest.zone)
    answer = _answer(verdict, "no slice could be judged")
    return Series(name, *answer, len(probabilities) - len(voting), classifier.identity)


def _answer(verdict: SeriesVerdict | None, why_none: str | None) -> tuple[Decision, float | None, str | None, int, int]:
    """decision, probability, reason, slices, positive_slices."""
    if verdict is None:
        return "rejected", None, why_none, 0, 0
    return verdict.decision, verdict.probability, verdict.reason, verdict.slices, verdict.positive_slices


def _rejected(result: SeriesResult) -> int:
    return sum(row.probability is None for row in result.rows)
