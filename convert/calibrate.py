"""What turns a converted file's logits into decisions, fitted on that file's own outputs on the calibration split."""

from __future__ import annotations

import math

import numpy as np
from sklearn.linear_model import LogisticRegression

from edge_ct.errors import DataRejected
from edge_ct.manifest import Calibration, OperatingPoint, Zone


def fit_calibration(differences: np.ndarray, labels: np.ndarray, split: str) -> Calibration:
    """Platt scaling. differences: logit[1] - logit[0], float [n]; labels: 0 or 1 [n].

    With Platt's smoothed targets (1999, section 2.2), so that a perfectly separated split does not give an infinite
    slope. Raises `DataRejected` where the scores do not rank positives above negatives.
    """
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # A soft target is two samples, one of each label, weighted by it.
    both = np.concatenate([differences, differences])[:, np.newaxis]
    hard = np.concatenate([np.ones(len(labels)), np.zeros(len(labels))])
    fit = LogisticRegression(C=1e6, max_iter=1000).fit(both, hard, np.concatenate([target, 1 - target]))
    slope = float(fit.coef_[0, 0])
    if slope <= 0:
        raise DataRejected(f"on the {split} split the network does not rank {positives} positives above negatives")
    return Calibration(slope, float(fit.intercept_[0]), split, positives, negatives)


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
