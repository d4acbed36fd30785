"""Optimiser, learning-rate schedule and loss of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_ct.system import native_output

from .options import Options, Precision

with native_output.captured_native_stderr():
    import keras

# Of the plateau schedule: epochs without a lower validation loss before the rate is cut, and by how much.
PLATEAU_PATIENCE, PLATEAU_FACTOR = 3, 0.3


@keras.saving.register_keras_serializable(package="edge_ct")
class SoftTargets(keras.losses.Loss):
    """Cross-entropy with probabilities, at temperature 1 and at another: label smoothing and distillation.

    y_true: float [n, 4], two targets for softmax(logits) and two for softmax(logits / temperature), each pair already
    multiplied by its share in the loss (Hinton et al. 2015: `mixing` times the temperature squared for the second).
    """

    def __init__(self, temperature: float = 1.0, name: str = "soft_targets", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Called by Keras."""
        logits = keras.ops.cast(y_pred, "float32")
        hard = keras.ops.sum(y_true[:, :2] * keras.ops.log_softmax(logits), axis=-1)
        soft = keras.ops.sum(y_true[:, 2:] * keras.ops.log_softmax(logits / self.temperature), axis=-1)
        return -(hard + soft)

    def get_config(self) -> dict[str, Any]:
        """Called by Keras."""
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="edge_ct")
def soft_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Share of slices whose likelier class is that of the label (of the teacher, where labels count for nothing)."""
    likelier = keras.ops.argmax(y_true[:, :2] + 1e-3 * y_true[:, 2:], axis=-1)
    return keras.ops.cast(keras.ops.equal(likelier, keras.ops.argmax(y_pred, axis=-1)), "float32")


def targets(
    labels: np.ndarray, smoothing: float = 0.0, teacher: np.ndarray | None = None, mixing: float = 0.0, t: float = 1.0
) -> np.ndarray:
    """What `SoftTargets` compares with, float32 [n, 4].

    labels: 0 or 1 [n]. teacher: P(positive) [n], of which the temperature t makes p^(1/t), normalised.
    """
    hard = np.eye(2)[labels] * (1 - smoothing) + smoothing / 2
    if teacher is None:
        return np.hstack([hard, np.zeros_like(hard)]).astype(np.float32)
    p = np.clip(np.stack([1 - teacher, teacher], axis=1), 1e-7, 1) ** (1 / t)
    soft = p / p.sum(axis=1, keepdims=True)
    return np.hstack([hard * (1 - mixing), soft * mixing * t * t]).astype(np.float32)


def compile_model(model: Any, options: Options, steps: int, frozen: bool) -> None:
    """Give the model its optimiser and loss. steps: of all epochs ahead. frozen: of a backbone that is not trained."""
    rate = options.learning_rate
    optimizer: Any = keras.optimizers.Adam(
        _cosine(rate, steps) if options.schedule == "cosine" and not frozen else rate,
        global_clipnorm=options.clip or None,
        use_ema=options.ema > 0,
        ema_momentum=options.ema or 0.99,
    )
    if options.precision == "mixed_float16":  # Keras does so by itself only where the model as a whole has that policy
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    for layer in model.layers[: _end_of_backbone(model)]:
        layer.trainable = not frozen
    if options.soft_targets:
        loss: Any = SoftTargets(options.temperature if options.teacher else 1.0)
        accuracy: Any = keras.metrics.MeanMetricWrapper(soft_accuracy, name="accuracy")
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    # On CPU, XLA is eight times slower than TensorFlow's own kernels (MobileNetV2, 224 px).
    jit = False if keras.backend.backend() == "tensorflow" and not _gpu() else "auto"
    model.compile(optimizer=optimizer, loss=loss, metrics=[accuracy], jit_compile=jit)


def in_precision(model: Any, precision: Precision) -> Any:
    """The network computing in `precision`; weights are float32 in any case, and so is what makes the logits."""
    if {layer.dtype_policy.name for layer in model.layers if layer.name not in ("class_map", "logits")} == {precision}:
        return model
    for layer in model.layers:
        layer.dtype_policy = "float32" if layer.name in ("class_map", "logits") else precision
    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    return again


def _end_of_backbone(model: Any) -> int:
    return [layer.name for layer in model.layers].index("features")


def _cosine(rate: float, steps: int) -> Any:
    """Linear warm-up over a twentieth of the steps, then half a cosine to a hundredth."""
    warmup = max(1, steps // 20)
    return keras.optimizers.schedules.CosineDecay(
        rate / 10, max(1, steps - warmup), alpha=0.01, warmup_target=rate, warmup_steps=warmup
    )


def plateau_rate(losses: Sequence[float], peak: float) -> float:
    """The rate of the next epoch after these validation losses: cut each time they have not fallen for a while."""
    best, waited, rate = float("inf"), 0, peak
    for loss in losses:
        if loss < best:
            best, waited = loss, 0
        else:
            waited += 1
        if waited >= PLATEAU_PATIENCE:
            waited, rate = 0, rate * PLATEAU_FACTOR
    return rate


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """float32 [2]: n / (2 n_c) for each class, so that both weigh alike in the loss."""
    counts = np.bincount(labels, minlength=2)
    return np.asarray(len(labels) / (2 * np.maximum(counts, 1)), np.float32)


def _gpu() -> bool:
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))
