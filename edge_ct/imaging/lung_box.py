"""The rectangle around the lungs of a slice, fast and in integers: what a network that takes cropped slices sees.

The method is that of `lungs.segment`, on a copy of 96 x 96 px and without the outline: Otsu's threshold (1979), the air
around the body removed, the dark regions that remain are lungs. All arithmetic is on integers, so that every machine
finds the same rectangle; it takes about 0.2 ms where `lungs.segment` takes several.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from .exact_resize import resize_exact

_SIDE = 96  # px, of the copy that is searched
_FLAT = 8  # greys that the pixels of a row or column of a frame, or of the empty air, differ by
_GREYS = np.arange(256)
_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
# The threshold lies this share of the way from Otsu's to the mean of the brighter pixels, as ground glass does.
_HAZE = (2, 5)
# A dark region at the frame is air around the body if its area, in percent of (length along the frame) squared and of
# (side of the copy) x (length along the frame), is below these: a lung in a slice cropped into the chest is deep.
_SHALLOW, _THIN = 70, 22
# The largest lung has at least 1 / 100 of the area; the other regions 1 / 500 of it and 1 / 12 of the largest one.
_LARGEST, _SPECK, _SMALLER = 100, 500, 12


class Box(NamedTuple):
    """A rectangle in pixels: rows from `top` up to but not including `bottom`, columns from `left` up to `right`."""

    top: int
    bottom: int
    left: int
    right: int

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """Return the part of a picture [h, w, ...] that lies in the rectangle."""
        return pixels[self.top : self.bottom, self.left : self.right]

    def grown(self, percent: int, height: int, width: int) -> Box:
        """Return the rectangle enlarged on each side by a percentage of its longer side, within height x width."""
        extra = percent * max(self.bottom - self.top, self.right - self.left) // 100
        return Box(
            max(0, self.top - extra),
            min(height, self.bottom + extra),
            max(0, self.left - extra),
            min(width, self.right + extra),
        )


class LungFields(NamedTuple):
    """The lungs of a slice as a small mask: good for shares of the lungs, too coarse for outlines.

    Attributes:
        box: The rectangle around both lungs, in pixels of the slice.
        mask: uint8 [96, 96], 1 where a slice that is resized to 96 x 96 px shows lung. Dense consolidation is missing.
    """

    box: Box
    mask: np.ndarray


def small_copy(pixels: np.ndarray) -> np.ndarray:
    """Return the copy of a slice that is searched for lungs: uint8 [h, w] -> uint8 [96, 96]."""
    return resize_exact(pixels, _SIDE, _SIDE)


def find_lung_fields(pixels: np.ndarray, copy: np.ndarray | None = None) -> LungFields | None:
    """Find both lungs and the rectangle around them.

    Args:
        pixels: uint8 [h, w], a slice in a lung window, air dark; it may be cropped or have a frame of any grey.
        copy: The `small_copy` of the slice, where it is there already.

    Returns:
        The lungs, or None where no lungs are found.
    """
    copy = cv2.medianBlur(small_copy(pixels) if copy is None else copy, 3)
    top, bottom = _live_rows(copy)
    left, right = _live_rows(copy[top:bottom].T)
    lungs = _search(copy[top:bottom, left:right])
    if lungs is None:
        # What looked like a frame may be soft tissue of one grey.
        top, bottom, left, right = 0, _SIDE, 0, _SIDE
        lungs = _search(copy)
    if lungs is None:
        return None
    box, mask = lungs
    rows, columns = pixels.shape
    inside = Box(
        (top + box.top) * rows // _SIDE,
        -(-(top + box.bottom) * rows // _SIDE),
        (left + box.left) * columns // _SIDE,
        -(-(left + box.right) * columns // _SIDE),
    )
    whole = np.zeros_like(copy)
    whole[top:bottom, left:right] = mask
    return LungFields(inside, whole)


def _search(copy: np.ndarray) -> LungFields | None:
    """Find the lungs in a small copy without its frame, uint8 [h, w]; the result is in its pixels and of its shape."""
    threshold = _lung_threshold(copy) if copy.size else None
    if threshold is None:
        return None
    dark = np.asarray(copy <= threshold, np.uint8)
    opened = cv2.morphologyEx(dark & ~_air_around_body(dark), cv2.MORPH_OPEN, _DISC)
    # Counting afterwards takes less than OpenCV's statistics.
    labels: np.ndarray = cv2.connectedComponents(opened, connectivity=4, ltype=cv2.CV_16U)[1]
    areas = np.bincount(labels.ravel())[1:]
    largest = int(areas.max(initial=0))
    if largest * _LARGEST < _SIDE * _SIDE:
        return None
    lungs = np.append(False, (areas * _SPECK >= _SIDE * _SIDE) & (areas * _SMALLER >= largest))
    mask = lungs.astype(np.uint8).take(labels)
    left, top, width, height = cv2.boundingRect(mask)
    return LungFields(Box(top, top + height, left, left + width), mask)


def _live_rows(copy: np.ndarray) -> tuple[int, int]:
    """Return the first row that is not of one grey, and the last one + 1; (0, 0) where there is none."""
    live = np.flatnonzero(copy.max(1) - copy.min(1) > _FLAT) if copy.size else np.empty(0, int)
    if not live.size:
        return 0, 0
    # The row beside a frame is a mixture of both.
    first, last = int(live[0]), int(live[-1]) + 1
    return first + (first > 0), last - (last < len(copy))


def _lung_threshold(copy: np.ndarray) -> int | None:
    """Return the brightest grey that is still lung; None for a copy of one grey."""
    counts = cv2.calcHist([copy], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    below, sum_below = np.cumsum(counts), np.cumsum(counts * _GREYS)
    count, total = int(below[-1]), int(sum_below[-1])
    above = count - below
    distance = np.abs(count * sum_below - below * total)
    # The variance between the classes, Otsu 1979 equation 18, up to a constant factor and two rounded quotients.
    between = np.where(above > 0, (distance // np.maximum(below, 1)) * (distance // np.maximum(above, 1)), 0)
    otsu = int(between.argmax())
    if between[otsu] <= 0:
        return None
    bright = (total - int(sum_below[otsu])) // int(above[otsu])
    return otsu + _HAZE[0] * (bright - otsu) // _HAZE[1]


def _air_around_body(dark: np.ndarray) -> np.ndarray:
    """Return the mask, uint8 [h, w], of the dark regions at the frame that are no lung cut by it."""
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, _DISC)
    count, labels = cv2.connectedComponents(opened, connectivity=4, ltype=cv2.CV_16U)
    edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    sides = np.stack([np.bincount(edge, minlength=count) for edge in edges])
    length, area = sides.sum(0), np.bincount(labels.ravel(), minlength=count)
    air = (100 * area < _SHALLOW * length * length) & (100 * area < _THIN * _SIDE * length)
    # Air between patient and table reaches from side to side. So may both lungs in one piece, but in the middle.
    # A connected region reaches over the middle if it has a pixel above it or there, and one there or below.
    middle = dark.shape[0] // 2
    across = (sides[2] > 0) & (sides[3] > 0)
    if across[1:].any():
        upper, lower = (np.bincount(half.ravel(), minlength=count) for half in (labels[: middle + 1], labels[middle:]))
        air |= across & ~((upper > 0) & (lower > 0))
    air[0] = False
    if not air.any():
        return np.zeros_like(dark)
    return np.asarray(cv2.dilate(air.astype(np.uint8).take(labels), _DISC))
