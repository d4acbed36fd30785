"""The training cases that are most like a slice, and a classifier of nothing but them.

A prototype is the mean embedding of a training group (a patient, or slices that look like one patient's; a slice of its
own where the run knows no groups), after Soares' xDNN, which decides by the nearest prototypes: its published F1 on the
public set is 97.31 %. Only identities and similarities are shown, never a training slice.
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

from .network import LAST, Network, batches

with native_output.captured_native_stderr():
    import keras


class Neighbour(msgspec.Struct, frozen=True):
    """A training group. similarity: cosine of embeddings, -1 to 1; slices: how many it has."""

    group: str
    label: str
    similarity: float
    slices: int


@dataclass(frozen=True, eq=False)
class Prototypes:
    """vectors: float32 [p, e], unit length; labels: [p], 1 positive; groups: p names; sizes: [p] slices."""

    vectors: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]
    sizes: np.ndarray


def embed(network: Network, images: np.ndarray, progress: Progress = QUIET) -> np.ndarray:
    """Pooled features of the last convolution, float32 [n, e], unit length, of images uint8 [n, s, s, 1]."""
    pooled = keras.layers.GlobalAveragePooling2D()(network.layer(LAST).output)
    model, found = keras.Model(network.model.inputs, pooled), []
    with progress.bar("embedding", len(images)) as on_done:
        for batch in batches(network, images):
            found.append(model.predict_on_batch(batch))
            on_done(len(batch))
    return _unit(np.concatenate(found))


def prototypes(network: Network, data: Path | None = None, progress: Progress = QUIET) -> Prototypes:
    """Of the run's training part. data: where its slices are, if they have moved. Raises `DataRejected`."""
    table = network.run.split()
    train = table.where("train")
    if not len(train):
        raise DataRejected(f"{network.run.folder}: no training part to take prototypes from")
    dataset = network.run.dataset(data).take(train)
    with progress.bar("reading slices", len(dataset)) as on_done:
        images = load_images(dataset, network.preprocess, on_done)
    vectors = embed(network, images.images, progress)
    # A group of both labels, if there is one, is two prototypes.
    names = [(table.groups[i] or Path(table.paths[i]).name, int(table.labels[i])) for i in train]
    kinds = sorted(set(names))
    members = [[at for at, name in enumerate(names) if name == kind] for kind in kinds]
    return Prototypes(
        _unit(np.stack([vectors[own].mean(0) for own in members])),
        np.array([label for _, label in kinds]),
        tuple(name for name, _ in kinds),
        np.array([len(own) for own in members]),
    )


def nearest(found: Prototypes, vectors: np.ndarray, classes: tuple[str, str], count: int) -> list[list[Neighbour]]:
    """The `count` most similar groups of each of the embeddings [n, e], the most similar first."""
    similarities = vectors @ found.vectors.T
    return [
        [
            Neighbour(found.groups[i], classes[found.labels[i]], float(row[i]), int(found.sizes[i]))
            for i in np.argsort(-row, kind="stable")[:count]
        ]
        for row in similarities
    ]


def decide(found: Prototypes, vectors: np.ndarray) -> np.ndarray:
    """Share of the similarity that is the nearest positive prototype's, float64 [n]: at least 0.5 is positive."""
    similarities = vectors.astype(np.float64) @ found.vectors.T.astype(np.float64)
    best = [similarities[:, found.labels == label].max(1) for label in (0, 1)]
    # Of cosines near one only their difference says anything.
    return np.asarray(1 / (1 + np.exp(-50 * (best[1] - best[0]))))


def baseline(network: Network, found: Prototypes, data: Path | None = None, progress: Progress = QUIET) -> Scores:
    """Scores of the prototypes alone on the run's test part."""
    table = network.run.split()
    dataset = network.run.dataset(data).take(table.where("test"))
    with progress.bar("reading slices", len(dataset)) as on_done:
        images = load_images(dataset, network.preprocess, on_done)
    return score(dataset.labels, decide(found, embed(network, images.images, progress)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
