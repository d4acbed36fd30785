"""Accuracy and its kin, each with a 95 % interval. Not imported by the device.

Proportions have Wilson intervals; F1, AUC, expected calibration error (ECE) and Brier score have percentile bootstrap
intervals, resampled within each class. Slices count as independent; where groups are large the true intervals are
wider.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from .manifest import Estimate

BOOTSTRAPS = 1000
ECE_BINS = 15


class Confusion(msgspec.Struct, frozen=True):
    """Counts of true and false positives and negatives."""

    tp: int
    fp: int
    tn: int
    fn: int


class Scores(msgspec.Struct, frozen=True):
    """All metrics of one model on one set of slices, at one threshold."""

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

    def estimates(self) -> dict[str, Estimate]:
        """Metric name -> estimate, in the order of the class."""
        return {name: value for name, value in _fields(self) if isinstance(value, Estimate)}


def confusion(labels: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5) -> Confusion:
    """Count decisions of `probabilities >= threshold`, float [n], against labels, 0 or 1 [n]."""
    positive, truth = probabilities >= threshold, labels == 1
    return Confusion(
        tp=int((positive & truth).sum()),
        fp=int((positive & ~truth).sum()),
        tn=int((~positive & ~truth).sum()),
        fn=int((~positive & truth).sum()),
    )


def score(labels: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5, seed: int = 0) -> Scores:
    """Score P(positive), float [n], against labels, 0 or 1 [n]."""
    counts = confusion(labels, probabilities, threshold)

    def resampled(statistic: Callable[[np.ndarray, np.ndarray], float], both_classes: bool) -> Estimate:
        return bootstrap(statistic, labels, probabilities, seed, both_classes)

    return Scores(
        n=len(labels),
        threshold=threshold,
        confusion=counts,
        accuracy=wilson(counts.tp + counts.tn, len(labels)),
        sensitivity=wilson(counts.tp, counts.tp + counts.fn),
        specificity=wilson(counts.tn, counts.tn + counts.fp),
        precision=wilson(counts.tp, counts.tp + counts.fp),
        f1=resampled(lambda y, p: float(f1_score(y, p >= threshold, zero_division=0)), both_classes=True),
        auc=resampled(lambda y, p: float(roc_auc_score(y, p)), both_classes=True),
        ece=resampled(expected_calibration_error, both_classes=False),
        brier=resampled(lambda y, p: float(brier_score_loss(y, p, pos_label=1)), both_classes=False),
    )


def wilson(successes: int, n: int) -> Estimate:
    """A proportion with its 95 % Wilson interval; undefined for n = 0."""
    if n == 0:
        return Estimate(None, None, None)
    low, high = proportion_confint(successes, n, method="wilson")
    return Estimate(successes / n, max(0.0, float(low)), min(1.0, float(high)))


def bootstrap(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    labels: np.ndarray,
    probabilities: np.ndarray,
    seed: int,
    both_classes: bool,
) -> Estimate:
    """A statistic with its 95 % percentile interval over `BOOTSTRAPS` resamples, stratified by label."""
    by_class = [np.flatnonzero(labels == label) for label in (0, 1)]
    if len(labels) == 0 or (both_classes and min(map(len, by_class)) == 0):
        return Estimate(None, None, None)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(BOOTSTRAPS):
        drawn = np.concatenate([generator.choice(own, len(own)) for own in by_class if len(own)])
        values.append(statistic(labels[drawn], probabilities[drawn]))
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(statistic(labels, probabilities), float(low), float(high))


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = ECE_BINS) -> float:
    """Mean gap between P(positive) and the share of positives over equal-width bins (Naeini et al. 2015)."""
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = np.bincount(index, probabilities - labels, bins)
    return float(np.abs(gaps).sum() / len(labels))


def mcnemar_p(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Exact McNemar test of two models' decisions, bool [n], on the same slices: P of so unequal a disagreement."""
    right, other = first == (labels == 1), second == (labels == 1)
    table = [[(right & other).sum(), (right & ~other).sum()], [(~right & other).sum(), (~right & ~other).sum()]]
    return float(mcnemar(table, exact=True).pvalue)


def _fields(struct: msgspec.Struct) -> list[tuple[str, object]]:
    return [(name, getattr(struct, name)) for name in struct.__struct_fields__]
