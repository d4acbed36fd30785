"""What a lesion map says: which share of the lungs shows opacities, and how well it agrees with masks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .imaging.lung_box import Box, LungFields
from .manifest import LesionEvidence

# In the loss, a cell that is all lesion weighs 1 + LESION_WEIGHT times as much as one without: in a typical slice one
# cell in ten shows any.
LESION_WEIGHT = 4.0
STRONGEST = 0.03  # share of the cells that count as the strongest lesion: 24 of 28 x 28
_POINTS = 4  # in each direction, at which a cell asks the mask of the lungs


class LesionAreas(NamedTuple):
    """Areas in one slice, as shares of the area of the slice.

    Attributes:
        lesion: Area that shows opacities.
        lung: Area of the lungs, with the opacities in them.
    """

    lesion: float
    lung: float

    @property
    def share(self) -> float:
        """Share of the lungs that shows opacities, 0 to 1."""
        return self.lesion / max(self.lung, 1e-12)


def strongest_lesion(lesion_map: np.ndarray) -> float:
    """Return the mean logit of the strongest 3 % of the cells of a lesion map, float32 [h, w]."""
    count = max(1, round(STRONGEST * lesion_map.size))
    return float(np.partition(lesion_map, -count, axis=None)[-count:].mean())


def lesion_probabilities(lesion_map: np.ndarray) -> np.ndarray:
    """Return P(lesion) of each cell: logits, float32 [...] -> float32 [...]."""
    return np.asarray(1 / (1 + np.exp(-np.clip(lesion_map, -50, 50))), np.float32)


def measure_lesions(lesion_map: np.ndarray, lungs: LungFields, region: Box, shape: tuple[int, ...]) -> LesionAreas:
    """Measure the area of the lungs, and the area in them that shows opacities.

    Each cell counts with the share of it that is expected to be lesion. Training weighs lesion more than the rest,
    which multiplies the odds of a lesion by 1 + `LESION_WEIGHT`; here they are divided by it again. No cell is cut off
    at a probability, as faint opacities would then count as nothing. A consolidated cell is as bright as the chest
    wall and missing in the lung fields; it is lung nevertheless.

    Args:
        lesion_map: Logits, float32 [h, w].
        lungs: What `find_lung_fields` finds in the slice.
        region: The part of the slice that the map is of.
        shape: Height and width of the slice in pixels.
    """
    lesion = lesion_probabilities(lesion_map - np.float32(np.log(1 + LESION_WEIGHT)))
    lung = np.maximum(lung_cells(lungs, region, shape, lesion_map.shape), lesion)
    cell = (region.bottom - region.top) * (region.right - region.left) / (shape[0] * shape[1] * lesion_map.size)
    return LesionAreas(float(lesion.sum()) * cell, float(lung.sum()) * cell)


def lesion_share(lesion_map: np.ndarray, lungs: LungFields, region: Box, shape: tuple[int, ...]) -> float:
    """Return the share of the lungs of a slice that shows opacities, 0 to 1; arguments as in `measure_lesions`."""
    return measure_lesions(lesion_map, lungs, region, shape).share


def pooled_share(areas: Iterable[LesionAreas | None]) -> float | None:
    """Return the share of the lungs that shows opacities over several slices, 0 to 1.

    All lesion area is divided by all lung area, so that a slice with much lung weighs more than the tip of a lung.

    Args:
        areas: The areas of each slice; None for a slice in which they were not measured.

    Returns:
        The share; None if no slice was measured.
    """
    measured = [one for one in areas if one is not None]
    if not measured:
        return None
    return LesionAreas(sum(one.lesion for one in measured), sum(one.lung for one in measured)).share


def describe_share_column(evidence: LesionEvidence | None) -> str:
    """Return the line that explains a column of lesion shares."""
    return f"lungs: share of the lungs that shows opacities, {_error(evidence)}"


def describe_share(share: float, evidence: LesionEvidence | None) -> str:
    """Describe a lesion share in a sentence, with its error as far as that was measured.

    Args:
        share: The share of the lungs that shows opacities, 0 to 1.
        evidence: `Manifest.lesions`.
    """
    return f"about {100 * share:.0f} % of the lungs, {_error(evidence)}"


def _error(evidence: LesionEvidence | None) -> str:
    if evidence is None:
        return "with an error that was not measured"
    points = max(1, round(100 * evidence.share_error))
    return (
        f"± {points} point{'s' if points > 1 else ''} (mean error on {evidence.slices} slices with masks of "
        f"{evidence.patients} patients that the network did not learn from)"
    )


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
    # Sums of bytes over the rows first: a mean over both directions at once takes three times as long.
    by_row = lungs.mask.take(rows.astype(int), 0).reshape(cells[0], _POINTS, -1).sum(1, dtype=np.uint8)
    points = by_row.take(columns.astype(int), 1).reshape(cells[0], cells[1], _POINTS)
    return np.asarray(points.sum(2, dtype=np.uint8) / _POINTS**2)


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
