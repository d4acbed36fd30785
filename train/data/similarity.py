"""How alike slices look: by perceptual hash, lung shape and gradients. No weights, no training, no labels.

Two slices are linked where their difference hashes agree (the same slice, or nearly), or where their registered lungs
have both shape and gradients in common (two levels of one chest, as a rule). Registered: the lungs' centroid in the
middle, their spread scaled to one. Gradients: Dalal and Triggs' histograms (CVPR 2005): cells of 12 px, blocks of 2 x 2
cells, 9 orientations. On the public SARS-CoV-2 set they tell patients apart better than the pooled features of an
ImageNet MobileNetV2; benchmarks/results/README.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import msgspec
import numpy as np

from edge_ct.imaging import lungs, near_duplicates

SHAPE, PICTURE = 64, 192  # px, sides of the registered lungs and of the registered slice
_SPREADS = 5.2  # of the lungs are the sides of both: room for the chest wall around them
_CELL, _ORIENTATIONS = 12, 9
_ROWS = 512  # slices compared with all at once


class Limits(msgspec.Struct, frozen=True):
    """Linked: hashes that differ in `distance` bits of 256 at most, or lungs with at least `overlap` and `similarity`.

    overlap: intersection over union of the registered lungs. similarity: cosine of the gradients.
    At the default similarity no link of the public SARS-CoV-2 set joins two labels; 0.005 below it one does.
    """

    distance: int = near_duplicates.ALIKE
    overlap: float = 0.85
    similarity: float = 0.87


class Look(NamedTuple):
    """What a slice is compared by.

    hash: uint8 [32]. shape: bool [4096], the registered lungs. gradients: float32 [8100], of length 1.
    Where no lungs were found, the last two are all zero, and alike to nothing.
    """

    hash: np.ndarray
    shape: np.ndarray
    gradients: np.ndarray

    @property
    def found(self) -> bool:
        """Whether there are lungs."""
        return bool(self.shape.any())


@dataclass(frozen=True)
class Link:
    """Slices `first` < `second`, by index. distance: Hamming, of 256 bits; overlap and similarity: see `Limits`."""

    first: int
    second: int
    distance: int
    overlap: float
    similarity: float

    def by_lungs(self, limits: Limits) -> bool:
        """Whether lungs and gradients alone would link them."""
        return self.overlap >= limits.overlap and self.similarity >= limits.similarity

    def strength(self, limits: Limits) -> float:
        """How far within the limits, 0 (on them) to 1 (equal); by hash or by lungs, whichever says more."""
        by_hash = 1 - self.distance / max(1, limits.distance)
        by_lungs = min(_within(self.overlap, limits.overlap), _within(self.similarity, limits.similarity))
        return max(by_hash, by_lungs)


def _within(value: float, limit: float) -> float:
    return (value - limit) / max(1e-9, 1 - limit)


def look(pixels: np.ndarray) -> Look:
    """What a slice, uint8 [h, w], is compared by."""
    shape, picture = register(pixels, lungs.segment(pixels).mask)
    return Look(near_duplicates.difference_hash(pixels), shape.ravel(), orientations(picture))


def register(pixels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A slice and its lungs in the lungs' own frame, whose sides are 5.2 spreads (geometric mean of the two axes').

    pixels: uint8 [h, w], mask: bool [h, w] -> bool [64, 64], uint8 [192, 192]. Without lungs: nothing, and black.
    """
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    area = moments["m00"]
    spread = (moments["mu20"] * moments["mu02"]) ** 0.25 / max(1.0, area) ** 0.5
    if spread == 0:
        return np.zeros((SHAPE, SHAPE), bool), np.zeros((PICTURE, PICTURE), np.uint8)
    centre = moments["m10"] / area, moments["m01"] / area

    def framed(image: np.ndarray, side: int, border: int) -> np.ndarray:
        scale = side / (_SPREADS * spread)
        x, y = (side / 2 - 0.5 - scale * at for at in centre)
        # Warping samples points: where it shrinks, neighbours are averaged first.
        window = max(1, round(1 / scale))
        smooth = cv2.blur(image, (window, window)) if window > 1 else image
        move = np.array([[scale, 0, x], [0, scale, y]])
        return cv2.warpAffine(smooth, move, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)

    shape = framed(mask.astype(np.uint8) * 255, SHAPE, cv2.BORDER_CONSTANT) > 127
    return shape, framed(pixels, PICTURE, cv2.BORDER_REPLICATE)


def orientations(picture: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients of a square picture, uint8 [s, s]: float32 [(s / 12 - 1)^2 * 36], of length 1.

    A flat picture has none: all zero.
    """
    grey = picture.astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength, angle = cv2.cartToPolar(across, down)
    place = angle * (_ORIENTATIONS / np.pi) % _ORIENTATIONS
    lower = np.minimum(place.astype(np.int64), _ORIENTATIONS - 1)
    upper = place - lower  # the share of the next orientation, the first after the last
    bins = np.zeros((picture.size, _ORIENTATIONS), np.float32)
    pixel = np.arange(picture.size)
    bins[pixel, lower.ravel()] = (strength * (1 - upper)).ravel()
    bins[pixel, (lower.ravel() + 1) % _ORIENTATIONS] += (strength * upper).ravel()
    count = len(picture) // _CELL
    cells = bins.reshape(count, _CELL, count, _CELL, _ORIENTATIONS).sum(axis=(1, 3))
    blocks = np.concatenate([cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]], axis=-1)
    blocks /= np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + 100.0**2)
    flat = blocks.ravel()
    return np.asarray(flat / max(1e-9, float(np.linalg.norm(flat))), np.float32)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What comparing every slice with every other one found.

    links: within the limits, strongest first. nearest: int [n], the slice with the most similar gradients, -1 for a
    slice without lungs. across: the most similar pairs of different labels, linked or not, most similar first.
    """

    links: list[Link]
    nearest: np.ndarray
    across: list[Link]


def compare(
    looks: Sequence[Look],
    limits: Limits,
    labels: np.ndarray | None = None,
    count: int = 12,
    on_done: Callable[[int], None] = lambda count: None,
) -> Comparison:
    """Compare every slice with every other one. labels: [n], for the `count` most similar pairs `across` them.

    on_done is called with the number of slices compared since the last call.
    """
    links: list[Link] = []
    across: list[Link] = []
    nearest = np.full(len(looks), -1)
    for rows, block in _blocks(looks):
        later = rows[:, None] < np.arange(len(looks))
        by_lungs = (block.overlap >= limits.overlap) & (block.similarity >= limits.similarity) & (block.overlap > 0)
        links += block.links(((block.distance <= limits.distance) | by_lungs) & later, rows)
        if labels is not None:
            differing = np.where(later & (labels[rows, None] != labels), block.similarity, 0)
            least = np.sort(differing, axis=None)[-count:][0]
            across += block.links((differing >= least) & (differing > 0), rows)
            across = sorted(across, key=lambda link: (-link.similarity, link.first, link.second))[:count]
        block.similarity[np.arange(len(rows)), rows] = -1
        nearest[rows] = np.where(block.similarity.max(axis=1) > 0, block.similarity.argmax(axis=1), -1)
        on_done(len(rows))
    links.sort(key=lambda link: (-link.strength(limits), link.first, link.second))
    return Comparison(links, nearest, across)


class _Block(NamedTuple):
    """Some slices against all: distance int32, overlap and similarity float32, each [rows, n]."""

    distance: np.ndarray
    overlap: np.ndarray
    similarity: np.ndarray

    def links(self, where: np.ndarray, rows: np.ndarray) -> list[Link]:
        at = np.nonzero(where)
        columns = rows[at[0]], at[1], self.distance[at], self.overlap[at], self.similarity[at]
        return [Link(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]


def _blocks(looks: Sequence[Look]) -> Iterator[tuple[np.ndarray, _Block]]:
    """The indices of some slices, and how they compare with all."""
    if not looks:
        return
    hashes, gradients = (np.stack(column) for column in ([one.hash for one in looks], [one.gradients for one in looks]))
    shapes = np.stack([one.shape for one in looks]).astype(np.float32)
    areas = shapes.sum(axis=1)
    for start in range(0, len(looks), _ROWS):
        part = slice(start, start + _ROWS)
        common = shapes[part] @ shapes.T
        overlap = common / np.maximum(1, areas[part, None] + areas - common)
        distance = near_duplicates.distances(hashes[part], hashes)
        yield np.arange(len(looks))[part], _Block(distance, overlap, gradients[part] @ gradients.T)
