"""Calibration, operating point and zone of refer of a converted file, fitted on its own outputs.

They are fitted on the calibration split, which is not the split that metrics are reported on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from edge_ct.errors import DataRejected
from edge_ct.manifest import Calibration, DecisionRule, OperatingPoint
from edge_ct.reporting.counts import count_of

Method = Literal["none", "temperature", "platt"]
_FOLDS = 5
_SMALLEST_P = 1e-7


def fit_calibration(differences: np.ndarray, labels: np.ndarray, split: str) -> Calibration:
    """Fit the simplest calibration that is as good as the best.

    No calibration, a temperature and Platt scaling are compared by the log loss of five-fold cross-validation. The
    first whose loss is within one standard error of the best is refitted on all cases. Isotonic regression is not among
    them: its steps tie slices, which the operating point and the conformal zone need ranked.

    Args:
        differences: logit[1] - logit[0], float [n].
        labels: 0 or 1, [n].
        split: Name of the split that the cases are of.

    Raises:
        DataRejected: A class has fewer than five cases, or the scores do not rank positives above negatives.
    """
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    if min(positives, negatives) < _FOLDS:
        raise DataRejected(
            f"too few {split} cases to calibrate on: {positives} positive and {negatives} negative ones, "
            f"but at least {_FOLDS} of each are needed"
        )
    if fit_platt(differences, labels)[0] <= 0:
        raise DataRejected(
            f"the network cannot be calibrated: on the {split} split it does not rank "
            f"{count_of(positives, 'positive slice')} "
            f"above the {negatives} negative ones; train it again"
        )
    # Without an intercept, a network that is far off may be fitted best by a slope below 0.
    methods = {method: fit for method, fit in _METHODS.items() if fit(differences, labels)[0] > 0}
    losses = {method: _cross_validated(fit, differences, labels) for method, fit in methods.items()}
    best = min(losses.values(), key=np.mean)
    chosen: Method = next(
        method
        for method, loss in losses.items()
        if np.mean(loss - best) <= np.std(loss - best, ddof=1) / math.sqrt(len(labels)) + 1e-12
    )
    slope, intercept = _METHODS[chosen](differences, labels)
    return Calibration(slope, intercept, split, positives, negatives, chosen)


def fuse_lesions(
    calibration: Calibration, differences: np.ndarray, lesions: np.ndarray, labels: np.ndarray
) -> Calibration:
    """Let the lesion map take part in the decision where that clearly helps.

    Args:
        calibration: The calibration by the logits alone.
        differences: logit[1] - logit[0], float [n].
        lesions: The logit of the strongest lesion of each slice, float [n].
        labels: 0 or 1, [n].

    Returns:
        Platt scaling of both; the calibration unchanged if the log loss of five-fold cross-validation does not fall by
        more than one standard error, or if a factor is not above 0.
    """
    both = np.column_stack([differences, lesions])
    plain = _cross_validated(_METHODS[calibration.method], differences, labels)
    fused = np.zeros(len(labels))
    for others, fold in StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(both, labels):
        factors, offset = _fit_both(both[others], labels[others])
        p = 1 / (1 + np.exp(-np.clip(both[fold] @ factors + offset, -500, 500)))
        fused[fold] = -np.log(np.clip(np.where(labels[fold] == 1, p, 1 - p), _SMALLEST_P, 1))
    gain = plain - fused
    (slope, lesion_slope), intercept = _fit_both(both, labels)
    if gain.mean() <= np.std(gain, ddof=1) / math.sqrt(len(labels)) or min(slope, lesion_slope) <= 0:
        return calibration
    return msgspec.structs.replace(
        calibration, slope=float(slope), intercept=intercept, method="platt", lesion_slope=float(lesion_slope)
    )


def _fit_both(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    fit = LogisticRegression(C=1e6, max_iter=1000).fit(features, labels)
    return np.asarray(fit.coef_[0]), float(fit.intercept_[0])


def fit_platt(differences: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Fit slope and intercept by Platt scaling.

    Platt's smoothed targets (1999, section 2.2) keep the slope finite on a perfectly separated split.

    Args:
        differences: logit[1] - logit[0], float [n].
        labels: 0 or 1, [n].

    Returns:
        Slope and intercept.
    """
    return _logistic(differences, labels, intercept=True)


def fit_temperature(differences: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Fit the slope alone, 1 / temperature (Guo et al. 2017), on Platt's targets; arguments as in `fit_platt`."""
    return _logistic(differences, labels, intercept=False)


def _no_calibration(differences: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    return 1.0, 0.0


# From the simplest to the most flexible.
_METHODS: dict[Method, Callable[[np.ndarray, np.ndarray], tuple[float, float]]] = {
    "none": _no_calibration,
    "temperature": fit_temperature,
    "platt": fit_platt,
}


def _logistic(differences: np.ndarray, labels: np.ndarray, intercept: bool) -> tuple[float, float]:
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # A soft target is represented by two samples, one of each label, with the target as their weight.
    both = np.concatenate([differences, differences])[:, np.newaxis]
    hard = np.concatenate([np.ones(len(labels)), np.zeros(len(labels))])
    model = LogisticRegression(C=1e6, max_iter=1000, fit_intercept=intercept)
    fit = model.fit(both, hard, np.concatenate([target, 1 - target]))
    return float(fit.coef_[0, 0]), float(fit.intercept_[0]) if intercept else 0.0


def _cross_validated(
    fit: Callable[[np.ndarray, np.ndarray], tuple[float, float]], differences: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Return the log loss of each case in nats, fitted on the other folds; float [n]."""
    losses = np.zeros(len(labels))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    for others, fold in folds.split(differences, labels):
        slope, intercept = fit(differences[others], labels[others])
        p = 1 / (1 + np.exp(-np.clip(slope * differences[fold] + intercept, -500, 500)))
        losses[fold] = -np.log(np.clip(np.where(labels[fold] == 1, p, 1 - p), _SMALLEST_P, 1))
    return losses


def choose_operating_point(probabilities: np.ndarray, labels: np.ndarray, target_sensitivity: float) -> OperatingPoint:
    """Choose the highest threshold that keeps the target sensitivity.

    It is never above 0.5, so that a good network does not give away its sensitivity down to the target.

    Args:
        probabilities: Calibrated P(positive), float [n].
        labels: 0 or 1, [n].
        target_sensitivity: Smallest share of positives that must be called positive, 0 to 1.
    """
    positives = np.sort(probabilities[labels == 1])
    misses = math.floor((1 - target_sensitivity) * len(positives) + 1e-9)
    return OperatingPoint(min(0.5, float(positives[misses])), target_sensitivity)


def cases_needed(level: float) -> int:
    """Return the cases per class that conformal prediction at `level` needs: 19 for 95 %, 99 for 99 %."""
    return math.ceil(level / (1 - level) - 1e-9)


def fit_decision_rule(
    probabilities: np.ndarray, labels: np.ndarray, sensitivity: float, specificity: float
) -> DecisionRule | None:
    """Fit the two thresholds that decide, by class-conditional split conformal prediction (Vovk 2012).

    A new positive case lies below the threshold for negative with a probability of at most 1 - sensitivity, and a new
    negative case at or above the threshold for positive with at most 1 - specificity. Where one threshold keeps both
    promises, it is the one nearest to 0.5, and nothing is referred.

    Args:
        probabilities: Calibrated P(positive), float [n].
        labels: 0 or 1, [n].
        sensitivity: Share of positive cases that must not be called negative, 0 to 1.
        specificity: Share of negative cases that must not be called positive, 0 to 1.

    Returns:
        The rule; None if a class has too few cases, see `cases_needed`.
    """
    positives, negatives = np.sort(probabilities[labels == 1]), np.sort(probabilities[labels == 0])
    if len(positives) < cases_needed(sensitivity) or len(negatives) < cases_needed(specificity):
        return None
    missed = math.floor((1 - sensitivity) * (len(positives) + 1) + 1e-9)
    alarms = math.floor((1 - specificity) * (len(negatives) + 1) + 1e-9)
    negative_below = float(positives[missed - 1])
    positive_from = math.nextafter(float(negatives[len(negatives) - alarms]), math.inf)
    if positive_from <= negative_below:
        negative_below = positive_from = min(max(0.5, positive_from), negative_below)
    return DecisionRule(negative_below, positive_from, sensitivity, specificity, len(positives), len(negatives))
