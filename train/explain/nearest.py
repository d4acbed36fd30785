"""Training cases similar to a slice, and a classifier that uses nothing but them.

A prototype is the mean embedding of a training group: a patient, slices that look like those of one patient, or a
single slice if the run knows no groups. The idea is that of Soares' xDNN, which decides by the nearest prototypes; its
published F1 on the public set is 97.31 %. Only identities and similarities are shown, never a training slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.dataset import load_images
from edge_ct.errors import DataRejected
from edge_ct.metrics import Scores, score
from edge_ct.system import native_output
from edge_ct.system.progress import QUIET, Progress

from .network import LAST_CONVOLUTION, RunNetwork, batches

with native_output.captured_native_stderr():
    import keras

# Cosines of embeddings lie close to one: their difference is multiplied by this before the logistic function.
_SHARPNESS = 50


class Neighbour(msgspec.Struct, frozen=True):
    """A training group that is similar to a slice.

    Attributes:
        group: Name of the group.
        label: Its class.
        similarity: Cosine of the embeddings, -1 to 1.
        slices: Number of slices in the group.
    """

    group: str
    label: str
    similarity: float
    slices: int


@dataclass(frozen=True, eq=False)
class Prototypes:
    """The mean embeddings of p training groups.

    Attributes:
        vectors: float32 [p, e], of unit length.
        labels: [p]; 1 is positive.
        groups: Names of the p groups.
        sizes: Number of slices in each group, [p].
    """

    vectors: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]
    sizes: np.ndarray


def embed(network: RunNetwork, images: np.ndarray, progress: Progress = QUIET) -> np.ndarray:
    """Return the pooled features of the last convolution, float32 [n, e], of unit length.

    Args:
        network: The network of a run.
        images: uint8 [n, s, s, 1].
        progress: Where progress is shown.
    """
    pooled = keras.layers.GlobalAveragePooling2D()(network.layer(LAST_CONVOLUTION).output)
    model, features = keras.Model(network.model.inputs, pooled), []
    with progress.bar("computing embeddings", len(images)) as on_done:
        for batch in batches(network, images):
            features.append(model.predict_on_batch(batch))
            on_done(len(batch))
    return _normalise(np.concatenate(features))


def build_prototypes(network: RunNetwork, data: Path | None = None, progress: Progress = QUIET) -> Prototypes:
    """Compute the prototypes of the run's training split.

    Args:
        network: The network of a run.
        data: Where the run's slices are now, if they have moved.
        progress: Where progress is shown.

    Raises:
        DataRejected: The run has no training split, or its slices cannot be read.
    """
    table = network.run.split()
    train = table.where("train")
    if not len(train):
        raise DataRejected(f"{network.run.folder}: the run has no training split to compute prototypes of")
    dataset = network.run.dataset(data).take(train)
    with progress.bar("reading slices", len(dataset)) as on_done:
        images = load_images(dataset, network.preprocess, on_done)
    vectors = embed(network, images.images, progress)
    # If a group has slices of both classes, it gives two prototypes.
    names = [(table.groups[i] or Path(table.paths[i]).name, int(table.labels[i])) for i in train]
    kinds = sorted(set(names))
    members = [[position for position, name in enumerate(names) if name == kind] for kind in kinds]
    return Prototypes(
        _normalise(np.stack([vectors[indices].mean(0) for indices in members])),
        np.array([label for _, label in kinds]),
        tuple(name for name, _ in kinds),
        np.array([len(indices) for indices in members]),
    )


def find_nearest(
    prototypes: Prototypes, vectors: np.ndarray, classes: tuple[str, str], count: int
) -> list[list[Neighbour]]:
    """Find the most similar training groups of each embedding, the most similar first.

    Args:
        prototypes: The training groups.
        vectors: Embeddings of slices, float32 [n, e], of unit length.
        classes: Names of the negative and the positive class.
        count: Maximum number of groups per slice.
    """
    similarities = vectors @ prototypes.vectors.T
    return [
        [
            Neighbour(prototypes.groups[i], classes[prototypes.labels[i]], float(row[i]), int(prototypes.sizes[i]))
            for i in np.argsort(-row, kind="stable")[:count]
        ]
        for row in similarities
    ]


def prototype_probabilities(prototypes: Prototypes, vectors: np.ndarray) -> np.ndarray:
    """Classify by the nearest positive and the nearest negative prototype.

    Args:
        prototypes: The training groups.
        vectors: Embeddings of slices, float32 [n, e], of unit length.

    Returns:
        Pseudo-probability of the positive class, float64 [n]; at least 0.5 is positive.
    """
    similarities = vectors.astype(np.float64) @ prototypes.vectors.T.astype(np.float64)
    negative, positive = (similarities[:, prototypes.labels == label].max(1) for label in (0, 1))
    return np.asarray(1 / (1 + np.exp(-_SHARPNESS * (positive - negative))))


def score_prototypes(
    network: RunNetwork, prototypes: Prototypes, data: Path | None = None, progress: Progress = QUIET
) -> Scores:
    """Score the classification by prototypes alone on the run's test split.

    Args:
        network: The network of a run.
        prototypes: Its training groups.
        data: Where the run's slices are now, if they have moved.
        progress: Where progress is shown.
    """
    table = network.run.split()
    dataset = network.run.dataset(data).take(table.where("test"))
    with progress.bar("reading slices", len(dataset)) as on_done:
        images = load_images(dataset, network.preprocess, on_done)
    vectors = embed(network, images.images, progress)
    return score(dataset.labels, prototype_probabilities(prototypes, vectors))


def _normalise(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
