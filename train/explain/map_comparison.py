"""What maps are compared by: their size, their strongest part, their order."""

from __future__ import annotations

import numpy as np


def attended(heat: np.ndarray) -> np.ndarray:
    """Pixels more than one standard deviation above the mean, bool [h, w] (Garg et al. 2020, section 2.5.1)."""
    return np.asarray(heat > heat.mean() + heat.std())


def strongest(heat: np.ndarray, share: float) -> np.ndarray:
    """The strongest `share` of the pixels, bool [h, w]; ties are broken by place."""
    count = max(1, round(share * heat.size))
    mask = np.zeros(heat.size, bool)
    mask[np.argsort(-heat, axis=None, kind="stable")[:count]] = True
    return mask.reshape(heat.shape)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int((first | second).sum())
    return float((first & second).sum() / union) if union else 1.0


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, of two maps of one size; 0 where one of them is flat."""
    from scipy.stats import rankdata

    a, b = rankdata(first), rankdata(second)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 0 else 0.0
