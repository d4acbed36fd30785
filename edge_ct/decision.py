"""Logits -> calibrated probability -> decision, for a slice and for a series: triage, never a diagnosis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from .manifest import Calibration, OperatingPoint, Zone

Decision = Literal["positive", "negative", "refer", "rejected"]


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
        positive_slices: Number of slices at or above the operating point, shown beside the decision.
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


def decide(p: float, operating_point: OperatingPoint, zone: Zone | None) -> Verdict:
    """Decide by the conformal zone, or by the operating point where the bundle has no zone.

    Args:
        p: Calibrated P(positive).
        operating_point: The threshold for positive.
        zone: The zone in which a slice is referred.
    """
    if math.isnan(p):
        return Verdict("refer", "the model returned NaN")
    if zone is None:
        return Verdict("positive" if p >= operating_point.threshold else "negative")
    may_be_positive, may_be_negative = p >= zone.positive_from, p <= zone.negative_to
    if may_be_positive == may_be_negative:
        return Verdict("refer", f"uncertain at the {zone.level:.0%} level: have it read, or test")
    return Verdict("positive" if may_be_positive else "negative")


def series_probability(probabilities: Sequence[float]) -> float:
    """Return P(positive) of a series or patient: the mean over its slices (Garg et al. 2020)."""
    return sum(probabilities) / len(probabilities)


def k_of_n(probabilities: Sequence[float], k: int) -> float:
    """Return the k-th highest probability: at any threshold up to it, at least k of the n slices are positive.

    For a series of fewer than k slices this is the lowest probability: all slices must be positive.
    """
    return sorted(probabilities, reverse=True)[min(k, len(probabilities)) - 1]


def decide_series(
    probabilities: Sequence[float], operating_point: OperatingPoint, zone: Zone | None
) -> SeriesVerdict | None:
    """Decide a series by the mean probability of its judged slices; None where no slice was judged."""
    if not probabilities:
        return None
    mean = series_probability(probabilities)
    verdict = decide(mean, operating_point, zone)
    positive = sum(p >= operating_point.threshold for p in probabilities)
    return SeriesVerdict(verdict.decision, verdict.reason, mean, len(probabilities), positive)
