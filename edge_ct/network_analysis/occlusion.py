"""What a slice's parts weigh, without gradients: each is blurred away, and what the log-odds lose is its evidence.

Zeiler and Fergus 2014, section 4.1. Blurred, not blackened: black is air, and a black patch in a lung is something to
see, too. The evidence of a patch is given for each cell as a class map gives it, so that the mean of a map is what all
patches together weigh, and one colour scale serves both. Finer grids take more inferences.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import cv2
import numpy as np

GRIDS = (4, 6, 8, 12, 16)
_CHUNK = 32


def blur(image: np.ndarray) -> np.ndarray:
    """uint8 [s, s, 1] -> the same without detail: the mean of a quarter of the side around each pixel."""
    side = max(3, image.shape[0] // 4) | 1
    return np.asarray(cv2.blur(image[:, :, 0], (side, side))[:, :, np.newaxis])


def occlusion_map(log_odds: Callable[[np.ndarray], np.ndarray], image: np.ndarray, seconds: float) -> np.ndarray:
    """The evidence of each cell of a grid, float32 [g, g]; positive speaks for COVID-19.

    log_odds: of images uint8 [n, s, s, 1], [n]. image: uint8 [s, s, 1]. The finest of `GRIDS` that fits `seconds` is
    used; the coarsest is always finished, so a slow machine takes longer rather than explain nothing.
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
