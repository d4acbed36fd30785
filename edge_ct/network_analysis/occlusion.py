"""Occlusion: the evidence of a part of a slice is the loss of log-odds when that part is blurred. Needs no gradients.

Zeiler and Fergus 2014, section 4.1. Parts are blurred and not blackened, because black is air and a black patch in a
lung would be a finding. The evidence has the scale of a class map: the mean over the cells is the evidence of all
patches together, so one colour scale serves both. Finer grids take more inferences.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import cv2
import numpy as np

GRIDS = (4, 6, 8, 12, 16)
_CHUNK = 32


def blur(image: np.ndarray) -> np.ndarray:
    """Remove detail from an image, uint8 [s, s, 1]: each pixel becomes the mean over a quarter of the side."""
    side = max(3, image.shape[0] // 4) | 1
    return np.asarray(cv2.blur(image[:, :, 0], (side, side))[:, :, np.newaxis])


def occlusion_map(log_odds: Callable[[np.ndarray], np.ndarray], image: np.ndarray, seconds: float) -> np.ndarray:
    """Return the evidence of each cell of a grid; positive values speak for COVID-19.

    The finest of `GRIDS` that fits into the time is used. The coarsest is always finished, so a slow machine takes
    longer instead of explaining nothing.

    Args:
        log_odds: Function from images, uint8 [n, s, s, 1], to log-odds of the positive class, float [n].
        image: uint8 [s, s, 1].
        seconds: Time limit.

    Returns:
        float32 [g, g].
    """
    size, without = len(image), blur(image)
    begun = perf_counter()
    base = float(log_odds(image[np.newaxis])[0])
    once = perf_counter() - begun
    cells = max((grid for grid in GRIDS if grid * grid * once <= seconds and grid <= size), default=GRIDS[0])
    edges = [round(size * i / cells) for i in range(cells + 1)]
    lost = np.empty(cells * cells)
    for start in range(0, len(lost), _CHUNK):
        views = []
        for place in range(start, min(start + _CHUNK, len(lost))):
            row, column = divmod(place, cells)
            patch = np.s_[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
            view = image.copy()
            view[patch] = without[patch]
            views.append(view)
        lost[start : start + len(views)] = base - log_odds(np.stack(views))
    return (lost * lost.size).astype(np.float32).reshape(cells, cells)
