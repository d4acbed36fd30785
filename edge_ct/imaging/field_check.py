"""Whether the lung fields of a picture look like those of CT slices: the second part of `slice_check`.

The first part adds up measurements, and so accepts a picture that has dark areas with sharp borders, whatever they are:
a portrait, a logo, dark objects on a table. This part measures the areas that would be taken for lungs, and weighs
products of two measurements as well, because what they have in common tells a slice: lungs that are large reach the
sides, and noise in the lungs goes with noise in the tissue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .field_weights import MEANS, SCALES, WEIGHTS
from .lung_box import LungFields, small_copy

_LIMIT = 4.0  # standard deviations: what is further off counts as much as this, so that no single value decides
_CREASE = np.ones((3, 3), np.uint8)
_MARGIN = np.ones((5, 5), np.uint8)


class FieldMeasurements(NamedTuple):
    """Measurements of the lung fields. The gap lies between the mean grey of the fields and that of the tissue."""

    area: float  # share of the picture
    pieces: float  # number of fields
    two_largest: float  # share of the area that the two largest fields have
    balance: float  # share of the area in the smaller half
    at_frame: float  # share of the frame that fields touch
    outline: float  # length of the outlines over the square root of the area
    solid: float  # area of the two largest fields over that of their convex hulls
    width: float  # of the rectangle around the fields, as a share of the width of the picture
    height: float  # the same of the height
    aspect: float  # logarithm of the ratio of width to height of the rectangle, in pixels
    symmetry: float  # overlap of the fields and their mirror image, over the area of both together
    grain: float  # mean difference from the neighbouring pixels within the fields, in gaps
    tissue_grain: float  # the same within the tissue
    spread: float  # standard deviation of the greys within the fields, in gaps


# Stands for a picture without fields: the weights were fitted with it, on slices at the ends of a series too.
NO_FIELDS = FieldMeasurements(*[0.0] * len(FieldMeasurements._fields))


def measure_fields(pixels: np.ndarray, fields: LungFields | None, copy: np.ndarray | None = None) -> FieldMeasurements:
    """Measure what would be taken for lungs.

    Args:
        pixels: uint8 [h, w].
        fields: What `find_lung_fields` finds in the picture.
        copy: The `small_copy` of the picture, where it is there already.
    """
    if fields is None:
        return NO_FIELDS
    mask = fields.mask
    side, area = len(mask), int(mask.sum())
    areas = np.sort(np.bincount(cv2.connectedComponents(mask, connectivity=4)[1].ravel())[1:])[::-1]
    left, top, width, height = cv2.boundingRect(mask)
    half = int(mask[:, : left + (width + 1) // 2].sum())
    frame = int(mask[0].sum()) + int(mask[-1].sum()) + int(mask[:, 0].sum()) + int(mask[:, -1].sum())
    shape = cv2.resize(mask[top : top + height, left : left + width] * 255, (32, 32), interpolation=cv2.INTER_AREA)
    mirrored = np.ascontiguousarray(shape[:, ::-1])
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = sorted(contours, key=cv2.contourArea)[-2:]
    hulls = sum(cv2.contourArea(cv2.convexHull(outline)) for outline in outlines)
    return FieldMeasurements(
        area=area / mask.size,
        pieces=len(areas),
        two_largest=areas[:2].sum() / area,
        balance=min(half, area - half) / area,
        at_frame=frame / (4 * side),
        outline=cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _CREASE).sum() / math.sqrt(area),
        solid=sum(map(cv2.contourArea, outlines)) / max(hulls, 1.0),
        width=width / side,
        height=height / side,
        aspect=math.log(width * pixels.shape[1] / (height * pixels.shape[0])),
        symmetry=float(np.minimum(shape, mirrored).sum() / max(int(np.maximum(shape, mirrored).sum()), 1)),
        **_greys(small_copy(pixels) if copy is None else copy, fields.mask),
    )


def _greys(copy: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return the measurements of the greys within the fields and within the tissue, which are the brightest 40 %.

    Args:
        copy: uint8 [n, n].
        mask: uint8 [n, n], 1 in the fields.
    """
    differences = cv2.absdiff(copy, cv2.blur(copy, (3, 3)))
    counts = cv2.calcHist([copy], [0], None, [256], [0, 256]).ravel()
    # The grey at the end of the darker 60 % of the sorted pixels.
    limit = int(np.searchsorted(np.cumsum(counts), 3 * (copy.size - 1) // 5, side="right"))
    tissue = cv2.threshold(copy, limit, 1, cv2.THRESH_BINARY)[1]
    gap = 1.0
    if cv2.countNonZero(tissue):
        gap = max(cv2.mean(copy, tissue)[0] - cv2.mean(copy, mask)[0], 1.0)
    inner = cv2.erode(mask, _MARGIN)
    # OpenCV's means without any pixel are 0.
    return {
        "grain": cv2.mean(differences, inner)[0] / gap,
        "tissue_grain": cv2.mean(differences, cv2.erode(tissue, _MARGIN))[0] / gap,
        "spread": float(cv2.meanStdDev(copy, mask=inner)[1][0, 0]) / gap,
    }


def terms(measured: np.ndarray) -> np.ndarray:
    """Return what is weighed of standardised measurements, [n, m]: 1, each one, and each product of two."""
    limited = np.clip(measured, -_LIMIT, _LIMIT)
    with_one = np.concatenate([np.ones((len(limited), 1)), limited], 1)
    first, second = np.triu_indices(with_one.shape[1])
    return np.asarray(with_one[:, first] * with_one[:, second])


def _as_matrix(weights: np.ndarray) -> np.ndarray:
    """Arrange the weights of `terms` as a matrix, of which a vector with its 1 gives the weighted sum of all terms."""
    side = 1 + len(MEANS)
    matrix = np.zeros((side, side))
    matrix[np.triu_indices(side)] = weights
    return matrix


_MATRIX = _as_matrix(WEIGHTS)


def score_fields(measured: Sequence[float]) -> float:
    """Return the weighted sum of the measurements of `slice_check`, followed by those of the fields.

    Above 0 a picture is more likely a slice than one of the pictures that the weights were fitted on.
    """
    standard = np.ones(len(_MATRIX))
    np.clip((np.asarray(measured, float) - MEANS) / SCALES, -_LIMIT, _LIMIT, out=standard[1:])
    # The sum of `terms`, in a tenth of the time.
    return float(standard @ _MATRIX @ standard)
