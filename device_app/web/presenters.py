"""Rows of the worklist and figures of the model as text in one language, for the templates."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from edge_ct.decision import Decision
from edge_ct.manifest import Manifest
from edge_ct.reporting.markdown import find_table

from ..worklist.groups import Order, Shown, SliceGroup
from ..worklist.records import Review, Row
from ..worklist.retention import Pruned
from .translations import Words

FILTERS: tuple[Shown, ...] = ("all", "positive", "refer", "rejected", "negative", "reviewed")
ORDERS: tuple[Order, ...] = ("urgency", "newest", "name")
METRICS = ("sensitivity", "specificity", "accuracy", "precision", "f1", "auc", "brier", "ece")
_NAME_LENGTH = 28
_PERCENT = ("sensitivity", "specificity", "accuracy", "precision")
# Words in the header of the card's table of the three outcomes, and what its cells are called on this page.
_OUTCOMES = ("positive", "refer", "negative")
_OUTCOME_CELLS = {
    "called positive": "filter.positive",
    "called refer": "filter.refer",
    "called negative": "filter.negative",
    "rejected": "filter.rejected",
    "positives by slice": "model.cases.positive_slices",
    "negatives by slice": "model.cases.negative_slices",
    "positives by likely patient": "model.cases.positive_patients",
    "negatives by likely patient": "model.cases.negative_patients",
}
# A model in the list of a card of several models, and the line above each of its tables.
_CARD_MODEL = re.compile(r"^- `([^`]+)`: .*?([\d,]+) parameters", re.MULTILINE)
_CARD_NAME = re.compile(r"^`([^`]+)`:$", re.MULTILINE)
# The folder that the script of the page gives to files that were picked one by one.
_UPLOAD = re.compile(r"upload-(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)\d\d")


@dataclass(frozen=True)
class Outcome:
    """A decision as it is shown; that of a reviewer comes before that of the model.

    Attributes:
        decision: The decision that counts.
        word: It in words.
        advice: What to do, in a sentence.
        model: The model's decision in words; None if no reviewer has decided.
        chance: The model score as text.
        at: The model score in percent; None if there is none.
    """

    decision: Decision
    word: str
    advice: str
    model: str | None
    chance: str
    at: float | None


def present_outcome(
    decision: Decision, reading: Decision | None, probability: float | None, words: Words, several: bool = False
) -> Outcome:
    """Return a decision as it is shown. several: True for a series or folder."""
    word = words(f"decision.{decision}")
    kind = "group_advice" if several and decision != "negative" else "advice"
    return Outcome(
        reading or decision,
        words(f"read.{reading}") if reading else word,
        words("advice.read" if reading else f"{kind}.{decision}"),
        word if reading else None,
        words.score(probability),
        None if probability is None else round(100 * probability, 1),
    )


@dataclass(frozen=True)
class RowCard:
    """One result as it is shown.

    Attributes:
        reason_language: Language of `reason`; English if the reason has no translation.
        name: Name of the file.
        short_name: The same, shortened in the middle.
        place: Folder of the file.
        reviewed: The latest review as text.
        share: The share of the lung that shows opacities, in words.
    """

    id: int
    outcome: Outcome
    reason: str | None
    reason_language: str
    name: str
    short_name: str
    place: str
    time: str
    reviewed: str | None
    share: str
    row: Row

    @property
    def decision(self) -> Decision:
        """The decision that counts."""
        return self.outcome.decision


def present_row(row: Row, words: Words) -> RowCard:
    """Return a result as it is shown."""
    path = PurePosixPath(row.source.replace("\\", "/"))
    reason = words.reason(row.reason)
    untranslated = reason == row.reason and words.language != "en"
    name = path.name or row.source
    return RowCard(
        id=row.id,
        outcome=present_outcome(row.decision, row.reading, row.probability, words),
        reason=reason,
        reason_language="en" if untranslated else words.language,
        name=name,
        short_name=shorten(name),
        place=str(path.parent) if len(path.parts) > 1 else "",
        time=time_text(row.time, words),
        reviewed=review_text(row.review, words) if row.review else None,
        share=share_text(row.lesion_share, words),
        row=row,
    )


@dataclass(frozen=True)
class GroupCard:
    """One line of the worklist as it is shown: a series, a folder, or a single slice.

    Attributes:
        title: What it is called, shortened.
        full_title: The same in full.
        counts: How many of its slices are positive; what is wrong with a single slice that was not judged.
        short_counts: The same in fewer words, for a line of the list.
        origin: Where it came from.
        version: A key that changes when the line is shown differently.
    """

    key: RowCard
    outcome: Outcome
    title: str
    full_title: str
    counts: str
    short_counts: str
    counts_language: str
    share: str
    patient: str | None
    origin: str
    time: str
    reviewed: str | None
    version: str
    group: SliceGroup


def present_group(group: SliceGroup, words: Words) -> GroupCard:
    """Return a group as it is shown."""
    key = present_row(group.row, words)
    title = group_title(group, words)
    reviewed = key.reviewed if group.slices == 1 else None
    if group.slices > 1 and group.reviewed:
        reviewed = words("group.reviewed", k=group.reviewed, n=group.slices)
    counts = words("group.counts", k=group.positive, n=group.judged)
    short_counts = words("list.counts", k=group.positive, n=group.judged)
    language = words.language
    if group.slices == 1:
        counts, language = (key.reason or "", key.reason_language) if group.decision == "rejected" else ("", language)
        short_counts = counts
    elif group.judged < group.slices:
        rejected = words("group.rejected", n=group.slices - group.judged)
        counts, short_counts = f"{counts} · {rejected}", f"{short_counts}, {rejected}"
    return GroupCard(
        key=key,
        outcome=present_outcome(group.decision, group.reading, group.probability, words, several=group.slices > 1),
        title=shorten(title),
        full_title=title,
        counts=counts,
        short_counts=short_counts,
        counts_language=language,
        share=share_text(group.lesion_share, words),
        patient=group.row.patient,
        origin=origin_text(group.row.origin, words),
        time=words.short_time(moment(group.row.time)),
        reviewed=reviewed,
        version=f"{group.row.id}.{group.last}.{group.slices}.{group.reviewed}.{group.outcome}.{key.reviewed or ''}",
        group=group,
    )


def group_title(group: SliceGroup, words: Words) -> str:
    """Return what a group is called: its patient, else its folder or upload, else its series or file."""
    row = group.row
    folder = PurePosixPath(row.source.replace("\\", "/")).parent.name
    if row.patient:
        return words("group.patient", patient=row.patient[:8])
    if upload := _UPLOAD.fullmatch(folder):
        year, month, day, hour, minute = map(int, upload.groups())
        with suppress(ValueError):
            return words("group.upload", time=words.short_time(datetime(year, month, day, hour, minute).astimezone()))
    if group.kind == "series" and row.series:
        return words("group.series", series=row.series)
    return folder if group.slices > 1 and folder else PurePosixPath(row.source).name or row.source


def share_text(share: float | None, words: Words) -> str:
    """Return the share of the lung that shows opacities, in words; an empty text if it was not measured."""
    if share is None:
        return ""
    return words("group.share", share="<\u00a01\u00a0%" if share < 0.01 else words.percent(share))


def origin_text(origin: str, words: Words) -> str:
    """Return which command stored a result, in words."""
    return words(f"origin.{origin}") if origin in ("serve", "watch", "listen", "classify") else origin


def shorten(text: str, length: int = _NAME_LENGTH) -> str:
    """Shorten a name in its middle: its end often holds the number of the slice."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


def review_text(review: Review, words: Words) -> str:
    """Return a review in a few words."""
    if review.verdict == "agree":
        return words("review.agreed", who=review.reviewer)
    return words(f"review.overridden.{review.label}", who=review.reviewer)


def time_text(text: str, words: Words) -> str:
    """Return a UTC time of the worklist as local time."""
    return words.time(moment(text))


def moment(text: str) -> datetime:
    """Return a UTC time of the worklist."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


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
            scale, digits, unit = (100, 1, "\u00a0%") if name in _PERCENT else (1, 3, "")
            interval = ""
            if estimate.low is not None and estimate.high is not None:
                low, high = (words.number(scale * end, digits) for end in (estimate.low, estimate.high))
                interval = f"[{low}; {high}]"
            values.append((words.number(scale * estimate.value, digits) + unit, interval))
        rows.append(MetricRow(words(f"metric.{name}"), tuple(values)))
    return variants, rows


def outcome_table(card: str, parameters: int) -> str | None:
    """Return the table of what a model decided from its card, as Markdown; None if the card has none.

    Args:
        card: The model card.
        parameters: Number of parameters of the network, by which it is found in a card of several models.
    """
    named = dict(_CARD_MODEL.findall(card))
    if named:
        names = [name for name, number in named.items() if number.replace(",", "") == str(parameters)]
        if len(names) != 1:
            return None
        # The tables of several models follow one another, each under the name of its model.
        parts = _CARD_NAME.split(card)[1:]
        tables = [part for name, part in zip(parts[::2], parts[1::2], strict=True) if name == names[0]]
    else:
        tables = [card]
    return next(filter(None, (find_table(part, _OUTCOMES) for part in tables)), None)


def outcome_cell(cell: str, words: Words) -> str | None:
    """Return a cell of the table of the three outcomes in the words of this page; None if it has no translation."""
    key = _OUTCOME_CELLS.get(cell)
    return words(key) if key else words.of_card(cell)


def measured_how(manifest: Manifest, words: Words) -> list[str]:
    """Return in sentences which slices the figures of a model come from."""
    sentences = [words(f"split.{manifest.data.split}.says")]
    if manifest.data.split in ("random", "grouped") and not manifest.data.counts.get("test"):
        sentences.append(words("split.none.says"))
    return sentences


def shorten_intervals(table: str) -> str:
    """Set the intervals of an HTML table in small print, below their values, which keep their unit."""
    table = re.sub(r" (\[[^\]<]*\])(?=</td>)", r'<span class="small">\1</span>', table)
    return re.sub(r"(?<=\d) %", "\u00a0%", table)


def retention_line(pruned: Pruned | None, t: Words) -> str | None:
    """Return what retention did not delete, and why; None if there is nothing to say."""
    if pruned is None:
        return None
    state = pruned.clock
    if state.status != "good" and state.latest is not None:
        key = "retention.behind" if state.status == "behind" else "retention.ahead"
        return t(key, latest=t.time(state.latest))
    return t("retention.unreviewed", n=pruned.unreviewed) if pruned.unreviewed else None
