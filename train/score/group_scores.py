"""Scores of patients, series or other groups of slices: by the mean of their slices' probabilities, and by k of n."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from edge_ct.decision import k_of_n, series_probability
from edge_ct.errors import DataRejected
from edge_ct.metrics import Scores, score

KS = (1, 2, 3)


class GroupScores(msgspec.Struct, frozen=True):
    """Scores whose cases are groups of slices; their intervals count groups, not slices.

    n: groups. slices: in them. mixed: groups left out, since their slices have both labels. mean: a group is positive
    where the mean of its slices' probabilities reaches the threshold. k_of_n: k -> at least k slices must reach it; of
    a group of fewer slices, all. decisions: counts of what a bundle says of the groups' means; None for a run.
    """

    n: int
    slices: int
    mixed: tuple[str, ...]
    mean: Scores
    k_of_n: dict[str, Scores]
    decisions: dict[str, int] | None = None


def score_groups(
    groups: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    ks: Sequence[int] = KS,
    threshold: float = 0.5,
    decide: Callable[[Sequence[float]], str] | None = None,
) -> GroupScores:
    """Score slices group by group.

    groups: n names; labels: 0 or 1 [n]; probabilities: P(positive), float [n]. decide: probabilities of a group's
    slices -> a decision. Raises `DataRejected` where no group has slices of one label alone.
    """
    found: dict[str, tuple[set[int], list[float]]] = {}
    for group, label, p in zip(groups, labels.tolist(), probabilities.tolist(), strict=True):
        own, slices = found.setdefault(group, (set(), []))
        own.add(label)
        slices.append(p)
    kept = {group: slices for group, (own, slices) in found.items() if len(own) == 1}
    if not kept:
        raise DataRejected("no group to score: all have slices of both labels")
    truth = np.array([found[group][0].copy().pop() for group in kept], np.int8)

    def by(rule: Callable[[Sequence[float]], float]) -> Scores:
        return score(truth, np.array([rule(slices) for slices in kept.values()]), threshold)

    return GroupScores(
        n=len(kept),
        slices=sum(map(len, kept.values())),
        mixed=tuple(sorted(found.keys() - kept.keys())),
        mean=by(series_probability),
        k_of_n={str(k): by(lambda slices, k=k: k_of_n(slices, k)) for k in ks},  # type: ignore[misc]
        decisions=dict(Counter(map(decide, kept.values()))) if decide else None,
    )
