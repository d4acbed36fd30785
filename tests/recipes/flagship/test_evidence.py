"""The flagship's evidence, from probabilities that were made up, and the committed one from the committed ones."""

import csv
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import roc_auc_score

from edge_ct.errors import EdgeCTError
from edge_ct.recipes.flagship import evidence
from edge_ct.recipes.flagship.evidence import FoldModel, FoldPredictions

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
LABELS = np.array([1] * 10 + [0] * 10)


def judged(
    p: np.ndarray, variant: str = "int8", fold: int = 1, split: str = "random", **others: Any
) -> FoldPredictions:
    bundle = variant != "keras"
    made = "ptq" if variant == "int8" else ""
    model = FoldModel(
        split, fold, 5, "accurate" if bundle else "teacher", variant, "net", "net@1", made,
        "passed" if bundle else "", 1000 + fold if bundle else None, 0.3 if bundle else None, 0.99 if bundle else None,
        0, "slices", "f" * 64,
    )  # fmt: skip
    found = FoldPredictions(
        model,
        tuple(f"{fold:02d}{i:014d}" for i in range(20)),
        LABELS,
        tuple(f"group-{fold}-{i // 2}" for i in range(20)),
        tuple("rejected" if np.isnan(one) else "positive" if one > 0.5 else "negative" for one in p),
        p,
    )
    return FoldPredictions(**{**{name: getattr(found, name) for name in found.__dataclass_fields__}, **others})


def said(*wrong: int) -> np.ndarray:
    p = np.where(LABELS == 1, 0.9, 0.1) + np.arange(20) / 1000
    p[list(wrong)] = 1 - p[list(wrong)]
    return p


def rows_of(text: str) -> dict[tuple[str, str, str], dict[str, str]]:
    return {(row["model"], row["variant"], row["fold"]): row for row in csv.DictReader(text.splitlines())}


def test_folds_are_pooled_and_int8_is_compared_slice_by_slice(tmp_path: Path) -> None:
    lower = said(3)
    lower[4] = 0.35  # missed at 0.5, found at the operating point, 0.3
    rejected = said()
    rejected[0] = np.nan
    found = [
        judged(said(9, 10), "fp32"),
        judged(said(5, 6, 7, 9), "int8"),
        judged(said(), "fp32", 2),
        judged(lower, "int8", 2),
        judged(said(0), "keras"),
        judged(rejected, "keras", 2),
    ]
    evidence.write_evidence(tmp_path, found)
    rows = rows_of((tmp_path / evidence.EVIDENCE).read_text())
    assert next(iter(rows)) == ("teacher", "keras", "all")
    pooled = rows["accurate", "int8", "all"]
    assert (pooled["folds_done"], pooled["folds"], pooled["n"], pooled["bytes"]) == ("2", "5", "40", "1002")
    assert float(pooled["sensitivity"]) == pytest.approx(14 / 20)
    assert float(pooled["specificity"]) == 1
    # Of the six that it misses at 0.5 one is over 0.3.
    assert float(pooled["sensitivity_at_threshold"]) == pytest.approx(15 / 20)
    p = np.concatenate([found[1].probabilities, lower])
    assert float(pooled["auc"]) == pytest.approx(roc_auc_score(np.tile(LABELS, 2), p), abs=1e-5)
    # fp32 misses 9 of fold 1; int8 5, 6, 7, 9 there and 3, 4 of fold 2: five lost, none found.
    assert (pooled["positives_lost"], pooled["positives_found"]) == ("5", "0")
    assert float(pooled["sensitivity_lost"]) == pytest.approx(5 / 20)
    assert float(pooled["mcnemar_p_positives"]) == pytest.approx(binomtest(0, 5).pvalue, abs=1e-4)
    assert float(pooled["mcnemar_p"]) == pytest.approx(binomtest(1, 6).pvalue, abs=1e-4)
    assert rows["accurate", "int8", "2"]["positives_lost"] == "2"
    assert rows["accurate", "fp32", "all"]["positives_lost"] == ""
    teacher = rows["teacher", "keras", "all"]
    assert (teacher["n"], teacher["said_rejected"], teacher["positives_rejected"]) == ("39", "1", "1")
    assert (teacher["bytes"], teacher["sensitivity_at_threshold"], teacher["gates_passed"]) == ("", "", "")


def test_slices_of_one_patient_count_once() -> None:
    """All that are wrong are of one patient: slices say that such a thing is rare, patients that one in ten is so."""
    apart = tuple(f"group-{i}" for i in range(20))
    wide, narrow = (
        rows_of(evidence.evidence_csv([judged(said(0, 1), groups=groups)]))["accurate", "int8", "all"]
        for groups in (("group-x",) * 10 + ("group-y",) * 10, apart)
    )
    # Of two patients both are the same one in half of the draws: of ten slices two are wrong, of the others none.
    assert (wide["groups"], narrow["groups"]) == ("2", "20")
    assert (float(wide["accuracy_by_group_low"]), float(wide["accuracy_by_group_high"])) == (0.8, 1.0)
    low, high = binom.ppf([0.025, 0.975], 20, 0.9) / 20
    assert float(narrow["accuracy_by_group_low"]) == pytest.approx(low, abs=0.03)
    assert float(narrow["accuracy_by_group_high"]) == pytest.approx(high, abs=0.03)
    assert narrow["accuracy"] == wide["accuracy"] == "0.90000"


def test_the_table_follows_from_the_committed_two_byte_for_byte(tmp_path: Path) -> None:
    evidence.write_evidence(tmp_path, [judged(said(1) ** 1.7), judged(said(2) / 3, "fp32")])
    before = (tmp_path / evidence.EVIDENCE).read_bytes()
    (tmp_path / evidence.EVIDENCE).unlink()
    evidence.command.main([str(tmp_path), str(tmp_path / "plot.svg")], standalone_mode=False)
    assert (tmp_path / evidence.EVIDENCE).read_bytes() == before
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")
    names = (tmp_path / evidence.PREDICTIONS).read_text().splitlines()[0]
    assert "path" not in names


def test_a_group_in_two_folds_of_a_grouped_split_is_found() -> None:
    straddling = judged(said(), "fp32", 2, "grouped", groups=("group-1-0",) * 20)
    with pytest.raises(EdgeCTError, match="group-1-0 is in folds 1 and 2"):
        evidence.evidence_csv([judged(said(), "fp32", 1, "grouped"), straddling])
    other = judged(said(), "fp32", 2)
    other = judged(said(), "fp32", 2, model=msgspec.structs.replace(other.model, fingerprint="0" * 64))
    with pytest.raises(EdgeCTError, match="different data"):
        evidence.evidence_csv([judged(said(), "fp32"), other])
    with pytest.raises(EdgeCTError, match="different slices"):
        evidence.evidence_csv([judged(said(), "fp32"), judged(said(), sha256=("0" * 16,) * 20)])


@pytest.mark.parametrize("damage", ["missing", "column", "row", "extra"])
def test_damage_is_one_error(damage: str, tmp_path: Path) -> None:
    evidence.write_evidence(tmp_path, [judged(said())])
    path = tmp_path / evidence.PREDICTIONS
    if damage == "missing":
        path.unlink()
    elif damage == "column":
        path.write_text(path.read_text().replace("label", "lable"))
    elif damage == "row":
        path.write_text(path.read_text().replace(",1,group", ",one,group"))
    else:
        path.write_text(path.read_text() + "0" * 16 + ",1,g,random,4,accurate,int8,positive,0.9\n")
    with pytest.raises(EdgeCTError, match=r"flagship|damaged"):
        evidence.regenerate(tmp_path)


@pytest.mark.skipif(not (RESULTS / evidence.PREDICTIONS).exists(), reason="no predictions are committed yet")
def test_the_committed_evidence_is_what_the_committed_predictions_give() -> None:
    assert (RESULTS / evidence.EVIDENCE).read_text() == evidence.evidence_csv(evidence.read_predictions(RESULTS))
