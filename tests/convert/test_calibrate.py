"""Platt scaling, operating point and conformal zone against hand counts and other routes."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from edge_ct.convert import calibrate
from edge_ct.errors import DataRejected


def scores(n: int, gap: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return generator.normal(gap * (labels - 0.5), 1.0), labels


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_each_method_minimises_the_cross_entropy_of_smoothed_targets(method: str) -> None:
    differences, labels = scores(200, 1.5)
    found = getattr(calibrate, f"fit_{method}")(differences, labels)
    targets = np.where(labels == 1, 101 / 102, 1 / 102)

    def loss(parameters: np.ndarray) -> float:
        p = expit(parameters[0] * differences + (parameters[1] if len(parameters) > 1 else 0))
        return float(-(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum())

    best = minimize(loss, [1.0, 0.0] if method == "platt" else [1.0], method="BFGS").x
    assert found[0] == pytest.approx(best[0], rel=1e-3)
    assert found[1] == pytest.approx(best[1] if method == "platt" else 0, abs=1e-3)


def logits(n: int, slope: float, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the probabilities of true logits, and these logits as a network states them."""
    generator = np.random.default_rng(seed)
    true = generator.normal(0, 2.5, n)
    return true * slope + shift, (generator.random(n) < expit(true)).astype(int)


@pytest.mark.parametrize(
    ("slope", "shift", "method"), [(1.0, 0.0, "none"), (4.0, 0.0, "temperature"), (1.0, 2.5, "platt")]
)
def test_the_simplest_method_that_is_good_enough_is_taken(slope: float, shift: float, method: str) -> None:
    found = calibrate.fit_calibration(*logits(600, slope, shift), "validation")
    assert found.method == method
    fresh, labels = logits(5000, slope, shift, seed=1)
    p = expit(found.slope * fresh + found.intercept)
    bins = np.minimum((p * 10).astype(int), 9)
    gaps = [abs((p - labels)[bins == own].mean()) * (bins == own).mean() for own in range(10) if (bins == own).any()]
    assert sum(gaps) < 0.03


@pytest.mark.parametrize(("positives", "negatives"), [(4, 50), (50, 4), (0, 30)])
def test_too_few_cases_are_refused(positives: int, negatives: int) -> None:
    labels = np.array([1] * positives + [0] * negatives)
    with pytest.raises(DataRejected, match=f"{positives} positive and {negatives} negative"):
        calibrate.fit_calibration(labels * 2.0 - 1, labels, "validation")


def test_perfect_separation_gives_a_finite_slope() -> None:
    labels = np.arange(60) % 2
    slope, intercept = calibrate.fit_platt(np.where(labels == 1, 5.0, -5.0), labels)
    assert expit(slope * 5 + intercept) == pytest.approx(31 / 32, abs=1e-3)


def test_a_network_that_ranks_the_wrong_way_round_is_refused() -> None:
    differences, labels = scores(200, 1.5)
    with pytest.raises(DataRejected, match="does not rank"):
        calibrate.fit_calibration(-differences, labels, "validation")


def test_operating_point_is_the_highest_threshold_that_keeps_the_sensitivity() -> None:
    labels = np.array([1] * 10 + [0] * 3)
    p = np.array([0.05, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.01, 0.4])
    assert calibrate.choose_operating_point(p, labels, 1.0).threshold == 0.05
    assert calibrate.choose_operating_point(p, labels, 0.9).threshold == 0.2
    assert calibrate.choose_operating_point(p, labels, 0.85).threshold == 0.2
    assert calibrate.choose_operating_point(p, labels, 0.8).threshold == 0.3


def test_operating_point_is_never_above_one_half() -> None:
    labels = np.array([1] * 10 + [0] * 3)
    assert calibrate.choose_operating_point(np.linspace(0.7, 0.99, 13), labels, 0.9).threshold == 0.5


@pytest.mark.parametrize(("level", "cases"), [(0.95, 19), (0.99, 99), (0.9, 9), (0.5, 1)])
def test_conformal_levels_need_their_cases(level: float, cases: int) -> None:
    assert calibrate.cases_needed(level) == cases
    for positives, negatives, fits in ((cases - 1, cases, False), (cases, cases - 1, False), (cases, cases, True)):
        labels = np.array([1] * positives + [0] * negatives)
        p = np.linspace(0.1, 0.9, len(labels))
        assert (calibrate.fit_decision_rule(p, labels, level, level) is not None) == fits


def test_a_rule_with_the_least_cases_reaches_to_the_extremes() -> None:
    positives, negatives = np.linspace(0.3, 0.99, 19), np.linspace(0.01, 0.6, 19)
    p, labels = np.concatenate([positives, negatives]), np.array([1] * 19 + [0] * 19)
    rule = calibrate.fit_decision_rule(p, labels, 0.95, 0.95)
    assert rule is not None
    assert (rule.negative_below, rule.positive_from) == (0.3, np.nextafter(0.6, 1))
    assert (rule.positives, rule.negatives, rule.source) == (19, 19, "conformal")


def test_thresholds_by_hand_at_two_levels() -> None:
    """Of 99 positives one may be missed at 99 %; of 39 negatives two may be false alarms at 95 %."""
    positives, negatives = np.arange(2, 101) / 101, np.arange(1, 40) / 50
    p, labels = np.concatenate([positives, negatives]), np.array([1] * 99 + [0] * 39)
    rule = calibrate.fit_decision_rule(p, labels, 0.99, 0.95)
    assert rule is not None
    assert rule.negative_below == 2 / 101
    assert rule.positive_from == np.nextafter(38 / 50, 1)


@pytest.mark.parametrize(("positives", "negatives", "threshold"), [(0.9, 0.1, 0.5), (0.9, 0.7, 0.7), (0.3, 0.1, 0.3)])
def test_one_threshold_decides_where_it_keeps_both_promises(
    positives: float, negatives: float, threshold: float
) -> None:
    """The one nearest to 0.5: a good network must not give its sensitivity away down to the promise."""
    p, labels = np.array([positives] * 30 + [negatives] * 30), np.array([1] * 30 + [0] * 30)
    rule = calibrate.fit_decision_rule(p, labels, 0.95, 0.95)
    assert rule is not None
    assert rule.negative_below == rule.positive_from == pytest.approx(threshold)


def test_the_promises_hold_on_fresh_cases() -> None:
    kept = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        labels = np.arange(80) % 2
        p = expit(generator.normal(2 * (labels - 0.5), 1.0))
        rule = calibrate.fit_decision_rule(p, labels, 0.9, 0.9)
        assert rule is not None
        fresh_positive, fresh_negative = expit(generator.normal(1, 1, 200)), expit(generator.normal(-1, 1, 200))
        kept.append(((fresh_positive >= rule.negative_below).mean(), (fresh_negative < rule.positive_from).mean()))
    # Exactly (n + 1 - k) / (n + 1) in expectation, here 37 / 41; the mean of 200 has a standard error of 0.004.
    assert np.mean(kept, axis=0) == pytest.approx([37 / 41, 37 / 41], abs=0.012)


def test_no_temperature_below_zero_is_chosen() -> None:
    # Every logit says positive, and the more so for positives: without an intercept the best slope is below 0.
    labels = np.repeat([0, 1], [80, 20])
    differences = np.random.default_rng(0).normal(3 + 0.05 * labels, 0.1)
    assert calibrate.fit_temperature(differences, labels)[0] < 0
    assert calibrate.fit_calibration(differences, labels, "validation").slope > 0
