"""Training and validation slices as Keras wants them: normalised, augmented, in an order that can be drawn again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edge_ct.preprocess import Preprocess
from edge_ct.system import native_output

from ..data.augment import Augment

with native_output.captured_native_stderr():
    import keras

# Labels int8 [n] and the uint8 slices [n, s, s, 1], augmented -> what the loss compares with.
Targets = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Batches(keras.utils.PyDataset):
    """Normalised batches of preprocessed slices; with a policy, shuffled and augmented anew each epoch."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        preprocess: Preprocess,
        batch: int,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int = 0,
        targets: Targets | None = None,
        class_weights: np.ndarray | None = None,
    ) -> None:
        """images: uint8 [n, s, s, 1], as `preprocess` gives them or larger; labels: [n]. epoch: the first to draw.

        targets: what to learn instead of the label itself. class_weights: [2], how much a slice of each class counts.
        """
        super().__init__()
        self._images, self._labels, self._preprocess = images, labels, preprocess
        self._batch, self._augment, self._seed = batch, augment, seed
        self._targets, self._class_weights = targets, class_weights
        self._start(epoch)

    def __len__(self) -> int:
        # A training epoch leaves an incomplete last batch out: batch statistics over a slice or two would be noise.
        n = len(self._labels)
        return max(1, n // self._batch) if self._augment else -(-n // self._batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        images, labels = self._images[chosen], self._labels[chosen]
        if self._augment:
            images = np.stack(
                [
                    self._augment(image, np.random.default_rng((self._seed, self._epoch, int(i))))
                    for i, image in zip(chosen, images, strict=True)
                ]
            )
        targets: Any = labels.astype(np.int32) if self._targets is None else self._targets(labels, images)
        if images.shape[1] != self._preprocess.size:
            images = np.stack([self._preprocess(image[:, :, 0]) for image in images])
        if self._class_weights is None:
            return self._preprocess.normalise(images), targets
        return self._preprocess.normalise(images), targets, self._class_weights[labels]

    def on_epoch_end(self) -> None:
        """Called by Keras."""
        self._start(self._epoch + 1)

    def _start(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = np.arange(len(self._labels))
        if self._augment:
            np.random.default_rng((self._seed, epoch)).shuffle(self._order)
