"""The lung fields of a slice in a lung window: what is dark inside the body. No network; NumPy and OpenCV only.

As Garg et al. 2020 propose: a threshold, the largest components, holes filled. The threshold starts from Otsu's, so
brightness and contrast do not matter. Dense consolidation along the pleura is as bright as the chest wall and is lost;
what lies within the lung is kept. Gas in the stomach may pass for a lung where there is little lung left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from ..preprocess import resize_exact

SIDE = 256  # px, of the longer side of the copy that is segmented
# From Otsu's threshold towards the mean of what is brighter: ground glass lies there, fat and muscle above.
_HAZE = 0.4
# Shares of the slice's area: specks of noise are smaller than the one, airways and bowel gas than the other.
_SPECK, _LEAST = 0.001, 0.01
_SECOND = 0.08  # of the larger lung's area: the least of the smaller one
_DEEP = 0.7  # a region's area over the square of its length along the frame: outside air has less
_HOLE = 0.08  # of a lung's area: larger holes are the mediastinum between lungs that meet in front and behind
_BRIDGE = 0.025  # of the longer side: the half width of vessels that cut a lung into pieces


@dataclass(frozen=True, eq=False)
class Lungs:
    """What was found in one slice.

    mask: bool [h, w], the lung fields; all False where there are none.
    count: of pieces: 2; 1, a single lung or both where they meet in front; or 0, no lungs found.
    share: of the body's area that is lung, 0 to 1.
    """

    mask: np.ndarray
    count: int
    share: float

    @property
    def found(self) -> bool:
        """Whether there is a lung at all."""
        return self.count > 0


def segment(pixels: np.ndarray) -> Lungs:
    """The lungs of a grey slice, uint8 [h, w], air dark. A picture without lungs gives `count` 0."""
    height, width = pixels.shape
    scale = min(1.0, SIDE / max(height, width))
    sides = max(1, round(height * scale)), max(1, round(width * scale))
    small = cv2.medianBlur(resize_exact(pixels, *sides), 3)
    dark = (small <= _threshold(small)).astype(np.uint8)
    body = _body(dark)
    pieces = cv2.morphologyEx(dark & body, cv2.MORPH_OPEN, _disc(1))
    pieces = _kept(pieces, lambda areas: areas >= _SPECK * pieces.size)
    pieces = cv2.morphologyEx(pieces, cv2.MORPH_CLOSE, _disc(round(_BRIDGE * max(sides)))) & body
    lungs = _filled(_kept(pieces, lambda areas: _lung_sized(areas, pieces.size)))
    count = cv2.connectedComponents(lungs, connectivity=4)[0] - 1
    share = float(lungs.sum() / max(1, int(body.sum())))
    mask = cv2.resize(lungs, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    return Lungs(mask, count, share)


def _threshold(pixels: np.ndarray) -> float:
    otsu, _ = cv2.threshold(pixels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    brighter = pixels[pixels > otsu]
    return float(otsu + _HAZE * (brighter.mean() - otsu)) if brighter.size else otsu


def _body(dark: np.ndarray) -> np.ndarray:
    """uint8 [h, w] -> uint8 [h, w]: 0 in the air around the body: dark, and long along the frame for its area.

    Of a slice cropped into the chest a lung may touch the frame too, but it is deep for the length along which it does.
    Air under the patient reaches from side to side, as both lungs in one piece may, but not through the middle.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        cv2.morphologyEx(dark, cv2.MORPH_OPEN, _disc(2)), connectivity=4
    )
    sides = [np.bincount(side, minlength=count) for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1])]
    outside = stats[:, cv2.CC_STAT_AREA] < _DEEP * np.sum(sides, axis=0).astype(float) ** 2
    top, bottom, left, right = (side > 0 for side in sides)
    outside |= left & right & ~_through(stats[:, cv2.CC_STAT_TOP], stats[:, cv2.CC_STAT_HEIGHT], dark.shape[0])
    outside |= top & bottom & ~_through(stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_WIDTH], dark.shape[1])
    outside[0] = False
    air = cv2.dilate(outside[labels].astype(np.uint8), _disc(2)) & dark
    return np.asarray(1 - air)


def _through(start: np.ndarray, length: np.ndarray, side: int) -> np.ndarray:
    """Whether regions from `start` on reach over the middle of a side."""
    return np.asarray((start <= side // 2) & (start + length > side // 2))


def _lung_sized(areas: np.ndarray, size: int) -> np.ndarray:
    """Which regions are lungs: the one or two largest, if they are large enough."""
    largest = np.sort(areas)[::-1][:2]
    return np.asarray(areas >= max(_LEAST * size, _SECOND * largest[0], largest[-1]))


def _kept(regions: np.ndarray, rule: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The regions, uint8 [h, w], whose areas the rule accepts."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(regions, connectivity=4)
    if count == 1:
        return regions
    accepted = np.concatenate([[False], rule(stats[1:, cv2.CC_STAT_AREA])])
    return np.asarray(accepted[labels], np.uint8)


def _filled(lungs: np.ndarray) -> np.ndarray:
    """The lungs with their smaller holes filled: vessels, consolidation."""
    around = cv2.copyMakeBorder(1 - lungs, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)  # what lies open to the frame
    area = int(lungs.sum())
    holes = _kept(around, lambda areas: areas <= _HOLE * area)
    return np.asarray(lungs | holes[1:-1, 1:-1])


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
