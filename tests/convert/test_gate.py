"""The gate's rule, by hand counts."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from edge_ct.convert import gate
from edge_ct.convert.gate import GateRule
from edge_ct.errors import DataRejected, GateFailed
from edge_ct.run import load_run

LABELS = np.array([1] * 100 + [0] * 100)
PERFECT = np.where(LABELS == 1, 0.9, 0.1)


def flipped(indices: range) -> np.ndarray:
    changed = PERFECT.copy()
    changed[list(indices)] = 1 - changed[list(indices)]
    return changed


def test_one_lost_positive_of_a_hundred_is_one_point_and_passes() -> None:
    report = gate.compare_with_fp32(LABELS, PERFECT, flipped(range(1)), GateRule(1.0), "validation")
    assert report.passed
    assert report.converted.sensitivity.value == pytest.approx(0.99)
    assert report.agreement == pytest.approx(199 / 200)
    gate.enforce(report)


def test_two_lost_positives_break_a_rule_of_one_point() -> None:
    report = gate.compare_with_fp32(LABELS, PERFECT, flipped(range(2)), GateRule(1.0), "validation")
    assert not report.passed
    with pytest.raises(GateFailed, match=r"sensitivity falls by 2\.00 points") as raised:
        gate.enforce(report)
    assert raised.value.exit_code == 5


def test_lost_specificity_counts_through_accuracy() -> None:
    report = gate.compare_with_fp32(LABELS, PERFECT, flipped(range(100, 103)), GateRule(1.0), "validation")
    assert report.reason == "accuracy falls by 1.50 points, more than --max-drop 1"


def test_few_slices_say_what_one_of_them_weighs_and_where_the_file_is() -> None:
    labels = np.array([0] * 9 + [1] * 9)
    before = np.where(labels == 1, 0.9, 0.1)
    after = before.copy()
    after[0] = 0.9
    report = gate.compare_with_fp32(labels, before, after, GateRule(1.0), "validation")
    reason = (
        "accuracy falls by 5.56 points, more than --max-drop 1 (one of 18 slices is 5.6 points: compare on more slices)"
    )
    assert report.reason == reason
    where = "on the validation split (n = 18)"
    with pytest.raises(GateFailed) as nothing:
        gate.enforce(report)
    assert str(nothing.value) == f"{reason}, {where}; nothing was written"
    with pytest.raises(GateFailed) as kept:
        gate.enforce(report, "a.gate-failed.tflite")
    assert str(kept.value) == f"{reason}, {where}; the file was written for inspection only: a.gate-failed.tflite"


def test_a_gain_passes() -> None:
    assert gate.compare_with_fp32(LABELS, flipped(range(5)), PERFECT, GateRule(0.0), "validation").passed


def test_mcnemar_is_the_exact_binomial_of_the_disagreements() -> None:
    report = gate.compare_with_fp32(LABELS, flipped(range(100, 102)), flipped(range(8)), GateRule(100), "validation")
    assert report.mcnemar_p == pytest.approx(binomtest(2, 10).pvalue)
    assert report.mcnemar_p_positives == pytest.approx(binomtest(0, 8).pvalue)


def test_sensitivity_has_a_limit_of_its_own() -> None:
    strict = GateRule(max_drop=5, max_sensitivity_drop=0.5)
    report = gate.compare_with_fp32(LABELS, PERFECT, flipped(range(1)), strict, "validation")
    assert report.reason == (
        "sensitivity falls by 1.00 points, more than --max-sensitivity-drop 0.5 "
        "(one of 100 positive slices is 1.0 points: compare on more slices)"
    )
    assert gate.compare_with_fp32(LABELS, PERFECT, flipped(range(100, 105)), strict, "validation").passed
    assert report.verdict().max_sensitivity_drop == 0.5


def test_agreement_can_be_asked_for() -> None:
    rule = GateRule(max_drop=100, agreement=0.98)
    assert gate.compare_with_fp32(LABELS, PERFECT, flipped(range(4)), rule, "validation").passed
    report = gate.compare_with_fp32(LABELS, PERFECT, flipped(range(5)), rule, "validation")
    assert report.reason == "agreement is 97.5%, less than --agreement 0.98"


def test_each_class_and_the_largest_change_are_told() -> None:
    before = flipped(range(2))
    converted = flipped(range(1, 4))
    converted[150] = 0.35
    report = gate.compare_with_fp32(
        LABELS, before, converted, GateRule(100), "validation", gate.ReferenceModel("other", PERFECT)
    )
    positive, negative = report.before.classes["positive"], report.before.classes["negative"]
    assert (positive.n, positive.lost, positive.gained, positive.agreement) == (100, 2, 1, 0.97)
    assert (negative.lost, negative.gained, negative.mcnemar_p) == (0, 0, 1.0)
    assert report.before.largest_change == pytest.approx(0.8)
    assert report.reference is not None
    assert report.reference.classes["positive"].lost == 3
    assert report.reference.scores.accuracy.value == 1.0
    kept = report.verdict()
    assert (kept.reference, kept.reference_agreement) == ("other", pytest.approx(197 / 200))


def test_a_reference_must_have_seen_the_same_slices_the_same_way(trained_run: Path, tmp_path: Path) -> None:
    table = load_run(trained_run).split()
    found = gate.load_reference(trained_run, table, "validation")
    assert len(found.probabilities) == len(table.where("validation"))
    assert ((found.probabilities >= 0) & (found.probabilities <= 1)).all()
    copy = tmp_path / "copy"
    shutil.copytree(trained_run, copy)
    lines = (copy / "predictions.csv").read_text().splitlines()
    kept = [line for line in lines if ",validation," not in line or line == lines[1]]
    (copy / "predictions.csv").write_text("\n".join(kept))
    with pytest.raises(DataRejected, match=r"validation slices? not in its validation split"):
        gate.load_reference(copy, table, "validation")
    (copy / "predictions.csv").write_text("what,is\nthis,?\n")
    with pytest.raises(DataRejected, match="missing or damaged"):
        gate.load_reference(copy, table, "validation")
