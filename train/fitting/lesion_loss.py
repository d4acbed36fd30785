"""The loss of the lesion map: weighted cross-entropy of each cell, and Dice of all cells of a batch."""

from __future__ import annotations

from typing import Any

from edge_ct.lesions import LESION_WEIGHT
from edge_ct.system.native_output import captured_native_stderr

with captured_native_stderr():
    import keras

_DICE_WEIGHT = 0.5


@keras.saving.register_keras_serializable(package="edge_ct")
class LesionLoss(keras.losses.Loss):
    """Cross-entropy plus half of 1 - Dice (Milletari et al. 2016, section 3, without squares), of the known cells.

    `y_true`, float [n, h, w, 2], holds for each cell the share of it that is lesion, 0 to 1, and 1 where that share is
    known or 0 where the slice has no mask. `y_pred`, float [n, h, w, 1], are logits. The result is one number for the
    batch; it is 0 where no slice of the batch has a mask.
    """

    def __init__(self, name: str = "lesion_loss", **options: Any) -> None:
        super().__init__(name=name, **options)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Called by Keras."""
        ops = keras.ops
        mask, known = ops.cast(y_true[..., 0], "float32"), ops.cast(y_true[..., 1], "float32")
        logit = ops.cast(y_pred[..., 0], "float32")
        # -m log(p) - (1 - m) log(1 - p), written so that no exponential overflows.
        entropy = ops.maximum(logit, 0.0) - logit * mask + ops.log1p(ops.exp(-ops.abs(logit)))
        entropy = ops.sum(known * (1 + LESION_WEIGHT * mask) * entropy) / ops.maximum(ops.sum(known), 1.0)
        p = known * ops.sigmoid(logit)
        dice = (2 * ops.sum(p * mask) + 1) / (ops.sum(p) + ops.sum(known * mask) + 1)
        return entropy + _DICE_WEIGHT * (1 - dice)


@keras.saving.register_keras_serializable(package="edge_ct")
class LabelledAccuracy(keras.metrics.Metric):
    """Share of the slices with a label whose likelier class is that of the label.

    Targets are those of `optimise.SoftTargets`; all four are 0 for a slice without a label.
    """

    def __init__(self, name: str = "accuracy", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.right = self.add_weight(name="right", initializer="zeros")
        self.labelled = self.add_weight(name="labelled", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Called by Keras."""
        ops = keras.ops
        # Where labels count for nothing, in distillation, the teacher's class is the right one.
        likelier = ops.argmax(y_true[:, :2] + 1e-3 * y_true[:, 2:], axis=-1)
        known = ops.cast(ops.sum(y_true, axis=-1) > 0, "float32")
        right = known * ops.cast(ops.equal(likelier, ops.argmax(y_pred, axis=-1)), "float32")
        self.right.assign_add(ops.sum(right))
        self.labelled.assign_add(ops.sum(known))

    def result(self) -> Any:
        """Called by Keras."""
        return self.right / keras.ops.maximum(self.labelled, 1.0)
