"""Results of folds for the repository: counted over folds, each with thresholds of its own."""

from __future__ import annotations

import numpy as np

from edge_ct.manifest import DecisionRule
from edge_ct.recipes.multi_source.cross_fit_pipeline import FoldResult
from edge_ct.recipes.multi_source.fold_predictions import TestPredictions
from edge_ct.recipes.multi_source.published_results import fold_outcomes, worst_errors


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
