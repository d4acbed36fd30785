"""Rows of the worklist and figures of the model as text in one language, for the templates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from edge_ct.manifest import Manifest

from ..worklist.records import Review, Row
from .translations import Words

FILTERS = ("all", "positive", "refer", "rejected", "negative", "reviewed")
METRICS = ("sensitivity", "specificity", "accuracy", "precision", "f1", "auc", "brier", "ece")


@dataclass(frozen=True)
class RowCard:
    """One row as it is shown.

    Attributes:
        word: The decision in words.
        advice: What to do, in a sentence.
        short: What to do, in a few words for the list.
        reason_language: Language of `reason`; English if the reason has no translation.
        chance: The probability as text.
        at: The probability in percent; None if there is none.
        name: Name of the file.
        place: Folder of the file.
        reviewed: The latest review as text.
    """

    id: int
    decision: str
    word: str
    advice: str
    short: str
    reason: str | None
    reason_language: str
    chance: str
    at: float | None
    name: str
    place: str
    time: str
    reviewed: str | None
    row: Row

    @property
    def version(self) -> str:
        """A key that changes when the row is shown differently in the list."""
        return f"{self.id}.{self.row.review.id if self.row.review else 0}"


def present_row(row: Row, words: Words) -> RowCard:
    """Return a row as it is shown."""
    path = PurePosixPath(row.source.replace("\\", "/"))
    reason = words.reason(row.reason)
    untranslated = reason == row.reason and words.language != "en"
    return RowCard(
        id=row.id,
        decision=row.decision,
        word=words(f"decision.{row.decision}"),
        advice=words(f"advice.{row.decision}"),
        short=words(f"short.{row.decision}"),
        reason=reason,
        reason_language="en" if untranslated else words.language,
        chance=words.percent(row.probability),
        at=None if row.probability is None else round(100 * row.probability, 1),
        name=path.name or row.source,
        place=str(path.parent) if len(path.parts) > 1 else "",
        time=time_text(row.time, words),
        reviewed=review_text(row.review, words) if row.review else None,
        row=row,
    )


def review_text(review: Review, words: Words) -> str:
    """Return a review in a few words."""
    if review.verdict == "agree":
        return words("review.agreed", who=review.reviewer)
    return words(f"review.overridden.{review.label}", who=review.reviewer)


def time_text(text: str, words: Words) -> str:
    """Return a UTC time of the worklist as local time."""
    return words.time(datetime.fromisoformat(text.replace("Z", "+00:00")))


@dataclass(frozen=True)
class ProbabilityScale:
    """The refer zone on the scale of probabilities, in percent: between the thresholds for negative and positive."""

    refer_from: float
    refer_to: float

    @property
    def width(self) -> float:
        """Width of the refer zone in percent."""
        return self.refer_to - self.refer_from


def probability_scale(manifest: Manifest) -> ProbabilityScale:
    """Return the scale of a model."""
    rule = manifest.decision_rule
    return ProbabilityScale(*(min(100.0, 100 * limit) for limit in (rule.negative_below, rule.positive_from)))


@dataclass(frozen=True)
class MetricRow:
    """One row of the table of metrics: value and 95 % interval of each variant, as text."""

    name: str
    values: tuple[tuple[str, str], ...]


def metric_rows(manifest: Manifest, words: Words) -> tuple[list[str], list[MetricRow]]:
    """Return the variants of a model, and a row for each metric that its bundle states."""
    variants = list(manifest.metrics)
    rows = []
    for name in METRICS:
        estimates = [manifest.metrics[variant].get(name) for variant in variants]
        if not any(estimates):
            continue
        values = []
        for estimate in estimates:
            if estimate is None or estimate.value is None:
                values.append(("–", ""))
                continue
            interval = ""
            if estimate.low is not None and estimate.high is not None:
                interval = f"[{words.number(estimate.low, 3)}; {words.number(estimate.high, 3)}]"
            values.append((words.number(estimate.value, 3), interval))
        rows.append(MetricRow(words(f"metric.{name}"), tuple(values)))
    return variants, rows
