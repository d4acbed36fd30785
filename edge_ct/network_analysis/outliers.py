"""The outlier detector: the distance of a slice's embedding from those of the training slices.

It decides about pictures that `imaging.slice_check` is in doubt about. The detector keeps the mean of the training
embeddings and their principal directions; the distance is the squared length of the part of a new embedding that lies
in none of these directions. Slices of another hospital are often as distant as X-rays, so the distance alone rejects
nothing. A few hundred channels with the largest variance are enough and take about 3 kB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..bundle import Bundle
from ..errors import ModelRejected
from ..manifest import Outliers

MEMBER = "outliers.bin"
# Share of calibration slices above the threshold. Only one real test slice in sixty reaches the detector.
RATE = 0.05
SOURCE_RATE = 0.01  # the same share in each source, for slices of several sources
CHANNELS, COMPONENTS = 256, 8
_LEAST = 20  # training slices


@dataclass(frozen=True, eq=False)
class OutlierDetector:
    """Mean and principal directions of the training embeddings.

    Attributes:
        channels: Indices of the channels that are used, uint16 [c].
        mean: Mean of the training embeddings, float16 [c].
        scales: Scale of each direction, float32 [k].
        directions: Principal directions, int8 [k, c]; each has length 1 after its scale.
        threshold: Distance above which an embedding is an outlier.
    """

    channels: np.ndarray
    mean: np.ndarray
    scales: np.ndarray
    directions: np.ndarray
    threshold: float

    def distance(self, embedding: np.ndarray) -> float:
        """Return the squared distance of one embedding, float [e], from the training embeddings; about 0 to 2."""
        beyond = _shape(embedding[np.newaxis, self.channels])[0] - self.mean.astype(np.float32)
        along = self.scales * (self.directions.astype(np.float32) @ beyond)
        return float(beyond @ beyond - along @ along)

    def is_outlier(self, embedding: np.ndarray) -> bool:
        """Return whether an embedding, float [e], is more distant than the threshold."""
        return not self.distance(embedding) <= self.threshold

    def pack(self) -> bytes:
        """Return the content of the bundle member, little-endian: channels, mean, scales, directions."""
        parts = zip((self.channels, self.mean, self.scales, self.directions), _TYPES, strict=True)
        return b"".join(np.ascontiguousarray(part, kind).tobytes() for part, kind in parts)


_TYPES = ("<u2", "<f2", "<f4", "i1")


def fit_outlier_detector(
    training: np.ndarray, calibration: np.ndarray, split: str
) -> tuple[OutlierDetector, Outliers] | None:
    """Fit the detector.

    The threshold is conformal: `RATE` of the calibration slices lie above it, or one in m + 1 if that is more.

    Args:
        training: Embeddings of training slices, float [n, e].
        calibration: Embeddings of calibration slices, float [m, e]; the threshold comes from them.
        split: Name of the calibration part, for the manifest.

    Returns:
        The detector and its description for the manifest; None for fewer than 20 training slices, or where the
        embedding does not vary.
    """
    if len(training) < _LEAST or not len(calibration):
        return None
    channels = np.sort(np.argsort(-_root(training).var(0), kind="stable")[:CHANNELS])
    shaped = _shape(training[:, channels])
    mean = shaped.mean(0).astype(np.float16)
    centred = shaped - mean.astype(np.float32)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    directions = vectors[:, ::-1].T[: min(COMPONENTS, len(training) // 10)]
    scales = np.abs(directions).max(1) / 127
    rounded = np.rint(directions / scales[:, np.newaxis]).astype(np.int8)
    scales = (1 / np.linalg.norm(rounded.astype(np.float64), axis=1)).astype(np.float32)
    seen = OutlierDetector(channels.astype(np.uint16), mean, scales, rounded, 0.0)
    threshold, rate = conformal_threshold(np.array([seen.distance(one) for one in calibration]))
    if not threshold > 0:
        return None
    found = Outliers(MEMBER, len(channels), len(rounded), threshold, rate, split, len(calibration))
    return OutlierDetector(seen.channels, mean, scales, rounded, threshold), found


def conformal_threshold(distances: np.ndarray, rate: float = RATE) -> tuple[float, float]:
    """Return the threshold of the distances of m calibration slices, float [m], and the share of slices above it."""
    rank = min(int(np.ceil((1 - rate) * (len(distances) + 1))), len(distances))
    return float(np.sort(distances)[rank - 1]), max(rate, 1 / (len(distances) + 1))


def threshold_by_source(distances: np.ndarray, sources: Sequence[str]) -> tuple[float, float]:
    """Return the threshold that keeps the slices of every source, however few they are.

    A threshold of all slices together would let a large source decide which hospital is too far off. Each source has a
    conformal threshold of its own, at `SOURCE_RATE`, and the largest of them holds for all.

    Args:
        distances: Distances of calibration slices, float [m].
        sources: Source of each slice, [m].

    Returns:
        The threshold, and the share of all calibration slices above it.
    """
    names = np.asarray(sources)
    thresholds = [conformal_threshold(distances[names == name], SOURCE_RATE)[0] for name in sorted(set(sources))]
    return max(thresholds), float((distances > max(thresholds)).mean())


def read_outlier_detector(bundle: Bundle) -> OutlierDetector | None:
    """Read the detector of a bundle.

    Returns:
        The detector; None for a bundle of an earlier version, which has none.

    Raises:
        ModelRejected: The member does not fit the description in the manifest.
    """
    kept = bundle.manifest.outliers
    if kept is None:
        return None
    content = bundle.member(kept.member)
    counts = (kept.channels, kept.channels, kept.components, kept.components * kept.channels)
    sizes = [np.dtype(kind).itemsize * count for kind, count in zip(_TYPES, counts, strict=True)]
    if sum(sizes) != len(content):
        raise ModelRejected(f"{bundle.source}: {kept.member} does not fit its description in the manifest")
    starts = np.cumsum([0, *sizes])
    channels, mean, scales, directions = (
        np.frombuffer(content[start : start + size], kind)
        for kind, start, size in zip(_TYPES, starts, sizes, strict=False)
    )
    width = bundle.manifest.tensors.embedding.shape[-1]
    if channels.size and channels.max() >= width:
        raise ModelRejected(f"{bundle.source}: {kept.member} names channel {channels.max()} of {width}")
    return OutlierDetector(channels, mean, scales, directions.reshape(kept.components, kept.channels), kept.threshold)


def _root(embeddings: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(embeddings) * np.sqrt(np.abs(embeddings)), np.float32)


def _shape(embeddings: np.ndarray) -> np.ndarray:
    """Return signed square roots, normalised to length 1: only the pattern of an embedding matters."""
    roots = _root(embeddings)
    return np.asarray(roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-6), np.float32)
