"""Segmentation of the lung fields of a slice in a lung window: the dark regions inside the body, without a network.

The method is the one that Garg et al. 2020 propose for grouping slices: a threshold, the largest components, holes
filled. The threshold is derived from Otsu's, so brightness and contrast do not matter. Dense consolidation along the
pleura is as bright as the chest wall and is lost; consolidation within the lung is kept. Gas in the stomach may be
taken for a lung in slices that show little lung.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .exact_resize import resize_exact

SIDE = 256  # px, longer side of the copy that is segmented
# The threshold lies this share of the way from Otsu's to the mean of the brighter pixels: ground glass is darker than
# it, fat and muscle are brighter.
_HAZE = 0.4
# Shares of the slice's area: specks of noise are smaller than the first, airways and bowel gas than the second.
_SPECK, _SMALLEST_LUNG = 0.001, 0.01
_SMALLER_LUNG = 0.08  # share of the larger lung's area that the smaller one has at least
_DEEP = 0.7  # area of a region over the square of its length along the frame; the air outside the body has less
_HOLE = 0.08  # share of a lung's area: larger holes are the mediastinum between lungs that meet in front and behind
_BRIDGE = 0.025  # share of the longer side: half the width of the vessels that cut a lung into pieces


@dataclass(frozen=True, eq=False)
class Lungs:
    """The lungs of one slice.

    Attributes:
        mask: bool [h, w], the lung fields; all False where no lungs were found.
        count: Number of pieces: 2; 1 for a single lung or for both where they meet in front; 0 where none were found.
        share: Share of the body's area that is lung, 0 to 1.
    """

    mask: np.ndarray
    count: int
    share: float

    @property
    def shows_lung(self) -> bool:
        """Whether the slice shows any lung."""
        return self.count > 0


def segment(pixels: np.ndarray) -> Lungs:
    """Segment the lungs of a grey slice, uint8 [h, w], in which air is dark; `count` is 0 where it shows none."""
    height, width = pixels.shape
    scale = min(1.0, SIDE / max(height, width))
    sides = max(1, round(height * scale)), max(1, round(width * scale))
    small = cv2.medianBlur(resize_exact(pixels, *sides), 3)
    dark = (small <= _threshold(small)).astype(np.uint8)
    body = _body(dark)
    pieces = cv2.morphologyEx(dark & body, cv2.MORPH_OPEN, _disc(1))
    pieces = _keep(pieces, lambda areas: areas >= _SPECK * pieces.size)
    pieces = cv2.morphologyEx(pieces, cv2.MORPH_CLOSE, _disc(round(_BRIDGE * max(sides)))) & body
    lungs = _fill_holes(_keep(pieces, lambda areas: _are_lungs(areas, pieces.size)))
    count = cv2.connectedComponents(lungs, connectivity=4)[0] - 1
    share = float(lungs.sum() / max(1, int(body.sum())))
    mask = cv2.resize(lungs, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    return Lungs(mask, count, share)


def _threshold(pixels: np.ndarray) -> float:
    otsu, _ = cv2.threshold(pixels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    brighter = pixels[pixels > otsu]
    return float(otsu + _HAZE * (brighter.mean() - otsu)) if brighter.size else otsu


def _body(dark: np.ndarray) -> np.ndarray:
    """Return the mask of all but the air around the body, uint8 [h, w], from the mask of the dark pixels.

    The air around the body is long along the frame for its area. A lung may touch the frame as well where the slice is
    cropped into the chest, but it is deep for the length along which it does. Air under the patient reaches from side
    to side, as both lungs in one piece may, but not through the middle.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        cv2.morphologyEx(dark, cv2.MORPH_OPEN, _disc(2)), connectivity=4
    )
    sides = [np.bincount(side, minlength=count) for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1])]
    outside = stats[:, cv2.CC_STAT_AREA] < _DEEP * np.sum(sides, axis=0).astype(float) ** 2
    top, bottom, left, right = (side > 0 for side in sides)
    outside |= left & right & ~_reaches_middle(stats[:, cv2.CC_STAT_TOP], stats[:, cv2.CC_STAT_HEIGHT], dark.shape[0])
    outside |= top & bottom & ~_reaches_middle(stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_WIDTH], dark.shape[1])
    outside[0] = False
    air = cv2.dilate(outside[labels].astype(np.uint8), _disc(2)) & dark
    return np.asarray(1 - air)


def _reaches_middle(start: np.ndarray, length: np.ndarray, side: int) -> np.ndarray:
    """Tell which regions, from `start` on, reach over the middle of a side."""
    return np.asarray((start <= side // 2) & (start + length > side // 2))


def _are_lungs(areas: np.ndarray, size: int) -> np.ndarray:
    """Tell which regions are lungs: the one or two largest, if they are large enough."""
    largest = np.sort(areas)[::-1][:2]
    return np.asarray(areas >= max(_SMALLEST_LUNG * size, _SMALLER_LUNG * largest[0], largest[-1]))


def _keep(regions: np.ndarray, rule: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Keep the regions of a mask, uint8 [h, w], whose areas the rule accepts."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(regions, connectivity=4)
    if count == 1:
        return regions
    accepted = np.concatenate([[False], rule(stats[1:, cv2.CC_STAT_AREA])])
    return np.asarray(accepted[labels], np.uint8)


def _fill_holes(lungs: np.ndarray) -> np.ndarray:
    """Fill the smaller holes of the lungs, which are vessels and consolidation."""
    # The border connects everything that is open to the frame.
    around = cv2.copyMakeBorder(1 - lungs, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    area = int(lungs.sum())
    holes = _keep(around, lambda areas: areas <= _HOLE * area)
    return np.asarray(lungs | holes[1:-1, 1:-1])


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
