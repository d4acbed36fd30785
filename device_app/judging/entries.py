"""Judgements as rows of a worklist, prepared on a worker: hashing and encoding take longer than storing."""

from __future__ import annotations

from dataclasses import dataclass

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier, Judgement, Milliseconds, Result

from ..worklist.records import Entry, prepare_entry
from .judge import SliceJudgement


@dataclass(frozen=True, eq=False)
class PreparedEntry:
    """A judgement ready to be stored.

    Attributes:
        file: The name of the source.
        readable: False if the source or frame could not be read.
        entry: The row.
    """

    file: str
    readable: bool
    entry: Entry


@dataclass(frozen=True)
class PrepareEntry:
    """Prepares judgements on a worker. origin: the command that judges."""

    origin: str

    def __call__(self, judgement: SliceJudgement, classifier: Classifier) -> PreparedEntry:
        entry = prepare_entry(
            judgement, classifier.bundle, origin=self.origin, patient=judgement.patient, key=judgement.key
        )
        return PreparedEntry(judgement.file, judgement.readable, entry)


def rejected_entry(
    bundle: Bundle, origin: str, name: str, reason: str, key: str | None = None, series: str | None = None
) -> Entry:
    """Prepare the row of a file that could not be read, without a classifier. Arguments: see `prepare_entry`."""
    result = Result(name, "rejected", None, reason, series, bundle.identity, Milliseconds())
    return prepare_entry(Judgement(result), bundle, origin=origin, key=key, series=series)
