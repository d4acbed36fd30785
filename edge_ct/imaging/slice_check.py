"""Whether a picture is an axial lung CT slice: a check of its pixels, before the network and for every bundle.

A CT slice in a lung window has two greys, lung and soft tissue, with sharp borders between them and little in between;
chest X-rays and photographs have gradual transitions. Eleven measurements of this and of where the dark areas lie, on a
copy of 64 x 64 px without its frame, are added up with fixed weights. `scripts/fit_slice_check.py` fitted them, on
slices in other windows, crops, borders and exports, against X-rays and photographs: a positive sum is accepted as
a slice. Of what is accepted, `field_check` measures the dark areas that would be taken for lungs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from .field_check import measure_fields, score_fields
from .lung_box import LungFields, find_lung_fields, small_copy

SIDE = 64  # px, side of the copy that is measured
_FRAMED = 128  # px, side of the copy before its frame is cut off
# A row or column at the edge is frame if its greys differ by at most `_FLAT` from its end, apart from a share of
# `_TEXT`, which may be burnt-in text.
_FLAT, _TEXT = 8, 0.12
_MOST_FRAME = 0.4  # share of a side that may be frame
_SMALL = 6.0  # added to the sum for each halving below `_FRAMED`: small slices have lost their sharp borders
_CRUSHED = 0.5  # share of the dark pixels with one grey: lungs in a soft-tissue window
_COLOURED = 8  # grey levels by which the channels of a coloured pixel differ, beyond a tint of the whole picture
# A picture with more coloured pixels is a colour picture; a smaller share lowers the sum by its price.
_COLOURFUL, _COLOUR_PRICE = 0.25, 10.0

# Smallest ratio of width to height without the frame: in every axial slice the body is wider than deep.
_NARROW = 0.8

_WIDE = 2.2  # largest ratio of width to height, with the frame or without; that of the real slices is at most 2.1
# A mask, a drawing or rendered text has few greys: a large share of its pixels at the two commonest ones, or few
# effective greys (the exponential of the entropy), or all but 2 % of its pixels at a few greys; the slice with the
# fewest has 115 for them. Of 3,894 real slices of eight sources one is beyond these limits.
_TWO_GREYS, _FEW_GREYS, _MOST_PIXELS, _STEPS = 0.85, 12.0, 0.98, 8
_NEAR = 2  # grey levels about a common grey that count with it, for JPEG
# The same with noise or blurred edges, on the small copy: shares of its pixels within `_NOISE` of its two or three
# commonest greys. Three common greys occur in slices too, but not without texture: the mean difference from the median
# of 5 x 5 px, away from the border between dark and bright, over the gap between both. A copy that is smooth throughout
# is a drawing in any case. Of 3,120 real slices of eight sources none is beyond these limits.
_NOISE, _TWO_NOISY, _THREE_NOISY, _TEXTURE, _SMOOTH = 10, 0.94, 0.86, 0.0045, 0.002
# Text and line drawings consist of thin strokes: little of the dark or of the bright outlasts an opening by 5 x 5 px.
_STROKES = 0.2

# A sum below `REJECT` is rejected; a sum below `DOUBT` is rejected if the outlier detector agrees. A picture is called
# inverted where its negative has a sum above `_SURE`.
REJECT, DOUBT, _SURE = -0.5, 0.9, 1.5
# The sum of `field_check` below which a picture is rejected. It is low, because a hospital that the weights were fitted
# without has slices below 0 (`field_weights`), and a slice that is not judged costs more than a drawing that is.
_REJECT_FIELDS = -2.0
UNLIKE = (
    "does not look like a lung CT slice (an X-ray, a photograph, another part of the body?): "
    "give axial chest CT slices in a lung window (level -600, width 1500)"
)


class Measurements(NamedTuple):
    """The eleven measurements. Otsu's threshold separates dark from bright; the gap lies between their means."""

    split: float  # share of the variance that lies between dark and bright
    spread: float  # standard deviation of the bright, in gaps
    between: float  # share of pixels in the middle of the gap
    slopes: float  # share of pixels that are neither flat nor an edge
    edges: float  # share of the gradients' energy that lies where dark meets bright
    whole: float  # share of the bright that is in one piece
    pieces: float  # logarithm of the number of dark pieces
    beside: float  # dark to the left and right less dark in the middle
    spine: float  # dark at the lower end of the middle
    valley: float  # how far the dark thins out between its two sides
    lower: float  # dark in the lower part less dark in the upper


_GREYS = np.arange(256, dtype=np.float64)
_SQUARE, _BROAD = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)
_WEIGHTS = Measurements(
    split=2.297,
    spread=-24.39,
    between=-0.544,
    slopes=-7.637,
    edges=15.73,
    whole=9.688,
    pieces=0.9937,
    beside=1.772,
    spine=-0.6544,
    valley=1.508,
    lower=0.3464,
)
_BIAS = -18.18


def colour_share(image: np.ndarray) -> float:
    """Return the share of coloured pixels, 0 to 1.

    A uniform tint does not count: in a blue film or a slice saved as RGB every channel follows the grey.

    Args:
        image: uint8 [h, w, 3].
    """
    channels = image.reshape(-1, 3).astype(np.float32)
    grey = channels.mean(1)
    centred, variation = grey - grey.mean(), channels - channels.mean(0)
    follows = centred @ variation / max(float(centred @ centred), 1e-6)
    beyond = np.abs(variation - centred[:, np.newaxis] * follows).max(1)
    return float((beyond > _COLOURED).mean())


class _TwoParts(NamedTuple):
    """A copy that Otsu's threshold separates into dark and bright.

    Attributes:
        copy: uint8 [SIDE, SIDE].
        counts: Number of pixels of each grey, float64 [256].
        level: The darkest grey of the bright part.
        dark: 1 where the copy is dark, uint8 [SIDE, SIDE].
        low: Mean grey of the dark part.
        high: Mean grey of the bright part.
    """

    copy: np.ndarray
    counts: np.ndarray
    level: int
    dark: np.ndarray
    low: float
    high: float


@dataclass(frozen=True)
class SliceCheck:
    """The result of the check.

    Attributes:
        total: The weighted sum; higher is more like a slice.
        reason: Why the picture is rejected; None for an accepted one.
        allowed: The part of the sum that was added because the picture is small.
        lungs: The lung fields, if they were looked for and found.
    """

    total: float
    reason: str | None = None
    allowed: float = 0.0
    lungs: LungFields | None = None

    @property
    def doubtful(self) -> bool:
        """Whether the outlier detector must decide as well."""
        return self.total - self.allowed < DOUBT


def check_slice(pixels: np.ndarray, colour: float = 0.0, lung_found: bool = False) -> SliceCheck:
    """Check a picture.

    Args:
        pixels: uint8 [h, w].
        colour: Share of coloured pixels, from `colour_share`.
        lung_found: True for a DICOM CT slice in whose Hounsfield units lung was found. Such a slice is rejected only if
            it is blank or a mask: a wide field of view or padding changes how it looks, and not what it is.
    """
    height, width = pixels.shape
    if colour > _COLOURFUL:
        return SliceCheck(-math.inf, "this is a colour picture, not a CT slice: give the slice itself, in grey")
    whole = thumbnail(pixels)
    box = _live_box(whole)
    copy = _cut(whole, box)
    parts = None if copy is None else _separate(copy)
    if parts is None:
        return SliceCheck(
            -math.inf, "the picture is blank or nearly one grey: export the slice again, in a lung window"
        )
    if _has_few_greys(pixels, parts.counts):
        return SliceCheck(
            -math.inf, "the picture has few greys, as a mask, a drawing or text has: give the CT slice itself"
        )
    if lung_found:
        return SliceCheck(math.inf)
    if reason := _reason_as_drawing(parts):
        return SliceCheck(-math.inf, reason)
    (top, bottom), (left, right) = box
    if width > _WIDE * height or (right - left) * width > _WIDE * (bottom - top) * height:
        return SliceCheck(-math.inf, "the picture is much wider than high, unlike an axial slice: give the whole slice")
    allowed = _SMALL * math.log2(max(_FRAMED / min(pixels.shape), 1))
    measured = _measure(parts)
    total = weighted_sum(measured) + allowed - _COLOUR_PRICE * colour
    if total < REJECT:
        return SliceCheck(total, _reason(parts), allowed)
    if (right - left) * width < _NARROW * (bottom - top) * height:
        return SliceCheck(
            -math.inf,
            "the picture is higher than wide, unlike an axial slice: turn it upright, or give the whole slice",
        )
    small = small_copy(pixels)
    lungs = find_lung_fields(pixels, small)
    if score_fields((*measured, *measure_fields(pixels, lungs, small))) < _REJECT_FIELDS:
        return SliceCheck(-math.inf, UNLIKE)
    return SliceCheck(total, None, allowed, lungs)


def _has_few_greys(pixels: np.ndarray, counts: np.ndarray) -> bool:
    """Return True for a mask, a drawing or text without noise.

    Args:
        pixels: The picture, uint8 [h, w].
        counts: Number of pixels of each grey in its small copy, float64 [256].
    """
    shares = counts[counts > 0] / counts.sum()
    if math.exp(-float(shares @ np.log(shares))) < _FEW_GREYS:
        return True
    sample = pixels
    if min(pixels.shape) >= 2 * _FRAMED:
        # Every second row and column of a large picture gives the same shares, in less than half the time. OpenCV reads
        # the columns as the first channel of pairs, without a copy.
        rows, pairs = (pixels.shape[0] + 1) // 2, pixels.shape[1] // 2
        sample = pixels[::2, : 2 * pairs].reshape(rows, pairs, 2)
    size = sample.shape[0] * sample.shape[1]
    histogram = _histogram(sample)
    if np.sort(histogram)[-_STEPS:].sum() > _MOST_PIXELS * size:
        return True
    near = _windows(histogram, _NEAR)
    first = int(near.argmax())
    total = near[first]
    near[max(first - 2 * _NEAR, 0) : first + 2 * _NEAR + 1] = 0
    return bool(total + near.max() > _TWO_GREYS * size)


def _histogram(pixels: np.ndarray) -> np.ndarray:
    """Count the pixels of each grey in a picture, or in its first channel: uint8 [h, w, ...] -> float64 [256]."""
    return cv2.calcHist([pixels], [0], None, [256], [0, 256]).ravel().astype(np.float64)


def _windows(counts: np.ndarray, reach: int) -> np.ndarray:
    """Add to each of 256 counts those of the greys that differ by up to `reach`."""
    sums = np.zeros(257 + 2 * reach)
    np.cumsum(counts, out=sums[reach + 1 : reach + 257])
    sums[reach + 257 :] = sums[reach + 256]
    return np.asarray(sums[2 * reach + 1 :] - sums[:256])


def _reason_as_drawing(parts: _TwoParts) -> str | None:
    """Return why a copy shows text, a drawing or a mask with noise; None if it does not."""
    copy, dark = parts.copy, parts.dark
    shrunk, grown = cv2.erode(dark, _BROAD), cv2.dilate(dark, _BROAD)
    dark_area, kept = cv2.countNonZero(dark), cv2.countNonZero(cv2.dilate(shrunk, _BROAD))
    # What an opening keeps of the bright is what a closing of the dark leaves free.
    bright_area, bright_kept = copy.size - dark_area, copy.size - cv2.countNonZero(cv2.erode(grown, _BROAD))
    if kept < _STROKES * dark_area or bright_kept < _STROKES * bright_area:
        return "the picture consists of thin strokes, as text or a line drawing does: give the CT slice itself"
    two, three = _commonest(parts.counts)
    border = grown - shrunk
    texture, flat = 0.0, copy.size - cv2.countNonZero(border)
    if flat:
        # OpenCV takes 15 times as long for up to 67 columns. Its filter repeats the last column at the edge, too.
        median = cv2.medianBlur(cv2.copyMakeBorder(copy, 0, 0, 0, 4, cv2.BORDER_REPLICATE), 5)[:, :SIDE]
        differences = cv2.absdiff(copy, median) * (1 - border)
        texture = cv2.sumElems(differences)[0] / flat / (parts.high - parts.low)
    if two > _TWO_NOISY or texture < _SMOOTH or (three > _THREE_NOISY and texture < _TEXTURE):
        return "the picture has no texture, unlike a CT slice (a mask, a drawing?): give the CT slice itself"
    return None


def _commonest(counts: np.ndarray) -> tuple[float, float]:
    """Return the shares of the pixels within `_NOISE` of the two, and of the three, commonest greys."""
    left, shares = counts.copy(), []
    for _ in range(3):
        near = _windows(left, _NOISE)
        first = int(near.argmax())
        shares.append(float(near[first] / counts.sum()))
        left[max(first - _NOISE, 0) : first + _NOISE + 1] = 0
    return sum(shares[:2]), sum(shares)


def weighted_sum(measured: Measurements) -> float:
    """Return the weighted sum of the measurements."""
    return float(_BIAS + sum(weight * value for weight, value in zip(_WEIGHTS, measured, strict=True)))


def measure(copy: np.ndarray) -> Measurements | None:
    """Measure a copy without its frame, uint8 [SIDE, SIDE]; return None if it has only one grey level."""
    parts = _separate(copy)
    return None if parts is None else _measure(parts)


def _separate(copy: np.ndarray) -> _TwoParts | None:
    """Separate dark from bright; return None if the copy has only one grey level."""
    threshold, dark = cv2.threshold(copy, 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    counts, level = _histogram(copy), int(threshold) + 1
    if not 0 < counts[:level].sum() < copy.size:
        return None
    return _TwoParts(copy, counts, level, dark, _mean(counts[:level], 0), _mean(counts[level:], level))


def _measure(parts: _TwoParts) -> Measurements:
    copy, counts, level, dark, low, high = parts
    dark_share, gap, mean = counts[:level].sum() / copy.size, high - low, _mean(counts, 0)
    squares = counts @ (_GREYS - mean) ** 2
    bright = counts[level:] @ (_GREYS[level:] - high) ** 2 / counts[level:].sum()
    middle = (low + 0.3 * gap < _GREYS) & (low + 0.7 * gap > _GREYS)
    across, down = (cv2.Sobel(copy, cv2.CV_32F, x, 1 - x, scale=1 / (8 * gap)) for x in (1, 0))
    energy = across * across + down * down
    border = cv2.morphologyEx(dark, cv2.MORPH_GRADIENT, _SQUARE)
    # Counting afterwards takes less than OpenCV's statistics.
    bright_pieces = np.bincount(cv2.connectedComponents(1 - dark, connectivity=4)[1].ravel())
    pieces, _ = cv2.connectedComponents(dark, connectivity=4)
    # Numbers of dark pixels in 8 x 8 fields; `folded` adds those of the mirrored right half to those of the left half.
    bands = dark.reshape(8, SIDE // 8, SIDE).sum(1, dtype=np.uint8)
    fields = bands.reshape(8, 8, SIDE // 8).sum(2, dtype=np.int64)
    folded, field = fields + fields[:, ::-1], 2 * (SIDE // 8) ** 2
    columns, half = bands.sum(0, dtype=np.int64), SIDE // 2
    sides = min(columns[SIDE // 8 : half].max(), columns[half : -SIDE // 8].max())
    return Measurements(
        split=dark_share * (1 - dark_share) * gap**2 * copy.size / squares,
        spread=math.sqrt(bright) / gap,
        between=counts[middle].sum() / copy.size,
        slopes=np.count_nonzero((energy > 0.03**2) & (energy < 0.12**2)) / copy.size,
        edges=cv2.sumElems(energy * border)[0] / max(cv2.sumElems(energy)[0], 1e-12),
        whole=bright_pieces[1:].max() / (copy.size - bright_pieces[0]),
        pieces=math.log(pieces - 1),
        beside=(folded[2:6, 1:3].sum() / 8 - folded[2:6, 3].sum() / 4) / field,
        spine=folded[6, 3] / field,
        valley=(sides - columns[half - 6 : half + 6].min()) / SIDE,
        lower=(folded[4:7].sum() - folded[1:4].sum()) / (3 * 8 * field),
    )


def without_frame(copy: np.ndarray) -> np.ndarray | None:
    """Cut off bars, margins and the air around the body: uint8 [n, n] -> uint8 [SIDE, SIDE]; None if it is blank."""
    return _cut(copy, _live_box(copy))


def _cut(copy: np.ndarray, box: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray | None:
    (top, bottom), (left, right) = box
    if bottom - top < 3 or right - left < 3:
        return None
    inner = cv2.resize(copy[top:bottom, left:right], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR_EXACT)
    # OpenCV takes twenty times as long for up to 65 px. Its filter repeats the last row and column at the edge, too.
    wider = cv2.copyMakeBorder(inner, 0, 2, 0, 2, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(cv2.medianBlur(wider, 3)[:SIDE, :SIDE])


def _live_box(copy: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the range of rows, then of columns, that are not frame."""
    return _live(copy), _live(cv2.transpose(copy))


def _live(copy: np.ndarray) -> tuple[int, int]:
    """Return the first row and the last row + 1 that are not frame; (0, 0) if all rows are."""
    size = len(copy)
    like_first, like_last = (_count_like(copy, copy[:, end : end + 1]) for end in (0, size - 1))
    live = np.flatnonzero(np.maximum(like_first, like_last) < (1 - _TEXT) * size)
    if not live.size:
        return 0, 0
    # The row next to a frame is half frame after resizing.
    first, last = min(int(live[0]), int(_MOST_FRAME * size)), max(int(live[-1]) + 1, size - int(_MOST_FRAME * size))
    return first + (first > 0), last - (last < size)


def _count_like(copy: np.ndarray, greys: np.ndarray) -> np.ndarray:
    """Count the pixels of each row, uint8 [h, w], that differ by at most `_FLAT` from its grey, uint8 [h, 1]."""
    like = np.maximum(copy, greys) - np.minimum(copy, greys) <= _FLAT
    return np.asarray(cv2.reduce(like.view(np.uint8), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0])


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Shrink uint8 [h, w] to uint8 [_FRAMED, _FRAMED]: first by halving, as `INTER_LINEAR_EXACT` alone skips pixels."""
    height, width = pixels.shape
    while height >= 2 * _FRAMED or width >= 2 * _FRAMED:
        height, width = (side // 2 if side >= 2 * _FRAMED else side for side in (height, width))
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return cv2.resize(pixels, (_FRAMED, _FRAMED), interpolation=cv2.INTER_LINEAR_EXACT)


def _reason(parts: _TwoParts) -> str:
    inverted = measure(255 - parts.copy)
    if inverted and weighted_sum(inverted) > _SURE:
        return "the picture is inverted, its air is white: export the slice with black air"
    dark = parts.counts[: parts.level]
    darkest = int(np.flatnonzero(dark)[0])
    if dark[darkest : darkest + 4].sum() > _CRUSHED * dark.sum():
        return "the dark parts show no detail: export the slice in a lung window (level -600, width 1500)"
    return UNLIKE


def _mean(counts: np.ndarray, first: int) -> float:
    return float(counts @ _GREYS[first : first + len(counts)] / counts.sum())
