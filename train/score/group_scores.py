"""Scores by patient, series or other group of slices: by the mean of the probabilities, and by k of n slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np

from edge_ct.decision import k_of_n, series_probability
from edge_ct.errors import DataRejected
from edge_ct.metrics import Scores, score

KS = (1, 2, 3)


class GroupScores(msgspec.Struct, frozen=True):
    """Scores whose cases are groups of slices; their intervals count groups, not slices.

    Attributes:
        n: Number of groups.
        slices: Number of slices in them.
        mixed: Groups left out because their slices have both labels.
        mean: Scores of the rule "the mean probability of the slices reaches the threshold".
        k_of_n: For each k, scores of the rule "at least k slices reach the threshold"; in a group of fewer than k
            slices, all of them must.
        decisions: Number of groups by the bundle's decision on the mean; None for a run.
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

    Args:
        groups: Group of each slice, [n].
        labels: 0 or 1 [n].
        probabilities: P(positive), float [n].
        ks: Values of k for the k-of-n rule.
        threshold: Probability from which a slice or a mean counts as positive.
        decide: Decides on a group by the probabilities of its slices.

    Raises:
        DataRejected: Every group has slices of both labels.
    """
    labels_of: dict[str, set[int]] = {}
    probabilities_of: dict[str, list[float]] = {}
    for group, label, probability in zip(groups, labels.tolist(), probabilities.tolist(), strict=True):
        labels_of.setdefault(group, set()).add(label)
        probabilities_of.setdefault(group, []).append(probability)
    kept = {group: values for group, values in probabilities_of.items() if len(labels_of[group]) == 1}
    if not kept:
        raise DataRejected("no group can be scored: every group has slices of both labels")
    truth = np.array([min(labels_of[group]) for group in kept], np.int8)

    def score_rule(rule: Callable[[Sequence[float]], float]) -> Scores:
        return score(truth, np.array([rule(values) for values in kept.values()]), threshold)

    return GroupScores(
        n=len(kept),
        slices=sum(map(len, kept.values())),
        mixed=tuple(sorted(labels_of.keys() - kept.keys())),
        mean=score_rule(series_probability),
        k_of_n={str(k): score_rule(partial(k_of_n, k=k)) for k in ks},
        decisions=dict(Counter(map(decide, kept.values()))) if decide else None,
    )
