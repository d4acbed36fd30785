"""Has the network seen anything like it? A distance on its embedding, for pictures that `picture` is in doubt about.

Kept of the training slices' embeddings are the mean and the directions in which they vary most; the distance is how
much of a new embedding lies in none of them. Slices of another hospital are often as far away as X-rays are, so that a
distance alone rejects nothing. Of the embedding the few hundred channels that vary most are enough: about 3 kB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bundle import Bundle
from .errors import ModelRejected
from .manifest import Outliers

MEMBER = "outliers.bin"
# Of calibration slices beyond the threshold. Of real test slices one in sixty is in doubt, and asked about at all.
RATE = 0.05
CHANNELS, COMPONENTS = 256, 8
_LEAST = 20  # training slices to fit on


@dataclass(frozen=True, eq=False)
class OutlierDetector:
    """channels: uint16 [c], which of the embedding's. mean: float16 [c]. scales: float32 [k]; directions: int8 [k, c],
    each of length 1 after its scale. threshold: of the distance."""

    channels: np.ndarray
    mean: np.ndarray
    scales: np.ndarray
    directions: np.ndarray
    threshold: float

    def distance(self, embedding: np.ndarray) -> float:
        """Squared distance of one embedding, float [e], from what was seen; about 0 to 2."""
        beyond = _shape(embedding[np.newaxis, self.channels])[0] - self.mean.astype(np.float32)
        along = self.scales * (self.directions.astype(np.float32) @ beyond)
        return float(beyond @ beyond - along @ along)

    def strange(self, embedding: np.ndarray) -> bool:
        """Whether the network has seen nothing like it."""
        return not self.distance(embedding) <= self.threshold

    def pack(self) -> bytes:
        """The member's content, little-endian: channels, mean, scales, directions."""
        parts = zip((self.channels, self.mean, self.scales, self.directions), _TYPES, strict=True)
        return b"".join(np.ascontiguousarray(part, kind).tobytes() for part, kind in parts)


_TYPES = ("<u2", "<f2", "<f4", "i1")


def fit_outlier_detector(
    training: np.ndarray, calibration: np.ndarray, split: str
) -> tuple[OutlierDetector, Outliers] | None:
    """Fit on embeddings of training slices, float [n, e]; the threshold on those of calibration slices, float [m, e].

    The threshold is conformal: of m slices one in m + 1 lies beyond, where `RATE` is less than that. None where there
    are too few training slices, or the embedding says nothing.
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
    distances = np.sort([seen.distance(one) for one in calibration])
    rank = min(int(np.ceil((1 - RATE) * (len(distances) + 1))), len(distances))
    threshold = float(distances[rank - 1])
    if not threshold > 0:
        return None
    rate = max(RATE, 1 / (len(distances) + 1))
    found = Outliers(MEMBER, len(channels), len(rounded), threshold, rate, split, len(distances))
    return OutlierDetector(seen.channels, mean, scales, rounded, threshold), found


def read_outlier_detector(bundle: Bundle) -> OutlierDetector | None:
    """What a bundle keeps; None of an older one. Raises `ModelRejected` where it is not as the manifest says."""
    kept = bundle.manifest.outliers
    if kept is None:
        return None
    content = bundle.member(kept.member)
    counts = (kept.channels, kept.channels, kept.components, kept.components * kept.channels)
    sizes = [np.dtype(kind).itemsize * count for kind, count in zip(_TYPES, counts, strict=True)]
    if sum(sizes) != len(content):
        raise ModelRejected(f"{bundle.source}: {kept.member} is not as the manifest says")
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
    """Roots, of length 1: the pattern counts, not its strength."""
    roots = _root(embeddings)
    return np.asarray(roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-6), np.float32)
