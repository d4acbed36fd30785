"""Comparison of models on the same slices: with the reference, on the Pareto front, and in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from edge_ct.manifest import Estimate
from edge_ct.metrics import Scores, mcnemar_p, score, wilson

# Level of the two-sided test on the positives below which a model's sensitivity counts as different.
SIGNIFICANT = 0.05
# Share of the reference's sensitivity that a model may lose and still count as keeping it in the verdict.
MAX_LOSS = 0.02


class EqualSensitivity(msgspec.Struct, frozen=True):
    """A model at the highest threshold at which it finds as many positives as the reference does at 0.5.

    The threshold is chosen on the slices that are scored, so these figures are a bound.

    Attributes:
        threshold: The threshold.
        sensitivity: Sensitivity at it.
        specificity: Specificity at it.
        speed_up: Median time of the reference divided by the model's; None if either was not measured.
    """

    threshold: float
    sensitivity: Estimate
    specificity: Estimate
    speed_up: float | None


class ReferenceComparison(msgspec.Struct, frozen=True):
    """A model compared with the reference on the same slices, both at probability 0.5.

    Attributes:
        kept: Sensitivity of the model divided by that of the reference.
        mcnemar_p: Exact McNemar test on all slices.
        mcnemar_p_positives: Exact McNemar test on the positive slices.
        agreement: Share of slices that both call alike.
        equal: The model at equal sensitivity.
    """

    kept: Estimate
    mcnemar_p: float
    mcnemar_p_positives: float
    agreement: float
    equal: EqualSensitivity


def compare_with_reference(
    labels: np.ndarray, probabilities: np.ndarray, reference: np.ndarray, speed_up: float | None
) -> ReferenceComparison:
    """Compare a model with the reference.

    Args:
        labels: 0 or 1, [n]; both classes must occur.
        probabilities: P(positive) of the model, float [n].
        reference: P(positive) of the reference, float [n].
        speed_up: Time of the reference divided by the model's, or None.
    """
    calls, others, positive = probabilities >= 0.5, reference >= 0.5, labels == 1
    return ReferenceComparison(
        kept=kept_sensitivity(labels, calls, others),
        mcnemar_p=mcnemar_p(labels, calls, others),
        mcnemar_p_positives=mcnemar_p(labels[positive], calls[positive], others[positive]),
        agreement=float((calls == others).mean()),
        equal=equal_sensitivity(labels, probabilities, int((others & positive).sum()), speed_up),
    )


def kept_sensitivity(labels: np.ndarray, calls: np.ndarray, reference: np.ndarray) -> Estimate:
    """Return a model's sensitivity divided by the reference's: 1 - lost + gained, as shares of what it finds.

    The interval is that of a difference of two shares, from their Wilson intervals (Newcombe 1998). Unlike a bootstrap
    interval it is not empty if the two models agree on every slice of the sample.

    Args:
        labels: 0 or 1, [n].
        calls: Whether the model calls a slice positive, bool [n].
        reference: The same of the reference.

    Returns:
        The ratio; undefined if the reference finds no positive slice.
    """
    positive = labels == 1
    count = int((reference & positive).sum())
    if not count:
        return Estimate(None, None, None)
    lost = _share(int((reference & ~calls & positive).sum()), count)
    gained = _share(min(count, int((~reference & calls & positive).sum())), count)
    value = 1 - lost[0] + gained[0]
    low = value - float(np.hypot(gained[0] - gained[1], lost[2] - lost[0]))
    high = value + float(np.hypot(gained[2] - gained[0], lost[0] - lost[1]))
    return Estimate(value, max(0.0, low), high)


def _share(count: int, n: int) -> tuple[float, float, float]:
    interval = wilson(count, n)
    return count / n, interval.low or 0.0, 1.0 if interval.high is None else interval.high


def equal_sensitivity(
    labels: np.ndarray, probabilities: np.ndarray, hits: int, speed_up: float | None
) -> EqualSensitivity:
    """Score a model at the highest threshold at which it finds `hits` positive slices.

    Args:
        labels: 0 or 1, [n].
        probabilities: P(positive), float [n].
        hits: Number of positive slices that the reference finds.
        speed_up: Time of the reference divided by the model's, or None.
    """
    truth = labels == 1
    falling = np.sort(probabilities[truth])[::-1]
    threshold = float(falling[hits - 1]) if hits else 1.0
    called = probabilities >= threshold
    return EqualSensitivity(
        threshold=threshold,
        sensitivity=wilson(int((called & truth).sum()), int(truth.sum())),
        specificity=wilson(int((~called & ~truth).sum()), int((~truth).sum())),
        speed_up=speed_up,
    )


def pareto_front(rows: Sequence[tuple[float, ...] | None]) -> list[bool]:
    """Return for each row of costs whether no other row is at most as large in every cost, and different.

    A row that is None is not on the front and dominates nothing.
    """

    def is_dominated(row: tuple[float, ...]) -> bool:
        return any(
            other is not None
            and other != row
            and all(other_cost <= cost for other_cost, cost in zip(other, row, strict=True))
            for other in rows
        )

    return [row is not None and not is_dominated(row) for row in rows]


def costs(scores: Scores | None, milliseconds: float | None) -> tuple[float, ...] | None:
    """Return the costs of a model on the Pareto front: its time, 1 - sensitivity and 1 - specificity."""
    if scores is None or milliseconds is None:
        return None
    return milliseconds, *(1 - (estimate.value or 0.0) for estimate in (scores.sensitivity, scores.specificity))


class Candidate(msgspec.Struct, frozen=True):
    """A bundle that was measured and scored, so that the verdict may name it.

    Attributes:
        label: Name of the bundle.
        milliseconds: Median time of one slice, model only.
        bytes: Size of the file.
        front: Whether it is on the Pareto front.
        against: Comparison with the reference.
    """

    label: str
    milliseconds: float
    bytes: int
    front: bool
    against: ReferenceComparison


def choose_candidate(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the fastest bundle on the front that keeps the reference's sensitivity, else the most sensitive one."""
    front = [
        candidate for candidate in candidates if candidate.front and candidate.against.kept.value is not None
    ] or list(candidates)
    keeping = [
        candidate
        for candidate in front
        if (candidate.against.kept.value or 0) >= 1 - MAX_LOSS and candidate.against.mcnemar_p_positives >= SIGNIFICANT
    ]
    if keeping:
        return min(keeping, key=lambda candidate: candidate.milliseconds)
    return max(front, key=lambda candidate: (candidate.against.kept.value or 0, -candidate.milliseconds), default=None)


def verdict_sentence(
    candidates: Sequence[Candidate], reference: str, milliseconds: float, device: str, n: int, split: str
) -> str:
    """Return the verdict in one sentence.

    Args:
        candidates: The bundles.
        reference: Name of the reference.
        milliseconds: Median time of the reference for one slice.
        device: What the reference was computed on.
        n: Number of slices.
        split: Split of the slices.
    """
    best = choose_candidate(candidates)
    if best is None:
        return f"No bundle was both scored and measured, so none is compared with {reference}."
    kept = best.against.kept
    if kept.value is None:
        return f"{reference} finds no positive slice, so sensitivities cannot be compared."
    times = milliseconds / best.milliseconds
    share = f"1/{times:,.0f}" if times >= 2 else f"{1 / times:.2f} times"
    return (
        f"{best.label} keeps {kept.text(1, percent=True)} of the sensitivity of {reference} at {share} of its time per "
        f"slice ({best.milliseconds:.1f} ms against {milliseconds:,.0f} ms on {device}), in {best.bytes / 1e6:.2f} MB "
        f"(n = {n}, {split} split)."
    )


def scores_at(labels: np.ndarray, probabilities: np.ndarray, threshold: float | None) -> tuple[Scores, Scores | None]:
    """Return the scores at probability 0.5, and those at a threshold, or None without one."""
    return score(labels, probabilities), None if threshold is None else score(labels, probabilities, threshold)
