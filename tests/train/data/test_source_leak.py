"""How well the source gives the label away, against scikit-learn and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_ct.train.data.audit import check_dataset
from edge_ct.train.data.shortcuts import measure_source_leak


def test_leak_by_hand() -> None:
    """North has 3 positives of 4 slices, south 1 of 6."""
    sources = ["north"] * 4 + ["south"] * 6
    labels = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 0])
    leak = measure_source_leak(sources, labels)
    assert leak is not None
    # Pairs of a positive and a negative: 3 x 5 in order, 3 x 1 + 1 x 5 tied, 1 x 1 against it, of 24.
    assert leak.auc == pytest.approx((15 + 8 / 2) / 24)
    assert leak.balanced_accuracy == pytest.approx((3 / 4 + 5 / 6) / 2)
    assert leak.one_class == ()


def test_sources_of_one_class_give_it_away() -> None:
    leak = measure_source_leak(["a"] * 5 + ["b"] * 5, np.array([1] * 5 + [0] * 5))
    assert leak is not None and (leak.auc, leak.balanced_accuracy, leak.one_class) == (1, 1, ("a", "b"))
    assert measure_source_leak(["a"] * 10, np.array([1] * 5 + [0] * 5)) is None
    assert measure_source_leak(["a", "b"], np.array([1, 1])) is None


def test_check_warns(phantom_table: Path) -> None:
    rows = phantom_table.read_text().splitlines()
    header = rows[0].split(",")
    kept = [header.index("path"), header.index("label")]
    lines = ["path,label,source"]
    for number, row in enumerate(rows[1:61]):
        path, label = (row.split(",")[index] for index in kept)
        lines.append(f"{path},{label},{'north' if (label == 'COVID') != (number % 10 == 0) else 'south'}")
    table = phantom_table.parent / "leaking.csv"
    table.write_text("\n".join(lines) + "\n")
    audit = check_dataset(table, "COVID")
    assert audit.sources is not None and audit.sources.auc > 0.8
    assert any("the source alone predicts the label" in warning for warning in audit.warnings)
