"""Classification metrics, each with a 95 % interval. The device does not import this module.

Proportions have Wilson intervals; F1, AUC, expected calibration error (ECE), Brier score and log loss have percentile
bootstrap intervals, resampled within each class. Slices are treated as independent; the true intervals are wider where
patients have many slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from .manifest import Estimate

BOOTSTRAPS = 1000
ECE_BINS = 15
# Lower limit of a probability in the log loss, as in Keras: a certain error costs 16 nats, not infinitely many.
SMALLEST = 1e-7
UNDEFINED = Estimate(None, None, None)

# (labels [n], probabilities [n], weights [b, n]) -> [b]: a metric of b resamples at once, with a weight for each slice.
Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Confusion(msgspec.Struct, frozen=True):
    """Counts of true and false positives and negatives."""

    tp: int
    fp: int
    tn: int
    fn: int


class Scores(msgspec.Struct, frozen=True):
    """All metrics of one model on one set of slices, at one threshold. `loss` is the mean log loss in nats."""

    n: int
    threshold: float
    confusion: Confusion
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    precision: Estimate
    f1: Estimate
    auc: Estimate
    ece: Estimate
    brier: Estimate
    loss: Estimate = UNDEFINED  # runs of earlier versions have none

    def estimates(self) -> dict[str, Estimate]:
        """Return the estimates by metric name, in the order of the fields."""
        return {name: value for name, value in _fields(self) if isinstance(value, Estimate)}


class Outcomes(msgspec.Struct, frozen=True):
    """How the slices of one class were decided: each decision as a share of all slices of that class.

    Attributes:
        n: Number of slices of the class.
        positive: Share that is called positive; `refer`, `negative` and `rejected` alike.
    """

    n: int
    positive: Estimate
    refer: Estimate
    negative: Estimate
    rejected: Estimate


def count_outcomes(labels: np.ndarray, decisions: Sequence[str]) -> tuple[Outcomes, Outcomes]:
    """Return the table of decisions: how positives were decided, then negatives.

    Args:
        labels: 0 or 1, int [n].
        decisions: Decision on each slice.
    """
    kinds = ("positive", "refer", "negative", "rejected")
    tables = []
    for label in (1, 0):
        of_class = [decision for decision, true in zip(decisions, labels.tolist(), strict=True) if true == label]
        shares = (wilson(of_class.count(kind), len(of_class)) for kind in kinds)
        tables.append(Outcomes(len(of_class), *shares))
    return tables[0], tables[1]


def confusion(labels: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5) -> Confusion:
    """Count true and false decisions.

    Args:
        labels: 0 or 1, int [n].
        probabilities: P(positive), float [n]; a slice is called positive at or above the threshold.
        threshold: The threshold.
    """
    positive, truth = probabilities >= threshold, labels == 1
    return Confusion(
        tp=int((positive & truth).sum()),
        fp=int((positive & ~truth).sum()),
        tn=int((~positive & ~truth).sum()),
        fn=int((~positive & truth).sum()),
    )


def score(labels: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5, seed: int = 0) -> Scores:
    """Compute all metrics.

    Args:
        labels: 0 or 1, int [n].
        probabilities: P(positive), float [n].
        threshold: Slices at or above it are called positive.
        seed: Seed of the bootstrap.
    """
    counts = confusion(labels, probabilities, threshold)
    weights = resamples(labels, seed)

    def bootstrapped(statistic: Statistic) -> Estimate:
        return bootstrap(statistic, labels, probabilities, weights)

    return Scores(
        n=len(labels),
        threshold=threshold,
        confusion=counts,
        accuracy=wilson(counts.tp + counts.tn, len(labels)),
        sensitivity=wilson(counts.tp, counts.tp + counts.fn),
        specificity=wilson(counts.tn, counts.tn + counts.fp),
        precision=wilson(counts.tp, counts.tp + counts.fp),
        f1=bootstrapped(partial(_f1, threshold=threshold)),
        auc=bootstrapped(_auc),
        ece=bootstrapped(_ece),
        brier=bootstrapped(_brier),
        loss=bootstrapped(_log_loss),
    )


def wilson(successes: int, n: int) -> Estimate:
    """Return a proportion with its 95 % Wilson interval; undefined for n = 0."""
    if n == 0:
        return UNDEFINED
    low, high = proportion_confint(successes, n, method="wilson")
    value = successes / n
    return Estimate(value, min(value, max(0.0, float(low))), max(value, min(1.0, float(high))))


def mcnemar_p(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Return the P value of the exact McNemar test of two models on the same slices.

    Args:
        labels: 0 or 1, int [n].
        first: Decisions of one model, bool [n], True for positive.
        second: Decisions of the other model, bool [n].
    """
    right, other = first == (labels == 1), second == (labels == 1)
    table = [[(right & other).sum(), (right & ~other).sum()], [(~right & other).sum(), (~right & ~other).sum()]]
    return float(mcnemar(table, exact=True).pvalue)


def resamples(labels: np.ndarray, seed: int) -> np.ndarray:
    """Draw bootstrap resamples within each class.

    Args:
        labels: 0 or 1, int [n].
        seed: Seed of the generator.

    Returns:
        How often each slice is drawn in each resample, float [BOOTSTRAPS, n].
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((BOOTSTRAPS, len(labels)))
    for label in (0, 1):
        places = np.flatnonzero(labels == label)
        if len(places):
            weights[:, places] = generator.multinomial(len(places), np.full(len(places), 1 / len(places)), BOOTSTRAPS)
    return weights


def bootstrap(statistic: Statistic, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return a statistic with the 2.5th and the 97.5th percentile of its resamples as its interval.

    The interval is widened where it misses the value: resampling biases the ECE upwards.

    Args:
        statistic: The metric.
        labels: 0 or 1, int [n].
        probabilities: P(positive), float [n].
        weights: The resamples, float [b, n], from `resamples`.
    """
    if len(labels) == 0:
        return UNDEFINED
    value = float(statistic(labels, probabilities, np.ones((1, len(labels))))[0])
    if np.isnan(value):
        return UNDEFINED
    low, high = np.percentile(statistic(labels, probabilities, weights), [2.5, 97.5])
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def _f1(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, threshold: float) -> np.ndarray:
    called, truth = probabilities >= threshold, labels == 1
    if truth.all() or not truth.any():
        return np.full(len(weights), np.nan)
    hits, calls, positives = weights @ (called & truth), weights @ called, weights @ truth
    return np.asarray(2 * hits / (calls + positives))


def _auc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the share of positive-negative pairs in the right order; ties count half."""
    truth = labels == 1
    if truth.all() or not truth.any():
        return np.full(len(weights), np.nan)
    _, rank = np.unique(probabilities, return_inverse=True)
    order = np.argsort(rank, kind="stable")
    starts = np.flatnonzero(np.diff(rank[order], prepend=-1))
    positives, negatives = (
        np.add.reduceat((weights * of_class)[:, order], starts, axis=1) for of_class in (truth, ~truth)
    )
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return np.asarray((positives * below).sum(1) / (positives.sum(1) * negatives.sum(1)))


def _ece(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = weights @ ((probabilities - labels)[:, np.newaxis] * np.eye(bins)[index])
    return np.asarray(np.abs(gaps).sum(1) / weights.sum(1))


def _brier(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights @ (probabilities - labels) ** 2 / weights.sum(1))


def _log_loss(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    losses = -np.log(np.clip(np.where(labels == 1, probabilities, 1 - probabilities), SMALLEST, 1))
    return np.asarray(weights @ losses / weights.sum(1))


def _fields(struct: msgspec.Struct) -> list[tuple[str, object]]:
    return [(name, getattr(struct, name)) for name in struct.__struct_fields__]
