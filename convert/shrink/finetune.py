"""Training a changed network a little further at a low rate, so that it recovers what the change cost.

Half of the target is the label, half is what the network predicted before the change (Hinton et al. 2015), which keeps
its decisions where they were. Everything random is drawn from (seed, epoch). Nothing is written to disk, so that an
interruption leaves nothing behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.preprocess import Preprocess
from edge_ct.system import native_output
from edge_ct.system.progress import QUIET, Progress

from ..run_slices import RunSlices
from .tf_keras_twin import make_adam, set_random_seed

with native_output.captured_native_stderr():
    import tensorflow as tf

_BATCH = 32
# Share of the target that is the network's own prediction from before the change.
_SOFT_SHARE = 0.5


class FineTuneRecipe(msgspec.Struct, frozen=True):
    """How to train.

    Attributes:
        epochs: Number of epochs.
        rate: Initial learning rate of Adam; it falls to zero along half a cosine.
        batch: Batch size.
        seed: Seed of everything random.
    """

    epochs: int
    rate: float
    batch: int = 16
    seed: int = 0


class EpochResult(msgspec.Struct, frozen=True):
    """The result of one epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        loss: Loss on training slices, against labels and earlier predictions.
        validation_loss: Log loss on validation slices, against labels alone.
        accuracy: Accuracy on validation slices at probability 0.5.
        sensitivity: Sensitivity on validation slices at probability 0.5.
        seconds: Time that the epoch took.
    """

    epoch: int
    loss: float
    validation_loss: float
    accuracy: float
    sensitivity: float
    seconds: float


@dataclass(frozen=True, eq=False)
class DistillationData:
    """The slices to learn from and to validate on, with the network's own predictions.

    Attributes:
        images: Training slices, uint8 [n, s, s, 1].
        labels: 0 or 1, [n].
        views: P of both classes that the network gave before the change, for each training slice as it is and
            mirrored, float32 [n, 2, 2].
        validation_images: Validation slices, uint8 [m, s, s, 1].
        validation_labels: 0 or 1, [m].
        preprocess: The preprocessing of the network.
    """

    images: np.ndarray
    labels: np.ndarray
    views: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    preprocess: Preprocess

    @classmethod
    def from_slices(cls, model: Any, slices: RunSlices) -> DistillationData:
        """Take the training and validation splits of a run, and predict the training slices.

        Args:
            model: The network before the change; its only output is the logits.
            slices: The slices of its run.
        """
        images, labels = slices.images("train"), slices.labels("train")
        predict = tf.function(lambda batch: tf.nn.softmax(_logits_of(model(batch, training=False))))
        views = np.empty((len(images), 2, 2), np.float32)
        with slices.progress.bar("predicting training slices", 2 * len(images)) as on_done:
            for start in range(0, len(images), _BATCH):
                batch = slices.preprocess.normalise(images[start : start + _BATCH])
                for view, pictures in enumerate((batch, batch[:, :, ::-1])):
                    views[start : start + len(batch), view] = predict(tf.constant(pictures)).numpy()
                    on_done(len(batch))
        return cls(images, labels, views, slices.images("validation"), slices.labels("validation"), slices.preprocess)

    def draw(self, seed: int, epoch: int, batch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Draw the batches of an epoch.

        Slices that do not fill a batch are left for another epoch, because normalisation by the statistics of a few
        slices does harm.

        Args:
            seed: Seed of the training.
            epoch: Number of the epoch, from 0.
            batch: Batch size.

        Returns:
            One entry per batch: indices of slices, [batch], and whether each is mirrored, bool [batch].
        """
        generator = np.random.default_rng([seed, epoch])
        order = generator.permutation(len(self.images))
        mirrored = generator.random(len(order)) < 0.5
        size = min(batch, len(order))
        ends = range(size, len(order) + 1, size)
        return [(order[end - size : end], mirrored[end - size : end]) for end in ends]

    def batch(self, indices: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return normalised images, float32 [b, s, s, 1], and their targets, float32 [b, 2]."""
        images = self.images[indices]
        images = np.where(mirrored.reshape(-1, 1, 1, 1), images[:, :, ::-1], images)
        hard = np.eye(2, dtype=np.float32)[self.labels[indices].astype(int)]
        soft = self.views[indices, mirrored.astype(int)]
        return self.preprocess.normalise(images), (1 - _SOFT_SHARE) * hard + _SOFT_SHARE * soft


def fine_tune(
    network: Any,
    data: DistillationData,
    recipe: FineTuneRecipe,
    progress: Progress = QUIET,
    name: str = "fine-tuning",
    on_step: Callable[[int], None] = lambda step: None,
    on_epoch: Callable[[], None] = lambda: None,
    eligible: int = 0,
) -> list[EpochResult]:
    """Train a tf_keras network in place; it ends with the weights of the epoch with the lowest validation loss.

    Args:
        network: The network; its first output is the logits.
        data: The slices.
        recipe: How to train.
        progress: Where progress is shown.
        name: Name for progress lines and messages.
        on_step: Called before each step with its number, from 0.
        on_epoch: Called before each validation.
        eligible: First epoch, from 0, whose weights may be kept; before it the change is not complete.

    Raises:
        EdgeCTError: The loss became NaN or infinite.
    """
    set_random_seed(recipe.seed)  # dropout draws from it
    optimizer = make_adam(recipe.rate)
    train = _make_step(network, optimizer)
    predict = tf.function(lambda batch: _logits_of(network(batch, training=False)))
    steps = len(data.draw(recipe.seed, 0, recipe.batch)) * recipe.epochs
    history: list[EpochResult] = []
    lowest, weights, step = math.inf, None, 0
    for epoch in range(recipe.epochs):
        begun, losses = perf_counter(), []
        batches = data.draw(recipe.seed, epoch, recipe.batch)
        with progress.bar(f"{name}, epoch {epoch + 1}/{recipe.epochs}", len(batches)) as on_done:
            for indices, mirrored in batches:
                on_step(step)
                optimizer.learning_rate = recipe.rate * (1 + math.cos(math.pi * step / steps)) / 2
                losses.append(float(train(*map(tf.constant, data.batch(indices, mirrored)))))
                step += 1
                on_done(1)
        on_epoch()
        if not math.isfinite(loss := float(np.mean(losses))):
            raise EdgeCTError(f"{name}: the loss became NaN or infinite in epoch {epoch + 1}")
        history.append(_validate(predict, data, epoch + 1, loss, begun))
        last = history[-1]
        if epoch >= eligible and last.validation_loss < lowest:
            lowest, weights = last.validation_loss, network.get_weights()
        progress.say(
            f"  loss {last.loss:.3f}; validation loss {last.validation_loss:.3f}, accuracy {last.accuracy:.3f}, "
            f"sensitivity {last.sensitivity:.3f}; {last.seconds:.0f} s"
        )
    if weights is not None:
        network.set_weights(weights)
    return history


def _make_step(network: Any, optimizer: Any) -> Any:
    @tf.function  # type: ignore[untyped-decorator]
    def step(images: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = _logits_of(network(images, training=True))
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
        variables = network.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(
            (gradient, variable)
            for gradient, variable in zip(gradients, variables, strict=True)
            if gradient is not None
        )
        return loss

    return step


def _logits_of(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def _validate(predict: Any, data: DistillationData, epoch: int, loss: float, begun: float) -> EpochResult:
    images, labels = data.validation_images, data.validation_labels.astype(int)
    starts = range(0, len(images), _BATCH)
    logits = np.concatenate(
        [predict(tf.constant(data.preprocess.normalise(images[start : start + _BATCH]))).numpy() for start in starts]
    ).astype(np.float64)
    margin = np.where(labels == 1, 1, -1) * (logits[:, 1] - logits[:, 0])
    return EpochResult(
        epoch=epoch,
        loss=loss,
        validation_loss=float(np.logaddexp(0, -margin).mean()),
        accuracy=float((margin > 0).mean()),
        sensitivity=float((margin[labels == 1] > 0).mean()),
        seconds=round(perf_counter() - begun, 1),
    )
