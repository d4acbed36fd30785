"""How slices and likely patients were decided, in shares, and metrics by source: one table for every report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from ..decision import decide_series
from ..manifest import DecisionRule, Estimate
from ..metrics import Outcomes, count_outcomes, score
from .markdown import markdown_table

DECISIONS = ("positive", "refer", "negative", "rejected")
OUTCOME_HEADER = ("cases", "n", *(f"called {decision}" for decision in DECISIONS[:3]), "rejected")


class OutcomeTable(msgspec.Struct, frozen=True):
    """Shares called positive, refer, negative and rejected, with 95 % intervals.

    Attributes:
        unit: `slice` or `likely patient`.
        positives: Of the cases with the disease.
        negatives: Of the cases without it.
    """

    unit: str
    positives: Outcomes
    negatives: Outcomes


class SourceScores(msgspec.Struct, frozen=True):
    """Metrics of the slices of one source.

    Attributes:
        n: Number of slices that were judged.
        auc: Area under the ROC curve; undefined for a source with one class.
        sensitivity: Share of positives from probability 0.5 on.
        specificity: Share of negatives below probability 0.5.
        outcomes: How the slices were decided; None for a model without a decision rule.
    """

    n: int
    auc: Estimate
    sensitivity: Estimate
    specificity: Estimate
    outcomes: OutcomeTable | None


def outcome_tables(
    labels: np.ndarray,
    decisions: Sequence[str],
    probabilities: Sequence[float | None],
    groups: Sequence[str] | None,
    rules: Sequence[DecisionRule],
) -> tuple[OutcomeTable, ...]:
    """Count how cases were decided, by slice and, where groups are known, by likely patient.

    A patient is decided by the mean probability of the judged slices, as `classify` does it, and is rejected where no
    slice was judged. A patient whose slices have both labels is left out.

    Args:
        labels: 0 or 1, [n].
        decisions: Decision on each slice, [n].
        probabilities: P(positive) of each slice, [n]; None for a rejected one.
        groups: Likely patient of each slice, [n]; None where they are not known.
        rules: The thresholds that decide each slice, [n]: folds have thresholds of their own.
    """
    tables = [OutcomeTable("slice", *count_outcomes(labels, decisions))]
    if groups:
        members: dict[str, list[int]] = {}
        for index, group in enumerate(groups):
            members.setdefault(group, []).append(index)
        patients = []
        for indices in members.values():
            if len({int(labels[index]) for index in indices}) > 1:
                continue
            judged = [p for p in (probabilities[index] for index in indices) if p is not None]
            verdict = decide_series(judged, rules[indices[0]])
            patients.append((int(labels[indices[0]]), verdict.decision if verdict else "rejected"))
        truth = np.array([label for label, _ in patients], int)
        tables.append(OutcomeTable("likely patient", *count_outcomes(truth, [decision for _, decision in patients])))
    return tuple(tables)


def scores_by_source(
    labels: np.ndarray, decisions: Sequence[str] | None, probabilities: Sequence[float | None], sources: Sequence[str]
) -> dict[str, SourceScores]:
    """Compute metrics for each source.

    Args:
        labels: 0 or 1, [n].
        decisions: Decision on each slice, [n]; None for a model without a decision rule.
        probabilities: P(positive) of each slice, [n]; None for a rejected one.
        sources: Source of each slice, [n].
    """
    names = np.asarray(sources)
    p = np.array([np.nan if one is None else one for one in probabilities], float)
    by_source = {}
    for source in sorted(set(sources)):
        chosen = names == source
        judged = chosen & ~np.isnan(p)
        scores = score(labels[judged], p[judged])
        outcomes = None
        if decisions is not None:
            of_source = [decision for decision, is_chosen in zip(decisions, chosen.tolist(), strict=True) if is_chosen]
            outcomes = OutcomeTable("slice", *count_outcomes(labels[chosen], of_source))
        by_source[source] = SourceScores(
            int(judged.sum()), scores.auc, scores.sensitivity, scores.specificity, outcomes
        )
    return by_source


def outcome_rows(tables: Sequence[OutcomeTable]) -> list[tuple[str, ...]]:
    """Return the rows of the table of outcomes as text: unit, class, n, then the share of each decision."""
    rows = []
    for table in tables:
        for name, outcomes in (("positive", table.positives), ("negative", table.negatives)):
            if outcomes.n:
                shares = (getattr(outcomes, decision).text(1, percent=True) for decision in DECISIONS)
                rows.append((f"{name}s by {table.unit}", str(outcomes.n), *shares))
    return rows


def outcome_markdown(tables: Sequence[OutcomeTable]) -> str:
    """Return the table of outcomes as Markdown."""
    return markdown_table(OUTCOME_HEADER, outcome_rows(tables))


def source_rows(by_source: Mapping[str, SourceScores]) -> list[tuple[str, ...]]:
    """Return the rows of the table by source as text."""
    rows: list[tuple[str, ...]] = []
    for source, scores in by_source.items():
        metrics = (scores.sensitivity.text(1, percent=True), scores.specificity.text(1, percent=True))
        row: tuple[str, ...] = (source, str(scores.n), scores.auc.text(3), *metrics)
        if scores.outcomes is not None:
            row += tuple(
                outcomes.positive.text(1, percent=True) if outcomes.n else "none"
                for outcomes in (scores.outcomes.positives, scores.outcomes.negatives)
            )
            row += (_rejected(scores.outcomes),)
        rows.append(row)
    return rows


def source_markdown(by_source: Mapping[str, SourceScores]) -> str:
    """Return the table by source as Markdown."""
    decided = any(scores.outcomes is not None for scores in by_source.values())
    header = ("source", "n", "AUC", "sensitivity", "specificity")
    more = ("positives called positive", "negatives called positive", "rejected slices") if decided else ()
    return markdown_table((*header, *more), source_rows(by_source))


def _rejected(table: OutcomeTable) -> str:
    return str(sum(round((one.rejected.value or 0) * one.n) for one in (table.positives, table.negatives)))
