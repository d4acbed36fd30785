"""Decisions: SciPy's logistic function, and the two thresholds by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from edge_ct.decision import REFERRED, SeriesVerdict, Verdict, decide, decide_series, probability
from edge_ct.manifest import Calibration, DecisionRule, OperatingPoint, Zone

POINT = DecisionRule.from_operating_point(OperatingPoint(0.4, 0.98), 40, 40)
RULE = DecisionRule(0.3, 0.7, 0.99, 0.95, 120, 130)
LOGIT = st.floats(-1e4, 1e4, width=32)


def zone(positive_from: float, negative_to: float) -> DecisionRule:
    return DecisionRule.from_zone(Zone(0.95, positive_from, negative_to, 40, 40))


def calibration(slope: float = 1.0, intercept: float = 0.0) -> Calibration:
    return Calibration(slope, intercept, "validation", 40, 40)


@given(LOGIT, LOGIT, st.floats(1e-3, 100), st.floats(-100, 100))
def test_probability_is_the_logistic_function(negative: float, positive: float, slope: float, intercept: float) -> None:
    p = probability(np.array([negative, positive], np.float32), calibration(slope, intercept))
    expected = expit(slope * (float(positive) - float(negative)) + intercept)
    assert p == pytest.approx(expected, rel=1e-12, abs=1e-300)
    assert 0 <= p <= 1


@pytest.mark.parametrize("score", [-3e38, -1e5, -800.0, -745.0, -1.0, 0.0, 1.0, 36.0, 710.0, 1e5, 3e38])
def test_probability_of_extreme_scores_does_not_overflow(score: float) -> None:
    p = probability(np.array([0, score], np.float32), calibration())
    assert p == pytest.approx(float(expit(np.float64(np.float32(score)))), rel=1e-12)


def test_probability_by_hand() -> None:
    # 1.5 (2 - 1) - 0.25 = 1.25; 1 / (1 + e^-1.25) = 0.7773.
    assert probability(np.array([1, 2], np.float32), calibration(1.5, -0.25)) == pytest.approx(0.77730, abs=5e-6)


def test_probability_does_not_lose_the_difference_of_large_logits() -> None:
    """The two logits are subtracted as doubles: 2^24 + 2 and 2^24 are neighbours in single precision."""
    assert probability(np.array([2**24, 2**24 + 2], np.float32), calibration()) == pytest.approx(expit(2.0))


@pytest.mark.parametrize(
    ("p", "decision"),
    [
        *((p, "negative") for p in (0.0, 0.1, 0.2999)),
        *((p, "refer") for p in (0.3, 0.5, 0.6999)),
        *((p, "positive") for p in (0.7, 0.9, 1.0)),
    ],
)
def test_two_thresholds_decide(p: float, decision: str) -> None:
    assert decide(p, RULE) == Verdict(decision, REFERRED if decision == "refer" else None)


def test_thresholds_that_meet_refer_nothing() -> None:
    rule = DecisionRule(0.5, 0.5, 0.99, 0.95, 120, 130)
    assert [decide(p, rule).decision for p in (0.4999, 0.5, 0.5001)] == ["negative", "positive", "positive"]


def test_thresholds_that_cross_are_refused() -> None:
    with pytest.raises(ValueError, match="above the threshold for positive"):
        DecisionRule(0.6, 0.5, 0.99, 0.95, 120, 130)


@pytest.mark.parametrize(
    ("p", "decision"),
    [(0.0, "negative"), (0.3999, "negative"), (0.4, "positive"), (0.5, "positive"), (1.0, "positive")],
)
def test_an_old_bundle_without_a_zone_decides_by_its_operating_point(p: float, decision: str) -> None:
    assert decide(p, POINT) == Verdict(decision)


@pytest.mark.parametrize(
    ("p", "decision"),
    [
        # Overlapping: between 0.3 and 0.7 neither class can be ruled out.
        *((p, "negative") for p in (0.0, 0.1, 0.2999)),
        *((p, "refer") for p in (0.3, 0.5, 0.7)),
        *((p, "positive") for p in (0.7001, 1.0)),
    ],
)
def test_an_old_zone_in_which_both_classes_are_plausible(p: float, decision: str) -> None:
    assert decide(p, zone(positive_from=0.3, negative_to=0.7)).decision == decision


@pytest.mark.parametrize(
    ("p", "decision"),
    [
        # Apart: between 0.3 and 0.7 both classes are ruled out.
        *((p, "negative") for p in (0.0, 0.2999, 0.3)),
        *((p, "refer") for p in (0.3001, 0.5, 0.6999)),
        *((p, "positive") for p in (0.7, 1.0)),
    ],
)
def test_an_old_zone_in_which_neither_class_is_plausible(p: float, decision: str) -> None:
    assert decide(p, zone(positive_from=0.7, negative_to=0.3)).decision == decision


def test_an_old_zone_of_one_point() -> None:
    assert [decide(p, zone(0.5, 0.5)).decision for p in (0.4999, 0.5, 0.5001)] == ["negative", "refer", "positive"]


@pytest.mark.parametrize("rule", [RULE, POINT, zone(0.3, 0.7), zone(0.7, 0.3)])
def test_nan_is_never_a_clean_bill(rule: DecisionRule) -> None:
    """A float graph may give NaN; that must not come out as negative."""
    p = probability(np.array([math.nan, 1.0], np.float32), calibration())
    assert decide(p, rule).decision in ("refer", "rejected")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_a_series_is_decided_by_the_mean_and_counts_by_the_same_rule(probabilities: list[float]) -> None:
    verdict = decide_series(probabilities, RULE)
    assert verdict is not None
    assert verdict.probability == pytest.approx(np.mean(probabilities), abs=1e-12)
    assert verdict.decision == decide(verdict.probability, RULE).decision
    assert verdict.slices == len(probabilities)
    assert verdict.positive_slices == sum(decide(p, RULE).decision == "positive" for p in probabilities)


def test_series_by_hand() -> None:
    # The mean of 0.9, 0.8, 0.1, 0.4 is 0.55; three of four reach the threshold of 0.4, two that of 0.7.
    assert decide_series([0.9, 0.8, 0.1, 0.4], POINT) == SeriesVerdict("positive", None, 0.55, 4, 3)
    assert decide_series([0.9, 0.8, 0.1, 0.4], RULE) == SeriesVerdict("refer", REFERRED, 0.55, 4, 2)


def test_series_may_be_negative_with_a_positive_slice() -> None:
    verdict = decide_series([0.9] + [0.05] * 9, RULE)
    assert verdict is not None
    assert (verdict.decision, verdict.positive_slices, verdict.slices) == ("negative", 1, 10)
    assert verdict.probability == pytest.approx(0.135)


def test_series_without_a_judged_slice_has_no_verdict() -> None:
    assert decide_series([], RULE) is None
