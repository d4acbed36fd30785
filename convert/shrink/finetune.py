"""Training a network that was changed a little further, at a low rate, so that it recovers what the change cost it.

Half of what it learns from is the label, half what the network said before the change (Hinton et al. 2015), which keeps
its decisions where they were. Everything drawn at random is drawn from (seed, epoch); nothing is written to disk, so
that a stop leaves nothing behind.
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

from ..run_slices import Material
from . import tf_keras_twin

with native_output.captured_native_stderr():
    import tensorflow as tf

_BATCH = 32
# Share of the loss that is the network's own judgement from before.
_SOFT = 0.5


class Recipe(msgspec.Struct, frozen=True):
    """How to train. rate: of Adam at the start; it falls to nothing along half a cosine."""

    epochs: int
    rate: float
    batch: int = 16
    seed: int = 0


class Epoch(msgspec.Struct, frozen=True):
    """What one epoch came to. loss: on training slices, against labels and the network before; the rest on validation,
    against labels alone, probabilities at 0.5."""

    epoch: int
    loss: float
    validation_loss: float
    accuracy: float
    sensitivity: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Lessons:
    """Slices to learn from and to judge by: images uint8 [n, s, s, 1], labels 0 or 1 [n].

    views: [n, 2, 2], P of both classes for each training slice as it is and mirrored, as the network had it before.
    """

    images: np.ndarray
    labels: np.ndarray
    views: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    preprocess: Preprocess

    @classmethod
    def of(cls, model: Any, material: Material) -> Lessons:
        """From a run's training and validation parts. model: of one output, logits."""
        images, labels = material.images("train"), material.labels("train")
        judge = tf.function(lambda batch: tf.nn.softmax(_first(model(batch, training=False))))
        views = np.empty((len(images), 2, 2), np.float32)
        with material.progress.bar("asking the network", 2 * len(images)) as on_done:
            for start in range(0, len(images), _BATCH):
                batch = material.preprocess.normalise(images[start : start + _BATCH])
                for view, seen in enumerate((batch, batch[:, :, ::-1])):
                    views[start : start + len(batch), view] = judge(tf.constant(seen)).numpy()
                    on_done(len(batch))
        return cls(
            images, labels, views, material.images("validation"), material.labels("validation"), material.preprocess
        )

    def draw(self, seed: int, epoch: int, batch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Indices of an epoch's slices, [batch] each, and whether each is mirrored; what does not fill a batch waits
        for another epoch: normalisation by the statistics of three slices does harm."""
        generator = np.random.default_rng([seed, epoch])
        order = generator.permutation(len(self.images))
        mirrored = generator.random(len(order)) < 0.5
        size = min(batch, len(order))
        ends = range(size, len(order) + 1, size)
        return [(order[end - size : end], mirrored[end - size : end]) for end in ends]

    def batch(self, indices: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normalised images float32 [n, s, s, 1] and what to learn of them, [n, 2]."""
        images = self.images[indices]
        images = np.where(mirrored.reshape(-1, 1, 1, 1), images[:, :, ::-1], images)
        hard = np.eye(2, dtype=np.float32)[self.labels[indices].astype(int)]
        soft = self.views[indices, mirrored.astype(int)]
        return self.preprocess.normalise(images), (1 - _SOFT) * hard + _SOFT * soft


def fit(
    network: Any,
    lessons: Lessons,
    recipe: Recipe,
    progress: Progress = QUIET,
    name: str = "fine-tuning",
    on_step: Callable[[int], None] = lambda step: None,
    on_epoch: Callable[[], None] = lambda: None,
    eligible: int = 0,
) -> list[Epoch]:
    """Train a tf_keras network in place, whose first output is the logits; it ends with the weights of its best epoch.

    on_step: called before each step, with its number from 0. on_epoch: called before each validation. eligible: the
    first epoch, from 0, that may be the best: before it the change is not complete. The best has the lowest validation
    loss. Raises `EdgeCTError` where the loss is no number any more.
    """
    tf_keras_twin.api.utils.set_random_seed(recipe.seed)  # of dropout
    optimizer = tf_keras_twin.api.optimizers.Adam(recipe.rate)
    train = _step(network, optimizer)
    judge = tf.function(lambda batch: _first(network(batch, training=False)))
    steps = len(lessons.draw(recipe.seed, 0, recipe.batch)) * recipe.epochs
    history: list[Epoch] = []
    best, weights, step = math.inf, None, 0
    for epoch in range(recipe.epochs):
        begun, losses = perf_counter(), []
        drawn = lessons.draw(recipe.seed, epoch, recipe.batch)
        with progress.bar(f"{name}, epoch {epoch + 1}/{recipe.epochs}", len(drawn)) as on_done:
            for indices, mirrored in drawn:
                on_step(step)
                optimizer.learning_rate = recipe.rate * (1 + math.cos(math.pi * step / steps)) / 2
                losses.append(float(train(*map(tf.constant, lessons.batch(indices, mirrored)))))
                step += 1
                on_done(1)
        on_epoch()
        if not math.isfinite(loss := float(np.mean(losses))):
            raise EdgeCTError(f"{name}: the loss is no number any more in epoch {epoch + 1}")
        history.append(_judged(judge, lessons, epoch + 1, loss, begun))
        last = history[-1]
        if epoch >= eligible and last.validation_loss < best:
            best, weights = last.validation_loss, network.get_weights()
        progress.say(
            f"  loss {last.loss:.3f}; validation loss {last.validation_loss:.3f}, accuracy {last.accuracy:.3f}, "
            f"sensitivity {last.sensitivity:.3f}; {last.seconds:.0f} s"
        )
    if weights is not None:
        network.set_weights(weights)
    return history


def _step(network: Any, optimizer: Any) -> Any:
    @tf.function  # type: ignore[untyped-decorator]
    def step(images: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = _first(network(images, training=True))
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


def _first(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def _judged(judge: Any, lessons: Lessons, epoch: int, loss: float, begun: float) -> Epoch:
    images, labels = lessons.validation_images, lessons.validation_labels.astype(int)
    batches = range(0, len(images), _BATCH)
    logits = np.concatenate(
        [judge(tf.constant(lessons.preprocess.normalise(images[at : at + _BATCH]))).numpy() for at in batches]
    ).astype(np.float64)
    margin = np.where(labels == 1, 1, -1) * (logits[:, 1] - logits[:, 0])
    return Epoch(
        epoch=epoch,
        loss=loss,
        validation_loss=float(np.logaddexp(0, -margin).mean()),
        accuracy=float((margin > 0).mean()),
        sensitivity=float((margin[labels == 1] > 0).mean()),
        seconds=round(perf_counter() - begun, 1),
    )
