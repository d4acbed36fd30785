"""Logits -> calibrated probability -> decision, for a slice and for a series: triage, never a diagnosis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from .manifest import Calibration, DecisionRule

Decision = Literal["positive", "negative", "refer", "rejected"]
REFERRED = "uncertain: between the thresholds for negative and positive; have it read, or test the patient"


class Verdict(msgspec.Struct, frozen=True):
    """A decision, and the reason where it is `refer` or `rejected`."""

    decision: Decision
    reason: str | None = None


class SeriesVerdict(msgspec.Struct, frozen=True):
    """The decision for a series: the mean probability of its slices decides (Garg et al. 2020).

    Attributes:
        decision: The decision.
        reason: Why the series is referred; None otherwise.
        probability: Mean calibrated P(positive) of the slices.
        slices: Number of slices that were judged.
        positive_slices: Number of slices that are `positive` by the same rule, shown beside the decision.
    """

    decision: Decision
    reason: str | None
    probability: float
    slices: int
    positive_slices: int


def probability(logits: np.ndarray, calibration: Calibration, lesion: float = 0.0) -> float:
    """Return the calibrated P(positive).

    Args:
        logits: float32 [2].
        calibration: How logits become a probability.
        lesion: What `lesions.strongest_lesion` gives for the lesion map; used where the calibration has a
            `lesion_slope`.
    """
    score = calibration.slope * (float(logits[1]) - float(logits[0])) + calibration.intercept
    if calibration.lesion_slope:
        score += calibration.lesion_slope * lesion
    # Neither branch can overflow.
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


def decide(p: float, rule: DecisionRule) -> Verdict:
    """Decide by the two thresholds of a bundle.

    Args:
        p: Calibrated P(positive).
        rule: The thresholds, `Manifest.decision_rule`.
    """
    if math.isnan(p):
        return Verdict("refer", "the model returned NaN")
    if p >= rule.positive_from:
        return Verdict("positive")
    if p < rule.negative_below:
        return Verdict("negative")
    return Verdict("refer", REFERRED)


def series_probability(probabilities: Sequence[float]) -> float:
    """Return P(positive) of a series or patient: the mean over its slices (Garg et al. 2020)."""
    return sum(probabilities) / len(probabilities)


def k_of_n(probabilities: Sequence[float], k: int) -> float:
    """Return the k-th highest probability: at any threshold up to it, at least k of the n slices are positive.

    For a series of fewer than k slices this is the lowest probability: all slices must be positive.
    """
    return sorted(probabilities, reverse=True)[min(k, len(probabilities)) - 1]


def decide_series(probabilities: Sequence[float], rule: DecisionRule) -> SeriesVerdict | None:
    """Decide a series by the mean probability of its judged slices; return None where no slice was judged.

    Args:
        probabilities: Calibrated P(positive) of each judged slice.
        rule: The thresholds, for the mean and for each slice.
    """
    if not probabilities:
        return None
    mean = series_probability(probabilities)
    verdict = decide(mean, rule)
    positive = sum(decide(p, rule).decision == "positive" for p in probabilities)
    return SeriesVerdict(verdict.decision, verdict.reason, mean, len(probabilities), positive)
