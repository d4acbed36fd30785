"""Outputs -> calibrated probability -> decision, for a slice and for a series. Wording: triage, never diagnosis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from .manifest import Calibration, OperatingPoint, Zone

Decision = Literal["positive", "negative", "refer", "rejected"]


class Verdict(msgspec.Struct, frozen=True):
    """A decision and, where it is `refer` or `rejected`, why."""

    decision: Decision
    reason: str | None = None


class SeriesVerdict(msgspec.Struct, frozen=True):
    """A series: the mean of its slices' probabilities decides (Garg et al. 2020); k of n is shown beside it."""

    decision: Decision
    reason: str | None
    probability: float
    slices: int
    positive_slices: int


def probability(logits: np.ndarray, calibration: Calibration) -> float:
    """Calibrated P(positive) of logits float32 [2]."""
    score = calibration.slope * (float(logits[1]) - float(logits[0])) + calibration.intercept
    # Written so that neither branch overflows.
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


def decide(p: float, operating_point: OperatingPoint, zone: Zone | None) -> Verdict:
    """Decide by the conformal zone; without one, by the operating point alone."""
    if math.isnan(p):
        return Verdict("refer", "the model gave no number")
    if zone is None:
        return Verdict("positive" if p >= operating_point.threshold else "negative")
    may_be_positive, may_be_negative = p >= zone.positive_from, p <= zone.negative_to
    if may_be_positive == may_be_negative:
        return Verdict("refer", f"uncertain at the {zone.level:.0%} level: have it read, or test")
    return Verdict("positive" if may_be_positive else "negative")


def series_probability(probabilities: Sequence[float]) -> float:
    """P(positive) of a series or patient: the mean of its slices' (Garg et al. 2020)."""
    return sum(probabilities) / len(probabilities)


def k_of_n(probabilities: Sequence[float], k: int) -> float:
    """The k-th highest of the slices' probabilities: at least k of n are positive at each threshold up to it.

    Of a series of fewer than k slices, the lowest: all of them must be positive.
    """
    return sorted(probabilities, reverse=True)[min(k, len(probabilities)) - 1]


def decide_series(
    probabilities: Sequence[float], operating_point: OperatingPoint, zone: Zone | None
) -> SeriesVerdict | None:
    """Decide a series by the mean of its judged slices; None where none was judged."""
    if not probabilities:
        return None
    mean = series_probability(probabilities)
    verdict = decide(mean, operating_point, zone)
    positive = sum(p >= operating_point.threshold for p in probabilities)
    return SeriesVerdict(verdict.decision, verdict.reason, mean, len(probabilities), positive)
