"""RISE (Petsiuk et al. 2018): a map without gradients, of anything that gives log-odds, the int8 file included.

What a mask hides is blurred, as in `edge_ct.network_analysis.occlusion`.
"""

from __future__ import annotations

from time import monotonic

import cv2
import numpy as np

from edge_ct.network_analysis.occlusion import blur

from .network import LogOdds

_RISE_CELLS, _RISE_SHOWN = 7, 0.5
_CHUNK = 32


def rise(
    log_odds: LogOdds, image: np.ndarray, seconds: float = 10.0, masks: int = 1000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """A RISE map, float32 [s, s], and of how many masks it is.

    image: uint8 [s, s, 1]. Each pixel has the mean log-odds of the views that show it, less that of all views. The same
    seed gives the same masks; where `seconds` are up, there are fewer of them.
    """
    generator, hidden, side = np.random.default_rng(seed), blur(image).astype(np.float32), len(image)
    until, used = monotonic() + seconds, 0
    seen, shown, total = np.zeros((side, side)), np.zeros((side, side)), 0.0
    while used < masks and (used == 0 or monotonic() < until):
        soft = np.stack([_mask(generator, side) for _ in range(min(_CHUNK, masks - used))])
        views = hidden + soft[..., np.newaxis] * (image.astype(np.float32) - hidden)
        values = log_odds(np.rint(views).astype(np.uint8))
        seen += np.einsum("nhw,n->hw", soft, values)
        shown += soft.sum(0)
        total += float(values.sum())
        used += len(soft)
    return np.asarray(seen / np.maximum(shown, 1e-6) - total / used, np.float32), used


def _mask(generator: np.random.Generator, side: int) -> np.ndarray:
    """float32 [side, side], 0 to 1: a coarse random grid, enlarged, shifted by less than a cell."""
    cell = -(-side // _RISE_CELLS)
    grid = (generator.random((_RISE_CELLS + 1, _RISE_CELLS + 1)) < _RISE_SHOWN).astype(np.float32)
    large = cv2.resize(grid, (cell * (_RISE_CELLS + 1),) * 2, interpolation=cv2.INTER_LINEAR)
    top, left = generator.integers(0, cell, 2)
    return np.asarray(large[top : top + side, left : left + side])
