"""Measures that compare two maps: masks of their strongest parts, overlap, rank correlation."""

from __future__ import annotations

import numpy as np


def attended_mask(heat: np.ndarray) -> np.ndarray:
    """Return the pixels more than one standard deviation above the mean, bool [h, w] (Garg et al. 2020, 2.5.1)."""
    return np.asarray(heat > heat.mean() + heat.std())


def strongest_mask(heat: np.ndarray, share: float) -> np.ndarray:
    """Return the strongest `share` (0 to 1) of the pixels, bool [h, w]; of equal pixels the first ones are taken."""
    count = max(1, round(share * heat.size))
    mask = np.zeros(heat.size, bool)
    mask[np.argsort(-heat, axis=None, kind="stable")[:count]] = True
    return mask.reshape(heat.shape)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Return the intersection over union of two masks; 1 if both are empty."""
    union = int((first | second).sum())
    return float((first & second).sum() / union) if union else 1.0


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of two maps of the same size; 0 if one of them is constant."""
    from scipy.stats import rankdata

    a, b = rankdata(first), rankdata(second)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 0 else 0.0
