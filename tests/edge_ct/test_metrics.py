"""Metrics: by hand, and by other routes through other libraries."""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, rankdata
from sklearn import metrics as sklearn_metrics
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from edge_ct import metrics
from edge_ct.manifest import Estimate
from edge_ct.metrics import (
    ECE_BINS,
    Confusion,
    bootstrap,
    confusion,
    mcnemar_p,
    resamples,
    score,
    wilson,
)

UNDEFINED = Estimate(None, None, None)
RESAMPLES = 40


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = metrics.ECE_BINS) -> float:
    return float(metrics._ece(labels, probabilities, np.ones((1, len(labels))), bins)[0])


@pytest.fixture(autouse=True, scope="module")
def few_resamples() -> Iterator[None]:
    """1,000 resamples of eight metrics take seconds; what is tested here needs fewer."""
    assert metrics.BOOTSTRAPS == 1000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "BOOTSTRAPS", RESAMPLES)
        yield


def wilson_by_formula(successes: int, n: int) -> tuple[float, float]:
    """Wilson 1927: (p + z^2/2n -+ z sqrt(p (1-p) / n + z^2 / 4n^2)) / (1 + z^2/n), z the 97.5 % normal quantile."""
    z, p = 1.959963984540054, successes / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def sample(n: int, seed: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (np.arange(n) % 2).astype(np.int8)
    probabilities = 1 / (1 + np.exp(-sharpness * (generator.normal(size=n) + 2 * labels - 1)))
    # Rounded, so that there are ties.
    return labels, np.round(probabilities, 2)


def test_confusion_by_hand() -> None:
    labels = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    probabilities = np.array([0.9, 0.8, 0.5, 0.49, 0.1, 0.7, 0.5, 0.4, 0.3, 0.2, 0.0])
    assert confusion(labels, probabilities) == Confusion(tp=3, fp=2, tn=4, fn=2)
    assert confusion(labels, probabilities, 0.1) == Confusion(tp=5, fp=5, tn=1, fn=0)
    assert confusion(labels, probabilities, 0.95) == Confusion(tp=0, fp=0, tn=6, fn=5)


def test_two_by_two_table_by_hand() -> None:
    # tp 3, fp 2, tn 4, fn 2: accuracy 7/11, sensitivity 3/5, specificity 4/6, precision 3/5, F1 6/(6+2+2).
    labels = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    probabilities = np.array([0.9, 0.8, 0.5, 0.49, 0.1, 0.7, 0.5, 0.4, 0.3, 0.2, 0.0])
    scores = score(labels, probabilities)
    assert (scores.n, scores.threshold) == (11, 0.5)
    found = {name: scores.estimates()[name].value for name in ("accuracy", "sensitivity", "specificity", "precision")}
    assert found == pytest.approx({"accuracy": 7 / 11, "sensitivity": 0.6, "specificity": 4 / 6, "precision": 0.6})
    assert scores.f1.value == pytest.approx(0.6)
    # Pairs won by the positive, of 30: 0.9 and 0.8 win 6 each; 0.5 wins 4 and ties 1; 0.49 wins 4; 0.1 wins 1.
    assert scores.auc.value == pytest.approx((6 + 6 + 4.5 + 4 + 1) / 30)
    errors = [0.1, 0.2, 0.5, 0.51, 0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.0]
    assert scores.brier.value == pytest.approx(sum(error**2 for error in errors) / 11)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.83])
def test_scores_against_scikit_learn(threshold: float) -> None:
    labels, probabilities = sample(300, 1)
    called = probabilities >= threshold
    scores = score(labels, probabilities, threshold)
    tn, fp, fn, tp = sklearn_metrics.confusion_matrix(labels, called).ravel().tolist()
    assert scores.confusion == Confusion(tp=tp, fp=fp, tn=tn, fn=fn)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, called),
        "sensitivity": sklearn_metrics.recall_score(labels, called),
        "specificity": sklearn_metrics.recall_score(1 - labels, ~called),
        "precision": sklearn_metrics.precision_score(labels, called),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "brier": np.mean((labels - probabilities) ** 2),
        "loss": sklearn_metrics.log_loss(labels, probabilities),
    }
    assert {name: scores.estimates()[name].value for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("n", [10, 101, 500])
def test_auc_is_the_share_of_pairs_won(n: int) -> None:
    labels, probabilities = sample(n, 2)
    positive, negative = probabilities[labels == 1][:, None], probabilities[labels == 0][None]
    won = (positive > negative).mean() + 0.5 * (positive == negative).mean()
    assert score(labels, probabilities).auc.value == pytest.approx(won)
    # And by ranks, as Mann and Whitney have it.
    ranks, size = rankdata(probabilities)[labels == 1], (labels == 1).sum()
    assert won == pytest.approx((ranks.sum() - size * (size + 1) / 2) / (size * (n - size)))


@given(st.integers(1, 3000), st.data())
@settings(max_examples=100, deadline=None)
def test_wilson_is_the_published_formula(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    estimate = wilson(successes, n)
    low, high = wilson_by_formula(successes, n)
    assert estimate.value == successes / n
    assert estimate.low == pytest.approx(low, abs=1e-12)
    assert estimate.high == pytest.approx(high, abs=1e-12)


def test_wilson_by_a_published_example() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 15 of 148 gives 0.0624 to 0.1605; 0 of 20, 0.1611."""
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        estimate = wilson(successes, n)
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_intervals_contain_their_value() -> None:
    """To the last bit: a report that says 1.000 [0.646, 0.9999999999999999] invites questions."""
    for n in range(1, 60):
        for successes in range(n + 1):
            estimate = wilson(successes, n)
            assert estimate.value is not None
            assert estimate.low is not None
            assert estimate.high is not None
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1, (successes, n)


def test_wilson_of_nothing_is_undefined() -> None:
    assert wilson(0, 0) == UNDEFINED


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=80, deadline=None)
def test_mcnemar_is_the_exact_binomial_test(both: int, first_only: int, second_only: int, neither: int) -> None:
    first = np.repeat([True, True, False, False], [both, first_only, second_only, neither])
    second = np.repeat([True, False, True, False], [both, first_only, second_only, neither])
    labels = np.ones(len(first), np.int8)
    discordant = first_only + second_only
    expected = binomtest(first_only, discordant, 0.5).pvalue if discordant else 1.0
    assert mcnemar_p(labels, first, second) == pytest.approx(expected)
    assert mcnemar_p(labels, second, first) == pytest.approx(expected)
    # Negatives count as well: a call of False is right there.
    assert mcnemar_p(1 - labels, ~first, ~second) == pytest.approx(expected)


def test_mcnemar_by_hand() -> None:
    # Five slices that one model alone has right, none the other way: 2 / 2^5.
    labels = np.array([1, 1, 1, 0, 0, 1, 0])
    first = np.array([True, True, True, False, False, True, True])
    second = np.array([False, False, False, True, True, True, True])
    assert mcnemar_p(labels, first, second) == pytest.approx(2 / 32)


def test_ece_by_hand() -> None:
    # Bins of 1/15. Bin 1: 0.08 and 0.12, none positive: gap 0.1. Bin 9: 0.62, 0.64, one positive of two: gap 0.13.
    # Bin 14: 0.98, positive: gap 0.02. (2 * 0.1 + 2 * 0.13 + 0.02) / 5 = 0.096.
    labels, probabilities = np.array([0, 0, 1, 0, 1]), np.array([0.08, 0.12, 0.62, 0.64, 0.98])
    assert ECE_BINS == 15
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0.096)


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_ece_against_a_loop_over_the_bins(bins: int) -> None:
    labels, probabilities = sample(400, 3)
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = (probabilities >= low) & ((probabilities < high) | (number == bins - 1))
        if inside.any():
            total += inside.mean() * abs(labels[inside].mean() - probabilities[inside].mean())
    assert expected_calibration_error(labels, probabilities, bins) == pytest.approx(total)


def test_ece_of_the_ends() -> None:
    assert expected_calibration_error(np.array([0, 1]), np.array([0.0, 1.0])) == 0
    assert expected_calibration_error(np.array([1, 0]), np.array([0.0, 1.0])) == 1


@pytest.mark.parametrize("n", [12, 60, 400])
@pytest.mark.parametrize("sharpness", [0.2, 1, 4])
def test_intervals_contain_their_values(n: int, sharpness: float) -> None:
    for name, estimate in score(*sample(n, 4, sharpness)).estimates().items():
        assert estimate.value is not None
        assert estimate.low is not None
        assert estimate.high is not None
        assert 0 <= estimate.low <= estimate.value <= estimate.high, name
        assert name == "loss" or estimate.high <= 1, name


def test_log_loss_by_hand_and_of_the_certain() -> None:
    # -(ln .8 + ln .5) / 2; a certainty that is right costs next to nothing, one that is wrong -ln 1e-7.
    assert score(np.array([1, 0]), np.array([0.8, 0.5])).loss.value == pytest.approx((0.2231435 + 0.6931472) / 2)
    assert score(np.array([1, 0]), np.array([1.0, 0.0])).loss.value == pytest.approx(0, abs=1e-6)
    assert score(np.array([1, 0, 1, 0]), np.array([1.0, 1.0, 1.0, 0.0])).loss.value == pytest.approx(16.118096 / 4)


def test_interval_of_a_perfectly_calibrated_model_contains_nought() -> None:
    """A resample of a calibrated set is never quite calibrated, so its ECE lies above: the interval must not."""
    probabilities = np.repeat([0.1, 0.3, 0.5, 0.7, 0.9], 40)
    labels = np.concatenate([np.arange(40) < 40 * p for p in (0.1, 0.3, 0.5, 0.7, 0.9)]).astype(np.int8)
    estimate = score(labels, probabilities).ece
    assert estimate.value == pytest.approx(0, abs=1e-12)
    assert estimate.low is not None
    assert estimate.low <= 1e-12


def test_bootstrap_interval_of_a_mean_is_the_normal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one class the mean of n values has a standard error of s / sqrt(n)."""
    monkeypatch.setattr(metrics, "BOOTSTRAPS", 1000)
    values = np.random.default_rng(6).normal(0.5, 0.1, 400)
    labels = np.ones(400, np.int8)
    estimate = bootstrap(lambda y, p, weights: weights @ p / weights.sum(1), labels, values, resamples(labels, 0))
    half = 1.96 * values.std() / 20
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 8)


def test_bootstrap_resamples_within_each_class() -> None:
    labels = np.array([0] * 30 + [1] * 5)
    weights = resamples(labels, 0)
    assert weights.shape == (RESAMPLES, 35)
    assert set(weights[:, :30].sum(1)) == {30}
    assert set(weights[:, 30:].sum(1)) == {5}
    assert len(np.unique(weights, axis=0)) == RESAMPLES


@pytest.mark.parametrize("seed", range(5))
def test_resampled_metrics_are_those_of_the_repeated_slices(seed: int) -> None:
    """A weight of 2 is the slice twice: scikit-learn on the repeated slices must agree."""
    labels, probabilities = sample(60, seed)
    probabilities = probabilities.round(1)  # ties
    weights = resamples(labels, seed)[:1]
    again = np.repeat(np.arange(60), weights[0].astype(int))
    y, p = labels[again], probabilities[again]
    assert metrics._auc(labels, probabilities, weights)[0] == pytest.approx(roc_auc_score(y, p))
    assert metrics._f1(labels, probabilities, weights, 0.5)[0] == pytest.approx(f1_score(y, p >= 0.5))
    assert metrics._log_loss(labels, probabilities, weights)[0] == pytest.approx(sklearn_metrics.log_loss(y, p))
    assert metrics._brier(labels, probabilities, weights)[0] == pytest.approx(brier_score_loss(y, p, pos_label=1))
    assert metrics._ece(labels, probabilities, weights)[0] == pytest.approx(expected_calibration_error(y, p))


def test_scores_follow_from_the_seed() -> None:
    labels, probabilities = sample(80, 5)
    assert score(labels, probabilities, seed=1) == score(labels, probabilities, seed=1)
    first, second = (score(labels, probabilities, seed=seed) for seed in (1, 2))
    assert (first.auc.low, first.auc.high) != (second.auc.low, second.auc.high)
    assert first.auc.value == second.auc.value


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_undefined_what_needs_two(label: int) -> None:
    labels, probabilities = np.full(20, label, np.int8), np.linspace(0.05, 0.95, 20)
    scores = score(labels, probabilities)
    assert scores.auc == scores.f1 == UNDEFINED
    assert (scores.sensitivity if label == 0 else scores.specificity) == UNDEFINED
    assert (scores.sensitivity if label == 1 else scores.specificity).value == 0.5
    assert scores.accuracy.value == 0.5
    assert scores.brier.value == pytest.approx(np.mean((probabilities - label) ** 2))
    assert scores.ece.value == pytest.approx(np.mean(np.abs(probabilities - label)))


def test_no_slices_leave_all_undefined() -> None:
    scores = score(np.zeros(0, np.int8), np.zeros(0))
    assert scores.n == 0
    assert set(scores.estimates().values()) == {UNDEFINED}


def test_no_positive_call_leaves_the_precision_undefined() -> None:
    labels = np.array([0, 1, 0, 1])
    scores = score(labels, np.full(4, 0.1))
    assert scores.precision == UNDEFINED
    assert scores.sensitivity.value == 0
    assert scores.f1.value == 0


def test_estimates_are_all_metrics_in_the_order_of_the_class() -> None:
    names = ["accuracy", "sensitivity", "specificity", "precision", "f1", "auc", "ece", "brier", "loss"]
    assert list(score(*sample(20, 7)).estimates()) == names


def test_no_warnings_reach_the_user() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for labels in (np.zeros(5, np.int8), np.ones(5, np.int8), np.array([0, 0, 0, 0, 1], np.int8)):
            for probabilities in (np.zeros(5), np.ones(5), np.full(5, 0.5)):
                assert score(labels, probabilities).n == 5
