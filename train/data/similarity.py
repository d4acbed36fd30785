"""Visual similarity of slices: perceptual hash, lung shape and gradients, without weights, training or labels.

Two slices are linked if their difference hashes agree (nearly the same slice) or if their registered lungs agree in
both shape and gradients (usually two levels of one chest). Registration centres the lungs and scales their spread to
one. Gradients are the histograms of Dalal and Triggs (CVPR 2005): cells of 12 px, blocks of 2 x 2 cells, 9
orientations. On the public SARS-CoV-2 set they separate patients better than the pooled features of an ImageNet
MobileNetV2; see benchmarks/results/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import msgspec
import numpy as np

from edge_ct.imaging import lungs, near_duplicates

SHAPE, PICTURE = 64, 192  # sides of the registered lungs and of the registered slice, in pixels
_SPREADS = 5.2  # side of both, in spreads of the lungs: leaves room for the chest wall around them
_CELL, _ORIENTATIONS = 12, 9
_ROWS = 512  # slices that are compared with all others at a time


class LinkLimits(msgspec.Struct, frozen=True):
    """Limits for linking two slices: by hash, or by both overlap and similarity.

    At the default similarity no link in the public SARS-CoV-2 set joins slices of different labels; at 0.005 below it,
    one does.

    Attributes:
        distance: Maximum number of differing bits in the 256-bit difference hashes.
        overlap: Minimum intersection over union of the registered lungs.
        similarity: Minimum cosine similarity of the gradients.
    """

    distance: int = near_duplicates.ALIKE
    overlap: float = 0.85
    similarity: float = 0.87


class SliceFeatures(NamedTuple):
    """Features that slices are compared by.

    Attributes:
        hash: Difference hash, uint8 [32].
        shape: Registered lungs, bool [4096]; all False if no lungs were found.
        gradients: Gradient histograms, float32 [8100], of length 1; all 0 if no lungs were found.
    """

    hash: np.ndarray
    shape: np.ndarray
    gradients: np.ndarray

    @property
    def has_lungs(self) -> bool:
        """True if lungs were found."""
        return bool(self.shape.any())


@dataclass(frozen=True)
class Link:
    """Slices `first` < `second`, by index. distance: Hamming, of 256 bits; overlap and similarity: see `Limits`."""

    first: int
    second: int
    distance: int
    overlap: float
    similarity: float

    def by_lungs(self, limits: LinkLimits) -> bool:
        """Return True if lungs and gradients alone link the slices."""
        return self.overlap >= limits.overlap and self.similarity >= limits.similarity

    def strength(self, limits: LinkLimits) -> float:
        """Return how far the link is within the limits, from 0 (at a limit) to 1 (equal slices)."""
        by_hash = 1 - self.distance / max(1, limits.distance)
        by_lungs = min(_within(self.overlap, limits.overlap), _within(self.similarity, limits.similarity))
        return max(by_hash, by_lungs)


def _within(value: float, limit: float) -> float:
    return (value - limit) / max(1e-9, 1 - limit)


def extract_features(pixels: np.ndarray) -> SliceFeatures:
    """Extract the features of a slice, uint8 [h, w]."""
    shape, picture = register_lungs(pixels, lungs.segment(pixels).mask)
    return SliceFeatures(near_duplicates.difference_hash(pixels), shape.ravel(), gradient_histograms(picture))


def register_lungs(pixels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Register a slice by its lungs: centred, at a fixed scale (the spread is the geometric mean of the two axes').

    Args:
        pixels: uint8 [h, w].
        mask: Lungs, bool [h, w].

    Returns:
        The lungs, bool [64, 64], and the slice, uint8 [192, 192]; both empty if there are no lungs.
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
        # Warping samples single points, so neighbours are averaged before shrinking.
        window = max(1, round(1 / scale))
        smooth = cv2.blur(image, (window, window)) if window > 1 else image
        move = np.array([[scale, 0, x], [0, scale, y]])
        return cv2.warpAffine(smooth, move, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)

    shape = framed(mask.astype(np.uint8) * 255, SHAPE, cv2.BORDER_CONSTANT) > 127
    return shape, framed(pixels, PICTURE, cv2.BORDER_REPLICATE)


def gradient_histograms(picture: np.ndarray) -> np.ndarray:
    """Compute histograms of oriented gradients.

    Args:
        picture: Square image, uint8 [s, s].

    Returns:
        float32 [(s / 12 - 1)^2 * 36], of length 1; all 0 for a uniform image.
    """
    grey = picture.astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength, angle = cv2.cartToPolar(across, down)
    place = angle * (_ORIENTATIONS / np.pi) % _ORIENTATIONS
    lower = np.minimum(place.astype(np.int64), _ORIENTATIONS - 1)
    upper = place - lower  # weight of the next orientation (the first one follows the last)
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
    """Result of comparing every slice with every other one.

    Attributes:
        links: Links within the limits, strongest first.
        nearest: Index of the slice with the most similar gradients, int [n]; -1 for a slice without lungs.
        across: The most similar pairs with different labels, linked or not, most similar first.
    """

    links: list[Link]
    nearest: np.ndarray
    across: list[Link]


def compare_slices(
    features: Sequence[SliceFeatures],
    limits: LinkLimits,
    labels: np.ndarray | None = None,
    count: int = 12,
    on_done: Callable[[int], None] = lambda count: None,
) -> Comparison:
    """Compare every slice with every other one.

    Args:
        features: Features of the slices.
        limits: Limits for links.
        labels: Labels [n], to find the most similar pairs `across` labels; None to skip that.
        count: Number of pairs across labels.
        on_done: Called with the number of slices compared since the last call.
    """
    links: list[Link] = []
    across: list[Link] = []
    nearest = np.full(len(features), -1)
    for rows, block in _blocks(features):
        later = rows[:, None] < np.arange(len(features))
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
    """Comparison of some slices with all: distance int32, overlap and similarity float32, each [rows, n]."""

    distance: np.ndarray
    overlap: np.ndarray
    similarity: np.ndarray

    def links(self, linked: np.ndarray, rows: np.ndarray) -> list[Link]:
        at = np.nonzero(linked)
        columns = rows[at[0]], at[1], self.distance[at], self.overlap[at], self.similarity[at]
        return [Link(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]


def _blocks(features: Sequence[SliceFeatures]) -> Iterator[tuple[np.ndarray, _Block]]:
    """Yield the indices of a block of slices and their comparison with all slices."""
    if not features:
        return
    hashes, gradients = (
        np.stack(column) for column in ([slice_.hash for slice_ in features], [slice_.gradients for slice_ in features])
    )
    shapes = np.stack([slice_.shape for slice_ in features]).astype(np.float32)
    areas = shapes.sum(axis=1)
    for start in range(0, len(features), _ROWS):
        part = slice(start, start + _ROWS)
        common = shapes[part] @ shapes.T
        overlap = common / np.maximum(1, areas[part, None] + areas - common)
        distance = near_duplicates.distances(hashes[part], hashes)
        yield np.arange(len(features))[part], _Block(distance, overlap, gradients[part] @ gradients.T)
