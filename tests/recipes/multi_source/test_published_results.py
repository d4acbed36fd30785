"""Results of folds for the repository: counted over folds, each with thresholds of its own."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edge_ct.manifest import DecisionRule
from edge_ct.recipes.multi_source.cross_fit_pipeline import FoldResult
from edge_ct.recipes.multi_source.fold_predictions import TestPredictions
from edge_ct.recipes.multi_source.published_results import (
    ERRORS,
    EVIDENCE,
    OUTCOMES,
    fold_outcomes,
    publish_results,
    read_worst_errors,
    worst_errors,
)
from edge_ct.recipes.multi_source.source_model_card import write_model_card
from edge_ct.system.progress import QUIET

ROOT = Path(__file__).resolve().parents[3]


def fold(name: str, labels: list[int], p: list[float], decisions: list[str], threshold: float) -> FoldResult:
    count = len(labels)
    predictions = TestPredictions(
        tuple(f"/somewhere/{name}/slice-{number}.png" for number in range(count)),
        tuple(f"{name}{number}" for number in range(count)),
        np.array(labels),
        tuple(f"{name}-{number // 2}" for number in range(count)),
        (name,) * count,
        tuple(decisions),
        np.array(p),
        np.full(count, 0.25),
    )
    return FoldResult(predictions, DecisionRule(threshold, threshold, 0.99, 0.95, 100, 100))


FOLDS = [
    fold("north", [1, 1, 0, 0], [0.6, 0.2, 0.1, np.nan], ["positive", "negative", "negative", "rejected"], 0.3),
    fold("south", [1, 1], [0.6, 0.2], ["negative", "negative"], 0.7),
]


def test_each_fold_decides_patients_by_its_own_thresholds() -> None:
    slices, patients = fold_outcomes(FOLDS)
    assert (slices.positives.n, slices.positives.positive.value) == (4, 0.25)
    # The mean of both positive patients is 0.4: above the threshold of the first fold, below that of the second.
    assert (patients.positives.n, patients.positives.positive.value) == (2, 0.5)
    assert slices.negatives.rejected.value == 0.5 and patients.negatives.negative.value == 1


def test_worst_errors_come_first_and_name_no_folder() -> None:
    table = worst_errors(FOLDS, count=2).splitlines()
    assert len(table) == 4 and "somewhere" not in "".join(table)
    assert [line.split(" | ")[2] for line in table[2:]] == ["0.200", "0.200"]
    assert table[2].startswith("| 1 | positive |") and "25 %" in table[2]
    assert len(worst_errors(FOLDS).splitlines()) == 2 + 5  # a rejected slice has no probability


def test_results_of_one_model_leave_those_of_others_as_they_are(tmp_path: Path) -> None:
    def publish(model: str, auc: str) -> None:
        (tmp_path / "evidence.csv").write_text(f"split,model,auc\nrandom,{model},{auc}\ngrouped,{model},{auc}\n")
        results: Any = SimpleNamespace(out=tmp_path, fold_results=lambda split, _: FOLDS if split == "grouped" else [])
        publish_results(results, [model], tmp_path / "results", QUIET)

    for model, auc in (("small", "0.7"), ("large", "0.8"), ("large", "0.9")):
        publish(model, auc)
    into = tmp_path / "results"
    assert (into / EVIDENCE).read_text().splitlines()[1:] == [
        "grouped,large,0.9",
        "grouped,small,0.7",
        "random,large,0.9",
        "random,small,0.7",
    ]
    with (into / OUTCOMES).open(newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["large"] * 4 + ["small"] * 4
    assert read_worst_errors(into) == {"large": worst_errors(FOLDS), "small": worst_errors(FOLDS)}
    assert (into / ERRORS).read_text().count("## ") == 2


def test_the_card_of_the_shipped_models_follows_from_the_tables(tmp_path: Path) -> None:
    bundles = {name: ROOT / "device_app" / "models" / f"{name}.tflite" for name in ("accurate", "fast")}
    text = write_model_card(tmp_path / "card.md", bundles, ROOT / "benchmarks" / "results")
    assert text == (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")
