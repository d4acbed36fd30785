"""The gate's rule, by hand counts."""

import numpy as np
import pytest
from scipy.stats import binomtest

from edge_ct.convert import gate
from edge_ct.errors import GateFailed

LABELS = np.array([1] * 100 + [0] * 100)
PERFECT = np.where(LABELS == 1, 0.9, 0.1)


def flipped(indices: range) -> np.ndarray:
    changed = PERFECT.copy()
    changed[list(indices)] = 1 - changed[list(indices)]
    return changed


def test_one_lost_positive_of_a_hundred_is_one_point_and_passes() -> None:
    report = gate.compare(LABELS, PERFECT, flipped(range(1)), 1.0, "validation")
    assert report.passed
    assert report.converted.sensitivity.value == pytest.approx(0.99)
    assert report.agreement == pytest.approx(199 / 200)
    gate.enforce(report)


def test_two_lost_positives_break_a_rule_of_one_point() -> None:
    report = gate.compare(LABELS, PERFECT, flipped(range(2)), 1.0, "validation")
    assert not report.passed
    with pytest.raises(GateFailed, match=r"sensitivity falls by 2\.00 points") as raised:
        gate.enforce(report)
    assert raised.value.exit_code == 5


def test_lost_specificity_counts_through_accuracy() -> None:
    report = gate.compare(LABELS, PERFECT, flipped(range(100, 103)), 1.0, "validation")
    assert report.reason == "accuracy falls by 1.50 points"


def test_a_gain_passes() -> None:
    assert gate.compare(LABELS, flipped(range(5)), PERFECT, 0.0, "validation").passed


def test_mcnemar_is_the_exact_binomial_of_the_disagreements() -> None:
    report = gate.compare(LABELS, flipped(range(100, 102)), flipped(range(8)), 100, "validation")
    assert report.mcnemar_p == pytest.approx(binomtest(2, 10).pvalue)
    assert report.mcnemar_p_positives == pytest.approx(binomtest(0, 8).pvalue)
