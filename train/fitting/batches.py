"""Batches of training and validation slices for Keras: normalised, augmented, in a reproducible order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edge_ct.preprocess import Preprocess
from edge_ct.system import native_output

from ..data.augment import Augment

with native_output.captured_native_stderr():
    import keras

# (labels int8 [n], augmented slices uint8 [n, s, s, 1]) -> the targets that the loss compares the logits with.
TargetFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Batches(keras.utils.PyDataset):
    """Normalised batches of preprocessed slices, shuffled and augmented anew each epoch if there is a policy."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        preprocess: Preprocess,
        batch: int,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int = 0,
        targets: TargetFunction | None = None,
        class_weights: np.ndarray | None = None,
    ) -> None:
        """Prepare to draw batches.

        Args:
            images: uint8 [n, s, s, 1], as `preprocess` returns them or larger.
            labels: 0 or 1 [n].
            preprocess: Preprocessing of the network.
            batch: Slices in a batch.
            augment: Augmentation policy; None for validation.
            seed: Seed of order and augmentation.
            epoch: Index of the first epoch to draw.
            targets: Computes the targets from labels and augmented slices; None to use the labels.
            class_weights: float32 [2], the weight of a slice of each class; None for equal weights.
        """
        super().__init__()
        self._images, self._labels, self._preprocess = images, labels, preprocess
        self._batch, self._augment, self._seed = batch, augment, seed
        self._targets, self._class_weights = targets, class_weights
        self._start_epoch(epoch)

    def __len__(self) -> int:
        # A training epoch drops an incomplete last batch: batch statistics over one or two slices would be noise.
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
        """Start the next epoch (called by Keras)."""
        self._start_epoch(self._epoch + 1)

    def _start_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = np.arange(len(self._labels))
        if self._augment:
            np.random.default_rng((self._seed, epoch)).shuffle(self._order)
