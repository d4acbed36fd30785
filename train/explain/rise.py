"""RISE (Petsiuk et al. 2018): a map without gradients, from log-odds alone, so that it works on int8 files, too.

Hidden pixels are blurred, as in `edge_ct.network_analysis.occlusion`.
"""

from __future__ import annotations

from time import monotonic

import cv2
import numpy as np

from edge_ct.network_analysis.occlusion import blur

from .network import LogOdds

_GRID_CELLS, _SHOWN_SHARE = 7, 0.5
_CHUNK = 32


def rise_map(
    log_odds: LogOdds, image: np.ndarray, seconds: float = 10.0, masks: int = 1000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Compute a RISE map: per pixel the mean log-odds of the views that show it, minus the mean of all views.

    Args:
        log_odds: Images uint8 [n, s, s, 1] -> log-odds of COVID-19, float64 [n].
        image: uint8 [s, s, 1].
        seconds: Time after which no further masks are drawn.
        masks: Maximum number of masks.
        seed: The same seed draws the same masks.

    Returns:
        The map, float32 [s, s], and the number of masks that were used.
    """
    generator, hidden, side = np.random.default_rng(seed), blur(image).astype(np.float32), len(image)
    until, used = monotonic() + seconds, 0
    weighted, shown, total = np.zeros((side, side)), np.zeros((side, side)), 0.0
    while used < masks and (used == 0 or monotonic() < until):
        soft = np.stack([_draw_mask(generator, side) for _ in range(min(_CHUNK, masks - used))])
        views = hidden + soft[..., np.newaxis] * (image.astype(np.float32) - hidden)
        values = log_odds(np.rint(views).astype(np.uint8))
        weighted += np.einsum("nhw,n->hw", soft, values)
        shown += soft.sum(0)
        total += float(values.sum())
        used += len(soft)
    return np.asarray(weighted / np.maximum(shown, 1e-6) - total / used, np.float32), used


def _draw_mask(generator: np.random.Generator, side: int) -> np.ndarray:
    """Draw a mask, float32 [side, side], 0 to 1: a coarse random grid, enlarged and shifted by less than a cell."""
    cell = -(-side // _GRID_CELLS)
    grid = (generator.random((_GRID_CELLS + 1, _GRID_CELLS + 1)) < _SHOWN_SHARE).astype(np.float32)
    large = cv2.resize(grid, (cell * (_GRID_CELLS + 1),) * 2, interpolation=cv2.INTER_LINEAR)
    top, left = generator.integers(0, cell, 2)
    return np.asarray(large[top : top + side, left : left + side])
