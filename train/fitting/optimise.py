"""Optimiser, learning-rate schedule, loss and numerical precision of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_ct.system import native_output

from ..zoo.lesion_decoder import OUTPUT, PREFIX
from .fused_batch_norm import fuse_batch_norms
from .lesion_loss import LabelledAccuracy, LesionLoss
from .options import Precision, TrainingOptions

with native_output.captured_native_stderr():
    import keras

# The plateau schedule multiplies the learning rate by the factor after this many epochs without a lower validation
# loss.
PLATEAU_PATIENCE, PLATEAU_FACTOR = 3, 0.3


@keras.saving.register_keras_serializable(package="edge_ct")
class SoftTargets(keras.losses.Loss):
    """Cross-entropy with probabilities as targets, for label smoothing and distillation.

    `y_true` is float [n, 4]: two targets for softmax(logits) and two for softmax(logits / temperature). Each pair is
    already multiplied by its weight in the loss (Hinton et al. 2015: `mixing` times the squared temperature for the
    second pair).
    """

    def __init__(self, temperature: float = 1.0, name: str = "soft_targets", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each slice, [n] (called by Keras)."""
        logits = keras.ops.cast(y_pred, "float32")
        hard = keras.ops.sum(y_true[:, :2] * keras.ops.log_softmax(logits), axis=-1)
        soft = keras.ops.sum(y_true[:, 2:] * keras.ops.log_softmax(logits / self.temperature), axis=-1)
        return -(hard + soft)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration that is saved with a model (called by Keras)."""
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="edge_ct")
def soft_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Compare the predicted class with the label, or with the teacher's likelier class if labels have no weight."""
    likelier = keras.ops.argmax(y_true[:, :2] + 1e-3 * y_true[:, 2:], axis=-1)
    return keras.ops.cast(keras.ops.equal(likelier, keras.ops.argmax(y_pred, axis=-1)), "float32")


def soft_targets(
    labels: np.ndarray,
    smoothing: float = 0.0,
    teacher: np.ndarray | None = None,
    mixing: float = 0.0,
    temperature: float = 1.0,
) -> np.ndarray:
    """Compute the targets of `SoftTargets`.

    Args:
        labels: 0 or 1 [n].
        smoothing: Fraction of each label that is spread evenly over both classes.
        teacher: P(positive) according to the teacher, [n]; None without distillation.
        mixing: Weight of the teacher's targets in the loss.
        temperature: Temperature T: a teacher's probability p becomes p^(1/T), normalised.

    Returns:
        float32 [n, 4].
    """
    hard = np.eye(2)[labels] * (1 - smoothing) + smoothing / 2
    if teacher is None:
        return np.hstack([hard, np.zeros_like(hard)]).astype(np.float32)
    p = np.clip(np.stack([1 - teacher, teacher], axis=1), 1e-7, 1) ** (1 / temperature)
    soft = p / p.sum(axis=1, keepdims=True)
    return np.hstack([hard * (1 - mixing), soft * mixing * temperature**2]).astype(np.float32)


def compile_model(model: Any, options: TrainingOptions, steps: int, frozen: bool) -> None:
    """Compile a model for training.

    Args:
        model: The network; its backbone ends at the layer `features`.
        options: Options of the training.
        steps: Number of batches in all epochs ahead, for the cosine schedule.
        frozen: True to train only the head.
    """
    rate = options.learning_rate
    optimizer: Any = keras.optimizers.Adam(
        _cosine_schedule(rate, steps) if options.schedule == "cosine" and not frozen else rate,
        global_clipnorm=options.clip or None,
        use_ema=options.ema > 0,
        ema_momentum=options.ema or 0.99,
    )
    if options.precision == "mixed_float16":  # Keras adds it only if the whole model has this policy
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    for layer in model.layers[: _end_of_backbone(model)]:
        if not layer.name.startswith(PREFIX):
            layer.trainable = not frozen
    if options.soft_targets:
        loss: Any = SoftTargets(options.temperature if options.teacher else 1.0)
        accuracy: Any = keras.metrics.MeanMetricWrapper(soft_accuracy, name="accuracy")
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    metrics: Any = [accuracy]
    weights = None
    if options.lesion_map:
        loss, metrics, weights = [loss, LesionLoss()], [[LabelledAccuracy()], []], [1.0, options.lesion_weight]
    fuse_batch_norms(model)
    # On a CPU, XLA is eight times slower than TensorFlow's own kernels (MobileNetV2, 224 px).
    jit = False if keras.backend.backend() == "tensorflow" and not _has_gpu() else "auto"
    model.compile(optimizer=optimizer, loss=loss, loss_weights=weights, metrics=metrics, jit_compile=jit)


def convert_precision(model: Any, precision: Precision) -> Any:
    """Return the network with its layers computing in `precision`; weights and outputs stay float32."""
    outputs = ("class_map", "logits", OUTPUT)
    if {layer.dtype_policy.name for layer in model.layers if layer.name not in outputs} == {precision}:
        return model
    for layer in model.layers:
        layer.dtype_policy = "float32" if layer.name in outputs else precision
    converted = keras.Model.from_config(model.get_config())
    converted.set_weights(model.get_weights())
    return converted


def _end_of_backbone(model: Any) -> int:
    return [layer.name for layer in model.layers].index("features")


def _cosine_schedule(rate: float, steps: int) -> Any:
    """Warm up linearly over a twentieth of the steps, then decay by half a cosine to a hundredth of the rate."""
    warmup = max(1, steps // 20)
    return keras.optimizers.schedules.CosineDecay(
        rate / 10, max(1, steps - warmup), alpha=0.01, warmup_target=rate, warmup_steps=warmup
    )


def plateau_rate(losses: Sequence[float], peak: float) -> float:
    """Return the learning rate of the next epoch under the plateau schedule.

    Args:
        losses: Validation loss of each epoch so far.
        peak: Learning rate of the first epoch.
    """
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
    """Return n / (2 n_c) for each class c, float32 [2], so that both classes have the same weight in the loss."""
    counts = np.bincount(labels, minlength=2)
    return np.asarray(len(labels) / (2 * np.maximum(counts, 1)), np.float32)


def _has_gpu() -> bool:
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))
