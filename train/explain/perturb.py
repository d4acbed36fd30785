"""Maps without gradients: what happens to the log-odds when parts of a slice are blurred away.

Of anything that gives log-odds, the int8 file included. What is hidden is blurred, not blackened: black is air, and a
black patch in a lung is something to see, too. Occlusion: Zeiler and Fergus 2014. RISE: Petsiuk et al. 2018.
"""

from __future__ import annotations

from time import monotonic

import cv2
import numpy as np

from .network import LogOdds

GRID = 14  # cells a side of an occlusion map
_RISE_CELLS, _RISE_SHOWN = 7, 0.5
_CHUNK = 32


def blurred(image: np.ndarray) -> np.ndarray:
    """uint8 [s, s, 1] -> the same without detail: a Gaussian of a tenth of the side."""
    return np.asarray(cv2.GaussianBlur(image[:, :, 0], (0, 0), len(image) / 10)[:, :, np.newaxis])


def occlusion(log_odds: LogOdds, image: np.ndarray, seconds: float = 10.0, grid: int = GRID) -> np.ndarray:
    """How much the log-odds fall when a patch is blurred away, float32 [g, g]; positive speaks for COVID-19.

    image: uint8 [s, s, 1]. A patch is two cells a side, a cell is the mean of the patches that cover it. Coarse grids
    come first: g is `grid`, or less where the time was up; at least 4.
    """
    until, found = monotonic() + seconds, None
    for cells in sorted({4, *(side for side in (7, 10) if side < grid), grid}):
        found = _occluded(log_odds, image, cells, until if found is not None else float("inf"), found)
        if monotonic() > until:
            break
    assert found is not None
    return found


def _occluded(
    log_odds: LogOdds, image: np.ndarray, cells: int, until: float, coarser: np.ndarray | None
) -> np.ndarray | None:
    """One grid's map; `coarser` where the time is up before it is whole."""
    hidden, edges = blurred(image), np.linspace(0, len(image), cells + 1).round().astype(int)
    places = [(row, column) for row in range(cells - 1) for column in range(cells - 1)]
    base = float(log_odds(image[np.newaxis])[0])
    total, count = np.zeros((cells, cells)), np.zeros((cells, cells))
    for start in range(0, len(places), _CHUNK):
        if monotonic() > until:
            return coarser
        part, views = places[start : start + _CHUNK], []
        for row, column in part:
            view = image.copy()
            box = slice(edges[row], edges[row + 2]), slice(edges[column], edges[column + 2])
            view[box] = hidden[box]
            views.append(view)
        for (row, column), value in zip(part, log_odds(np.stack(views)), strict=True):
            total[row : row + 2, column : column + 2] += base - value
            count[row : row + 2, column : column + 2] += 1
    return np.asarray(total / count, np.float32)


def rise(
    log_odds: LogOdds, image: np.ndarray, seconds: float = 10.0, masks: int = 1000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """A RISE map, float32 [s, s], and of how many masks it is.

    image: uint8 [s, s, 1]. Each pixel has the mean log-odds of the views that show it, less that of all views. The same
    seed gives the same masks; where `seconds` are up, there are fewer of them.
    """
    generator, hidden, side = np.random.default_rng(seed), blurred(image).astype(np.float32), len(image)
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
