"""How often a slice is drawn, so that neither its source nor its class gives away what it shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_ct.errors import DataRejected


def balanced_chances(labels: np.ndarray, sources: Sequence[str] | None, main_source: str = "") -> np.ndarray:
    """Compute how often each slice is drawn.

    Both classes are drawn equally often, and within a class each source as the square root of the number of its slices:
    small sources are seen more often than their size alone would say, and large ones still most.

    Args:
        labels: int [n], 0 or 1.
        sources: n names; None where all slices are of one source.
        main_source: A source that is half of the draws of each class; "" for none.

    Returns:
        float64 [n], of sum 1.

    Raises:
        DataRejected: where no slice is of `main_source`.
    """
    names = np.asarray(sources if sources is not None else [""] * len(labels))
    if main_source and main_source not in names:
        raise DataRejected(
            f"no training slice is of source {main_source!r}; the sources are {', '.join(sorted(set(names.tolist())))}"
        )
    chances = np.zeros(len(labels))
    for label in (0, 1):
        for source in np.unique(names):
            cell = np.flatnonzero((names == source) & (labels == label))
            if len(cell):
                chances[cell] = 1 / np.sqrt(len(cell))
    halves = (names == main_source, names != main_source) if main_source else (np.ones(len(labels), bool),)
    for label in (0, 1):
        for half in halves:
            cell = half & (labels == label)
            if cell.any():
                chances[cell] /= chances[cell].sum()
    # A class that the main source, or all others, do not have is drawn from the other half alone.
    for label in (0, 1):
        cell = labels == label
        if cell.any():
            chances[cell] /= chances[cell].sum()
    return np.asarray(chances / chances.sum())
