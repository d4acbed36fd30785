from __future__ import annotations

import numpy as np
import pytest

from edge_ct.errors import DataRejected
from edge_ct.train.fitting.sampling import balanced_chances


def test_square_roots_by_hand() -> None:
    labels = np.array([1] * 9 + [1] * 1 + [0] * 4)
    sources = ["big"] * 9 + ["small"] + ["big"] * 4
    chances = balanced_chances(labels, sources)
    # Of the positive half the big source has 3 of 3 + 1; the negative half is the big source's alone.
    assert chances[:9].sum() == pytest.approx(0.5 * 3 / 4)
    assert chances[9] == pytest.approx(0.5 / 4)
    assert chances[10:].sum() == pytest.approx(0.5)


def test_half_is_the_main_source() -> None:
    labels = np.array([1, 0] * 50 + [1] * 16 + [0] * 4 + [1] * 4)
    sources = ["main"] * 100 + ["b"] * 20 + ["c"] * 4
    chances = balanced_chances(labels, sources, "main")
    assert chances[:100].sum() == pytest.approx(0.5)
    assert chances[labels == 1].sum() == pytest.approx(0.5)
    # Of the others' positives b has 4 of 4 + 2.
    assert chances[100:116].sum() == pytest.approx(0.25 * 4 / 6)


def test_source_of_one_class_leaves_the_other_to_the_rest() -> None:
    chances = balanced_chances(np.array([1, 1, 0, 1]), ["main", "main", "x", "x"], "main")
    assert chances.tolist() == pytest.approx([0.125, 0.125, 0.5, 0.25])


def test_without_sources_classes_are_balanced() -> None:
    assert balanced_chances(np.array([1, 0, 0, 0, 0]), None).tolist() == pytest.approx([0.5, *[0.125] * 4])


def test_unknown_main_source() -> None:
    with pytest.raises(DataRejected, match="no training slice is of source 'z'; the sources are a, b"):
        balanced_chances(np.array([0, 1]), ["a", "b"], "z")
