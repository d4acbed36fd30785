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
    few = np.linspace(0.1, 0.9, 2 * (cases - 1))
    assert calibrate.fit_conformal_zone(few, np.arange(len(few)) % 2, level) is None
    enough = np.linspace(0.1, 0.9, 2 * cases)
    assert calibrate.fit_conformal_zone(enough, np.arange(len(enough)) % 2, level) is not None


def test_zone_with_the_least_cases_reaches_to_the_extremes() -> None:
    positives, negatives = np.linspace(0.3, 0.99, 19), np.linspace(0.01, 0.6, 19)
    p, labels = np.concatenate([positives, negatives]), np.array([1] * 19 + [0] * 19)
    zone = calibrate.fit_conformal_zone(p, labels, 0.95)
    assert zone is not None
    assert zone.positive_from == pytest.approx(0.3)
    assert zone.negative_to == pytest.approx(0.6)


def test_zone_covers_each_class_at_its_level_on_fresh_cases() -> None:
    covered = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        labels = np.arange(80) % 2
        p = expit(generator.normal(2 * (labels - 0.5), 1.0))
        zone = calibrate.fit_conformal_zone(p, labels, 0.9)
        assert zone is not None
        fresh_positive, fresh_negative = expit(generator.normal(1, 1, 200)), expit(generator.normal(-1, 1, 200))
        covered.append(((fresh_positive >= zone.positive_from).mean(), (fresh_negative <= zone.negative_to).mean()))
    # Exactly (n + 1 - k) / (n + 1) in expectation, here 37 / 41; the mean of 200 has a standard error of 0.004.
    assert np.mean(covered, axis=0) == pytest.approx([37 / 41, 37 / 41], abs=0.012)
