"""What a lesion map says: which share of the lungs shows opacities, and how well it agrees with masks."""

from __future__ import annotations

import numpy as np

from .imaging.lung_box import Box, LungFields

STRONGEST = 0.03  # share of the cells that count as the strongest lesion: 24 of 28 x 28
_POINTS = 4  # in each direction, at which a cell asks the mask of the lungs


def strongest_lesion(lesion_map: np.ndarray) -> float:
    """Return the mean logit of the strongest 3 % of the cells of a lesion map, float32 [h, w]."""
    count = max(1, round(STRONGEST * lesion_map.size))
    return float(np.partition(lesion_map, -count, axis=None)[-count:].mean())


def lesion_probabilities(lesion_map: np.ndarray) -> np.ndarray:
    """Return P(lesion) of each cell: logits, float32 [...] -> float32 [...]."""
    return np.asarray(1 / (1 + np.exp(-np.clip(lesion_map, -50, 50))), np.float32)


def lesion_share(lesion_map: np.ndarray, lungs: LungFields, region: Box, shape: tuple[int, ...]) -> float:
    """Compute the share of the lungs that shows opacities.

    A cell counts as lesion from P(lesion) 0.5 on, with its P as the share of it that is lesion. A consolidated cell is
    as bright as the chest wall and missing in the lung fields; it is lung nevertheless.

    Args:
        lesion_map: Logits, float32 [h, w].
        lungs: What `find_lung_fields` finds in the slice.
        region: The part of the slice that the map is of.
        shape: Height and width of the slice in pixels.

    Returns:
        The share, 0 to 1.
    """
    p = lesion_probabilities(lesion_map)
    lesion = np.where(p >= 0.5, p, 0)
    lung = np.maximum(lung_cells(lungs, region, shape, lesion_map.shape), lesion)
    return float(lesion.sum() / max(float(lung.sum()), 1e-6))


def lung_cells(lungs: LungFields, region: Box, shape: tuple[int, ...], cells: tuple[int, ...]) -> np.ndarray:
    """Compute the share of each cell of a map that is lung.

    Args:
        lungs: What `find_lung_fields` finds in the slice.
        region: The part of the slice that the map is of.
        shape: Height and width of the slice in pixels.
        cells: Height and width of the map in cells.

    Returns:
        float [cells[0], cells[1]], 0 to 1.
    """
    rows, columns = (
        (start + (end - start) * (2 * np.arange(_POINTS * count) + 1) / (2 * _POINTS * count)) * size / side
        for start, end, count, size, side in (
            (region.top, region.bottom, cells[0], lungs.mask.shape[0], shape[0]),
            (region.left, region.right, cells[1], lungs.mask.shape[1], shape[1]),
        )
    )
    points = lungs.mask[np.ix_(rows.astype(int), columns.astype(int))]
    return np.asarray(points.reshape(cells[0], _POINTS, cells[1], _POINTS).mean((1, 3)))


def dice(p: np.ndarray, truth: np.ndarray) -> float:
    """Compute the Dice coefficient of all cells together.

    Args:
        p: P(lesion), float [...]; a cell is lesion from 0.5 on.
        truth: Share of each cell that is lesion, float [...]; a cell is lesion from 0.5 on.

    Returns:
        2 |A and B| / (|A| + |B|); 1 where neither has a lesion.
    """
    predicted, actual = p >= 0.5, truth >= 0.5
    total = int(predicted.sum()) + int(actual.sum())
    return 2 * int((predicted & actual).sum()) / total if total else 1.0


def pointing_game(p: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Count the slices whose strongest cell lies on a lesion (Zhang et al. 2018, section 4.1).

    Args:
        p: P(lesion), float [n, h, w].
        truth: Share of each cell that is lesion, float [n, h, w].

    Returns:
        Number of slices whose strongest cell is lesion to at least a third, and number of slices that have a cell that
        is lesion to at least a half; others do not take part.
    """
    flat_p, flat_truth = p.reshape(len(p), -1), truth.reshape(len(truth), -1)
    taking_part = flat_truth.max(1) >= 0.5
    hits = flat_truth[np.arange(len(p)), flat_p.argmax(1)] >= 1 / 3
    return int((hits & taking_part).sum()), int(taking_part.sum())
