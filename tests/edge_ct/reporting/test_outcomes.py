"""The table of decisions and the table by source, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ct.manifest import DecisionRule
from edge_ct.reporting.markdown import find_table
from edge_ct.reporting.outcomes import (
    outcome_markdown,
    outcome_rows,
    outcome_tables,
    scores_by_source,
    source_markdown,
)

RULE = DecisionRule(0.2, 0.8, 0.99, 0.95, 100, 100)
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 1])
DECISIONS = [
    "positive",
    "refer",
    "rejected",
    "negative",
    "negative",
    "positive",
    "refer",
    "negative",
    "rejected",
    "positive",
]
P = [0.9, 0.7, None, 0.1, 0.1, 0.9, 0.5, 0.0, None, 0.95]
GROUPS = ["a", "a", "b", "c", "d", "d", "e", "f", "g", "e"]


def test_slices_and_patients_are_counted_by_one_rule() -> None:
    slices, patients = outcome_tables(LABELS, DECISIONS, P, GROUPS, [RULE] * 10)
    assert (slices.unit, slices.positives.n, slices.negatives.n) == ("slice", 5, 5)
    assert [getattr(slices.positives, name).value for name in ("positive", "refer", "negative", "rejected")] == [
        0.4,
        0.2,
        0.2,
        0.2,
    ]
    assert slices.negatives.rejected.value == 0.2
    # a: mean 0.8, positive; b: nothing judged; c: negative. d: mean 0.5, refer; f: negative; g: rejected; e is mixed.
    assert (patients.unit, patients.positives.n, patients.negatives.n) == ("likely patient", 3, 3)
    assert [getattr(patients.positives, name).value for name in ("positive", "refer", "negative", "rejected")] == [
        pytest.approx(1 / 3),
        0,
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    ]
    assert patients.negatives.refer.value == patients.negatives.negative.value == pytest.approx(1 / 3)
    # Wilson's interval of 2 of 5, from the closed formula: (p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n).
    low, high = slices.positives.positive.low, slices.positives.positive.high
    assert (low, high) == (pytest.approx(0.1176, abs=1e-4), pytest.approx(0.7693, abs=1e-4))
    assert len(outcome_tables(LABELS, DECISIONS, P, None, [RULE] * 10)) == 1


def test_tables_are_printed() -> None:
    tables = outcome_tables(LABELS, DECISIONS, P, GROUPS, [RULE] * 10)
    assert outcome_rows(tables)[0][:3] == ("positives by slice", "5", "40.0 % [11.8, 76.9]")
    assert find_table(outcome_markdown(tables), ("rejected", "refer")) is not None


def test_sources_have_metrics_of_their_own() -> None:
    sources = ["north"] * 3 + ["south"] * 6 + ["north"]
    found = scores_by_source(LABELS, DECISIONS, P, sources)
    assert list(found) == ["north", "south"]
    north, south = found["north"], found["south"]
    assert (north.n, north.auc.value, north.sensitivity.value, north.specificity.value) == (3, None, 1, None)
    assert south.n == 5 and south.sensitivity.value == 0 and south.specificity.value == 0.5
    # The positive slice of 0.1 lies above one negative slice (0.0), ties with one (0.1), and lies below two.
    assert south.auc.value == pytest.approx(1.5 / 4)
    assert south.outcomes is not None and south.outcomes.negatives.rejected.value == pytest.approx(1 / 5)
    assert source_markdown(found).splitlines()[2].startswith("| north | 3 | undefined | 100.0 %")
    assert "rejected" not in source_markdown(scores_by_source(LABELS, None, P, sources))
