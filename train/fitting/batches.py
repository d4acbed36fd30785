"""Batches of training and validation slices for Keras: normalised, augmented, in a reproducible order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edge_ct.preprocess import Preprocess
from edge_ct.system import native_output

from ..data.augment import Augment
from ..zoo.lesion_decoder import STRIDE
from .lesion_slices import LesionDraws

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
        slice_weights: np.ndarray | None = None,
        chances: np.ndarray | None = None,
        lesions: LesionDraws | None = None,
        lesion_map: bool = False,
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
            slice_weights: float32 [n], the weight of each slice in the loss; None for equal weights.
            chances: float [n], of sum 1, how often each slice is drawn; None to draw each once in an epoch.
            lesions: Slices with masks that join each batch of a network with a lesion map; None in validation.
            lesion_map: Whether the network has a lesion map, which wants targets too.
        """
        super().__init__()
        self._images, self._labels, self._preprocess = images, labels, preprocess
        self._batch, self._augment, self._seed = batch, augment, seed
        self._targets, self._slice_weights, self._chances = targets, slice_weights, chances
        self._lesions, self._cells = lesions, preprocess.size // STRIDE if lesion_map else 0
        self._start_epoch(epoch)

    def __len__(self) -> int:
        # A training epoch drops an incomplete last batch: batch statistics over one or two slices would be noise.
        n = len(self._labels)
        return max(1, n // self._batch) if self._augment else -(-n // self._batch)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        places = range(index * self._batch, min((index + 1) * self._batch, len(self._order)))
        chosen = self._order[places.start : places.stop]
        images, labels = self._images[chosen], self._labels[chosen]
        if self._augment:
            images = np.stack(
                [
                    self._augment(image, self._generator(place, int(i)))
                    for place, i, image in zip(places, chosen, images, strict=True)
                ]
            )
        targets: Any = labels.astype(np.int32) if self._targets is None else self._targets(labels, images)
        weights = None if self._slice_weights is None else self._slice_weights[chosen]
        if images.shape[1] != self._preprocess.size:
            images = np.stack([self._preprocess.resized(image[:, :, 0]) for image in images])
        if self._cells:
            # The loss of a slice without a label is 0, as its targets are; a weight is a factor of them.
            targets = targets if weights is None else targets * weights[:, np.newaxis]
            images, targets = self._with_lesions(index, images, targets)
            return self._preprocess.normalise(images), targets
        if weights is None:
            return self._preprocess.normalise(images), targets
        return self._preprocess.normalise(images), targets, weights

    def _with_lesions(
        self, index: int, images: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Add slices with masks to a batch; return its slices, and the targets of logits and lesion map."""
        lesion_targets = np.zeros((len(images), self._cells, self._cells, 2), np.float32)
        if self._lesions is None:
            return images, (targets, lesion_targets)
        with_masks, masks = self._lesions.draw(self._epoch, index)
        # Keras divides the loss by the number of all slices.
        targets = targets * np.float32((len(images) + len(masks)) / len(images))
        targets = np.concatenate([targets, np.zeros((len(masks), targets.shape[1]), np.float32)])
        return np.concatenate([images, with_masks]), (targets, np.concatenate([lesion_targets, masks]))

    def _generator(self, place: int, slice_: int) -> np.random.Generator:
        """Return the source of the random changes of a slice, which may be drawn more than once in an epoch."""
        key = (self._seed, self._epoch, slice_)
        return np.random.default_rng(key if self._chances is None else (*key, place))

    def on_epoch_end(self) -> None:
        """Start the next epoch (called by Keras)."""
        self._start_epoch(self._epoch + 1)

    def _start_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = np.arange(len(self._labels))
        generator = np.random.default_rng((self._seed, epoch))
        if self._chances is not None:
            self._order = generator.choice(len(self._labels), len(self._labels), p=self._chances)
        elif self._augment:
            generator.shuffle(self._order)
