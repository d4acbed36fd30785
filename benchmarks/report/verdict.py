"""What a set of models on the same slices amounts to: against the reference, on the Pareto front, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from edge_ct.manifest import Estimate
from edge_ct.metrics import Scores, mcnemar_p, score, wilson

# Of a two-sided test on the positives: below it, a model's sensitivity counts as unlike the reference's.
SIGNIFICANT = 0.05
# What a model may lose of the reference's sensitivity and still be named in the verdict as one that keeps it.
MAX_LOSS = 0.02


class EqualSensitivity(msgspec.Struct, frozen=True):
    """A model at the highest threshold at which it finds as many positives as the reference does at 0.5.

    Chosen on the very slices that it is scored on: a bound, not a promise. speed_up: the reference's median time of one
    slice over this one's, None where either was not measured.
    """

    threshold: float
    sensitivity: Estimate
    specificity: Estimate
    speed_up: float | None


class Against(msgspec.Struct, frozen=True):
    """A model beside the reference on the same slices, both at probability 0.5.

    kept: its sensitivity over the reference's. mcnemar_p: exact, of all slices;
    mcnemar_p_positives: of the positive ones alone. agreement: share of slices called alike.
    """

    kept: Estimate
    mcnemar_p: float
    mcnemar_p_positives: float
    agreement: float
    equal: EqualSensitivity


def against(labels: np.ndarray, own: np.ndarray, reference: np.ndarray, speed_up: float | None) -> Against:
    """Compare P(positive), float [n] each, on labels 0 or 1 [n]; both classes must be there."""
    calls, others, positive = own >= 0.5, reference >= 0.5, labels == 1
    return Against(
        kept=kept_share(labels, calls, others),
        mcnemar_p=mcnemar_p(labels, calls, others),
        mcnemar_p_positives=mcnemar_p(labels[positive], calls[positive], others[positive]),
        agreement=float((calls == others).mean()),
        equal=equal_sensitivity(labels, own, int((others & positive).sum()), speed_up),
    )


def kept_share(labels: np.ndarray, calls: np.ndarray, reference: np.ndarray) -> Estimate:
    """Sensitivity of `calls` over that of `reference`, bool [n]; undefined where the reference finds nothing.

    1 - lost + gained, as shares of what the reference finds. Interval: of a difference, from the Wilson ones of the
    two shares (Newcombe 1998); unlike a bootstrap's it has a width where the two differ on no slice of the sample.
    """
    positive = labels == 1
    found = int((reference & positive).sum())
    if not found:
        return Estimate(None, None, None)
    lost = _share(int((reference & ~calls & positive).sum()), found)
    gained = _share(min(found, int((~reference & calls & positive).sum())), found)
    value = 1 - lost[0] + gained[0]
    low = value - float(np.hypot(gained[0] - gained[1], lost[2] - lost[0]))
    high = value + float(np.hypot(gained[2] - gained[0], lost[0] - lost[1]))
    return Estimate(value, max(0.0, low), high)


def _share(count: int, n: int) -> tuple[float, float, float]:
    found = wilson(count, n)
    return count / n, found.low or 0.0, 1.0 if found.high is None else found.high


def equal_sensitivity(labels: np.ndarray, own: np.ndarray, hits: int, speed_up: float | None) -> EqualSensitivity:
    """own: P(positive), float [n]; hits: how many positives the reference finds."""
    truth = labels == 1
    falling = np.sort(own[truth])[::-1]
    threshold = float(falling[hits - 1]) if hits else 1.0
    called = own >= threshold
    return EqualSensitivity(
        threshold=threshold,
        sensitivity=wilson(int((called & truth).sum()), int(truth.sum())),
        specificity=wilson(int((~called & ~truth).sum()), int((~truth).sum())),
        speed_up=speed_up,
    )


def pareto(rows: Sequence[tuple[float, ...] | None]) -> list[bool]:
    """Which rows no other one beats; of each number less is better. None is beaten, and beats nothing."""

    def beaten(own: tuple[float, ...]) -> bool:
        return any(
            other is not None and other != own and all(theirs <= mine for theirs, mine in zip(other, own, strict=True))
            for other in rows
        )

    return [own is not None and not beaten(own) for own in rows]


def costs(scores: Scores | None, milliseconds: float | None) -> tuple[float, ...] | None:
    """A model as the front has it: its time, and what it lacks of sensitivity and of specificity."""
    if scores is None or milliseconds is None:
        return None
    lacks = [1 - (getattr(scores, name).value or 0.0) for name in ("sensitivity", "specificity")]
    return milliseconds, *lacks


class Candidate(msgspec.Struct, frozen=True):
    """What the verdict chooses among: bundles that were measured and scored."""

    label: str
    milliseconds: float
    bytes: int
    front: bool
    against: Against


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """The fastest on the front that keeps the reference's sensitivity; where none does, the one that keeps most."""
    front = [own for own in candidates if own.front and own.against.kept.value is not None] or list(candidates)
    keeping = [
        own
        for own in front
        if (own.against.kept.value or 0) >= 1 - MAX_LOSS and own.against.mcnemar_p_positives >= SIGNIFICANT
    ]
    if keeping:
        return min(keeping, key=lambda own: own.milliseconds)
    return max(front, key=lambda own: (own.against.kept.value or 0, -own.milliseconds), default=None)


def sentence(
    candidates: Sequence[Candidate], reference: str, milliseconds: float, where: str, n: int, split: str
) -> str:
    """The verdict. milliseconds: of the reference, whose name and device are `reference` and `where`."""
    best = choose(candidates)
    if best is None:
        return f"No bundle was both scored and measured beside {reference}."
    kept = best.against.kept
    if kept.value is None or kept.low is None or kept.high is None:
        return f"{reference} finds no positive slice: nothing to compare with."
    times = milliseconds / best.milliseconds
    share = f"1/{times:,.0f}" if times >= 2 else f"{1 / times:.2f} times"
    return (
        f"{best.label} keeps {100 * kept.value:.1f} % [{100 * kept.low:.1f}, {100 * kept.high:.1f}] of the sensitivity "
        f"of {reference} at {share} of its time a slice ({best.milliseconds:.1f} ms against {milliseconds:,.0f} ms on "
        f"{where}), in {best.bytes / 1e6:.2f} MB (n = {n}, {split} split)."
    )


def scores_at(labels: np.ndarray, probabilities: np.ndarray, threshold: float | None) -> tuple[Scores, Scores | None]:
    """At probability 0.5, and at a bundle's own threshold where it has one."""
    return score(labels, probabilities), None if threshold is None else score(labels, probabilities, threshold)
