"""Data sets of slices that do not exist, for tests that read no pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_ct.dataset import Dataset


def dataset_of(labels: list[int], groups: list[str] | None = None) -> Dataset:
    paths = tuple(Path(f"{index:04d}.png") for index in range(len(labels)))
    classes = ("non-COVID", "COVID")
    return Dataset("made", paths, np.array(labels, np.int8), classes, tuple(groups) if groups else None)
