"""What turns a converted file's logits into decisions, fitted on that file's own outputs on the calibration split."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from edge_ct.errors import DataRejected
from edge_ct.manifest import Calibration, OperatingPoint, Zone

Method = Literal["none", "temperature", "platt"]
_FOLDS = 5
_SMALLEST = 1e-7


def fit_calibration(differences: np.ndarray, labels: np.ndarray, split: str) -> Calibration:
    """The simplest method that is as good as the best. differences: logit[1] - logit[0], float [n]; labels: 0 or 1 [n].

    Nothing, a temperature and Platt scaling are compared by the log loss of five-fold cross-validation; the first whose
    loss is within one standard error of the best one's is refitted on all cases. (Isotonic regression is not among
    them: its steps tie slices, which the operating point and the conformal zone need ranked.)

    Raises `DataRejected` for fewer than five cases of a class, and where the scores do not rank positives above
    negatives.
    """
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    if min(positives, negatives) < _FOLDS:
        raise DataRejected(
            f"too few {split} cases to calibrate on: {positives} positive and {negatives} negative ones, "
            f"at least {_FOLDS} of each are needed"
        )
    if platt(differences, labels)[0] <= 0:
        raise DataRejected(f"on the {split} split the network does not rank {positives} positives above negatives")
    losses = {method: _cross_validated(fit, differences, labels) for method, fit in _METHODS.items()}
    best = min(losses.values(), key=np.mean)
    chosen: Method = next(
        method
        for method, own in losses.items()
        if np.mean(own - best) <= np.std(own - best, ddof=1) / math.sqrt(len(labels)) + 1e-12
    )
    slope, intercept = _METHODS[chosen](differences, labels)
    return Calibration(slope, intercept, split, positives, negatives, chosen)


def platt(differences: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and intercept, with Platt's smoothed targets (1999, section 2.2), so that a perfectly separated split does
    not give an infinite slope."""
    return _logistic(differences, labels, intercept=True)


def temperature(differences: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The slope alone, which is 1 over the temperature (Guo et al. 2017); targets as Platt's."""
    return _logistic(differences, labels, intercept=False)


def _nothing(differences: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    return 1.0, 0.0


# From the simplest on.
_METHODS: dict[Method, Callable[[np.ndarray, np.ndarray], tuple[float, float]]] = {
    "none": _nothing,
    "temperature": temperature,
    "platt": platt,
}


def _logistic(differences: np.ndarray, labels: np.ndarray, intercept: bool) -> tuple[float, float]:
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # A soft target is two samples, one of each label, weighted by it.
    both = np.concatenate([differences, differences])[:, np.newaxis]
    hard = np.concatenate([np.ones(len(labels)), np.zeros(len(labels))])
    model = LogisticRegression(C=1e6, max_iter=1000, fit_intercept=intercept)
    fit = model.fit(both, hard, np.concatenate([target, 1 - target]))
    return float(fit.coef_[0, 0]), float(fit.intercept_[0]) if intercept else 0.0


def _cross_validated(
    fit: Callable[[np.ndarray, np.ndarray], tuple[float, float]], differences: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Log loss of each case, in nats, where the other folds were fitted on; float [n]."""
    losses = np.zeros(len(labels))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    for others, own in folds.split(differences, labels):
        slope, intercept = fit(differences[others], labels[others])
        p = 1 / (1 + np.exp(-np.clip(slope * differences[own] + intercept, -500, 500)))
        losses[own] = -np.log(np.clip(np.where(labels[own] == 1, p, 1 - p), _SMALLEST, 1))
    return losses


def operating_point(probabilities: np.ndarray, labels: np.ndarray, target_sensitivity: float) -> OperatingPoint:
    """The highest threshold at which at least `target_sensitivity` of the positives are called positive.

    Never above 0.5: a good network must not have its sensitivity spent down to the target.
    """
    positives = np.sort(probabilities[labels == 1])
    misses = math.floor((1 - target_sensitivity) * len(positives) + 1e-9)
    return OperatingPoint(min(0.5, float(positives[misses])), target_sensitivity)


def needed_cases(level: float) -> int:
    """Calibration cases that each class needs for conformal prediction at `level`: 19 for 95 %, 99 for 99 %."""
    return math.ceil(level / (1 - level) - 1e-9)


def conformal_zone(probabilities: np.ndarray, labels: np.ndarray, level: float) -> Zone | None:
    """Class-conditional split conformal prediction (Vovk 2012); None where a class has too few cases.

    A class stays possible unless its probability is below that of all but a share 1 - level of its own cases.
    """
    positives, negatives = np.sort(probabilities[labels == 1]), np.sort(probabilities[labels == 0])
    if min(len(positives), len(negatives)) < needed_cases(level):
        return None
    # The (n + 1)(1 - level)-th smallest probability of a class, counted from its unlikely end, rounded down.
    low = math.floor((1 - level) * (len(positives) + 1) + 1e-9) - 1
    high = math.floor((1 - level) * (len(negatives) + 1) + 1e-9)
    return Zone(level, float(positives[low]), float(negatives[len(negatives) - high]), len(positives), len(negatives))
