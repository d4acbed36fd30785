"""Rows of the worklist and the model's manifest as the pages show them, in words of one language."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from edge_ct.manifest import Manifest

from ..worklist.records import Review, Row
from .translations import Words

SHOWN = ("all", "positive", "refer", "rejected", "negative", "reviewed")


@dataclass(frozen=True)
class Card:
    """One row. name: the file's; place: where it lay. chance: the probability as text. at: the same, 0 to 100."""

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
        """Changes when what the list shows of it does."""
        return f"{self.id}.{self.row.review.id if self.row.review else 0}"


def card(row: Row, words: Words) -> Card:
    """A row in words."""
    path = PurePosixPath(row.source.replace("\\", "/"))
    reason = words.reason(row.reason)
    untranslated = reason == row.reason and words.language != "en"
    return Card(
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
        time=words.time(datetime.fromisoformat(row.time.replace("Z", "+00:00"))),
        reviewed=reviewed(row.review, words) if row.review else None,
        row=row,
    )


def reviewed(review: Review, words: Words) -> str:
    """A review in a few words."""
    if review.verdict == "agree":
        return words("review.agreed", who=review.reviewer)
    return words(f"review.overridden.{review.label}", who=review.reviewer)


def moment(text: str, words: Words) -> str:
    """A time of the worklist."""
    return words.time(datetime.fromisoformat(text.replace("Z", "+00:00")))


@dataclass(frozen=True)
class Bar:
    """The probability's scale from 0 to 100: where the model refers, and the threshold of positive."""

    refer_from: float
    refer_to: float
    threshold: float

    @property
    def width(self) -> float:
        """Of the stretch where it refers."""
        return self.refer_to - self.refer_from


def bar(manifest: Manifest) -> Bar:
    """The scale of a model."""
    zone, threshold = manifest.zone, 100 * manifest.operating_point.threshold
    if zone is None:
        return Bar(threshold, threshold, threshold)
    low, high = sorted((100 * zone.positive_from, 100 * zone.negative_to))
    return Bar(low, high, threshold)


@dataclass(frozen=True)
class Figure:
    """One line of the model card's table: a metric and its interval, for each variant."""

    name: str
    values: tuple[tuple[str, str], ...]


METRICS = ("sensitivity", "specificity", "accuracy", "precision", "f1", "auc", "brier", "ece")


def figures(manifest: Manifest, words: Words) -> tuple[list[str], list[Figure]]:
    """Variants, and the metrics that the bundle states."""
    variants = list(manifest.metrics)
    lines = []
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
        lines.append(Figure(words(f"metric.{name}"), tuple(values)))
    return variants, lines
