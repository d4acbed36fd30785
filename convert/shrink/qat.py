"""Quantisation-aware training: the network learns with the rounding of its int8 file in place (Jacob et al. 2018).

tfmot inserts the rounding into the tf_keras twin, by its default 8-bit scheme. A layer that the scheme refuses is
rebuilt (see `tf_keras_twin`), gets a quantisation config here, or is left alone; `QatSupport` lists which. The ranges
of activations start at those of representative slices, because training would need thousands of steps to leave
tfmot's initial range of -6 to 6.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.preprocess import Preprocess
from edge_ct.system import native_output
from edge_ct.system.progress import QUIET, Progress

from .finetune import DistillationData, EpochResult, FineTuneRecipe, fine_tune
from .tf_keras_twin import CONVOLUTIONS, build_quantisable_twin, clone_layers

with native_output.captured_native_stderr(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot

_quantization = tfmot.quantization.keras
# The functions that tfmot supports in an `Activation` layer.
_ACTIVATIONS = ("relu", "relu6", "swish", "silu", "gelu", "linear", "softmax", "sigmoid", "tanh")
# Layers that tfmot's scheme does not support, and whose output `OutputQuantizeConfig` rounds.
_CONFIGURED = ("Multiply", "Subtract", "Maximum", "Rescaling")
_BATCH = 16


class QatSupport(msgspec.Struct, frozen=True):
    """The layers of a network that quantisation-aware training supports.

    Attributes:
        qat: `full` for all layers, `partial` for all but `left`, `none`.
        folded: Layers that tfmot supports only after they were rebuilt with other layers.
        ruled: Layers that tfmot does not support and that `OutputQuantizeConfig` handles.
        left: Layers that stay in float, so that the result is not a full-integer file.
        reason: Why nothing is supported.
    """

    qat: str
    folded: tuple[str, ...] = ()
    ruled: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    reason: str = ""


class QatAccount(msgspec.Struct, frozen=True):
    """The result of quantisation-aware training.

    Attributes:
        taken: The supported layers.
        epochs: The epochs of training.
    """

    taken: QatSupport
    epochs: list[EpochResult]


class OutputQuantizeConfig(_quantization.QuantizeConfig):  # type: ignore[misc, name-defined]
    """Rounds the output of a layer without weights that tfmot's scheme does not support, to a moving range."""

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        """Return nothing: the layer has no weights."""
        return []

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        """Return nothing: the output is rounded instead."""
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        """Do nothing: there is nothing to set."""

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        """Do nothing: there is nothing to set."""

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """Return one quantiser for the whole output."""
        return [
            _quantization.quantizers.MovingAverageQuantizer(
                num_bits=8, per_axis=False, symmetric=False, narrow_range=False
            )
        ]

    def get_config(self) -> dict[str, Any]:
        """Return an empty configuration."""
        return {}


class _Observer:
    """Replaces a quantiser while ranges are measured: widens its range to the values and does not round them."""

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **_: Any) -> Any:
        weights["min_var"].assign(tf.minimum(weights["min_var"], tf.reduce_min(inputs)))
        weights["max_var"].assign(tf.maximum(weights["max_var"], tf.reduce_max(inputs)))
        return inputs


def check_support(model: Any) -> QatSupport:
    """Return what is supported of a Keras 3 network, judged by its layers alone; `insert_rounding` tries it."""
    base, folded = build_quantisable_twin(model)
    ruled, left = _unsupported(base)
    return QatSupport("partial" if left else "full", folded, ruled, left)


def insert_rounding(model: Any, keep_zeros: bool = False) -> tuple[Any, QatSupport]:
    """Return the twin of a network with rounding in place; its ranges are not set yet.

    Args:
        model: A Keras 3 network.
        keep_zeros: Keep weights that are zero at zero during training.

    Returns:
        The twin, and the layers that are supported.

    Raises:
        EdgeCTError: tfmot refuses the network.
    """
    base, folded = build_quantisable_twin(model)
    ruled, left = _unsupported(base)

    def annotate(layer: Any) -> Any:
        if layer.name in left:
            return layer
        rule = OutputQuantizeConfig() if layer.name in ruled else None
        return _quantization.quantize_annotate_layer(layer, rule)

    with (
        _quantization.quantize_scope({OutputQuantizeConfig.__name__: OutputQuantizeConfig}),
        warnings.catch_warnings(),
        native_output.captured_native_stderr(),
    ):
        warnings.simplefilter("ignore")
        try:
            annotated = clone_layers(base, annotate)
            annotated.set_weights(base.get_weights())
            quantised = _quantization.quantize_apply(annotated, _scheme(keep_zeros))
        except (RuntimeError, ValueError) as error:
            raise EdgeCTError(f"tfmot refuses {model.name}: {str(error).splitlines()[0]}") from error
    return quantised, QatSupport("partial" if left else "full", folded, ruled, left)


def set_activation_ranges(quantised: Any, preprocess: Preprocess, images: np.ndarray) -> None:
    """Set the ranges of all activations to those on some slices, and the range of the input to all bytes.

    Args:
        quantised: What `insert_rounding` returned.
        preprocess: The preprocessing of the network.
        images: Slices of the training split, uint8 [n, s, s, 1].
    """
    for low, high in _ranges(quantised):
        low.assign(0.0)
        high.assign(0.0)
    with _observing(quantised):
        observe = tf.function(lambda batch: quantised(batch, training=False))
        for start in range(0, len(images), _BATCH):
            observe(tf.constant(preprocess.normalise(images[start : start + _BATCH])))
    for layer in quantised.layers:
        if type(layer).__name__ == "QuantizeLayer":
            pin_input_range(layer, preprocess)


def train_with_rounding(
    quantised: Any,
    support: QatSupport,
    data: DistillationData,
    recipe: FineTuneRecipe,
    progress: Progress = QUIET,
) -> QatAccount:
    """Train a network with rounding in place.

    Args:
        quantised: What `insert_rounding` returned, with its ranges set.
        support: The layers that are supported, for the result.
        data: The slices.
        recipe: How to train.
        progress: Where progress is shown.
    """
    return QatAccount(support, fine_tune(quantised, data, recipe, progress, "training with rounding"))


@contextmanager
def _observing(quantised: Any) -> Iterator[None]:
    """Let activations pass unrounded and widen their ranges; weights are rounded as in training."""
    wrappers = [layer for layer in quantised.layers if hasattr(layer, "_output_quantizers")]
    rounding = [(layer, layer._output_quantizers, layer._weight_vars) for layer in wrappers]
    holders = [activation for layer in wrappers for activation in layer._quantize_activations]
    holders += [layer for layer in quantised.layers if type(layer).__name__ == "QuantizeLayer"]
    kept = [(holder, holder.quantizer) for holder in holders]
    for layer, outputs, weights in rounding:
        layer._output_quantizers = [_Observer() for _ in outputs]
        layer._weight_vars = [
            (weight, partial(_as_in_training, quantizer), state) for weight, quantizer, state in weights
        ]
    for holder in holders:
        holder.quantizer = _Observer()
    try:
        yield
    finally:
        for layer, outputs, weights in rounding:
            layer._output_quantizers, layer._weight_vars = outputs, weights
        for holder, quantizer in kept:
            holder.quantizer = quantizer


def _as_in_training(quantizer: Any, inputs: Any, training: Any, weights: dict[str, Any]) -> Any:
    return quantizer(inputs, True, weights=weights)


def pin_input_range(entry: Any, preprocess: Preprocess) -> None:
    """Set the range of the input layer to that of all bytes, whatever the slices hold."""
    low, high = preprocess.normalise(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)).ravel()
    entry.quantizer_vars["min_var"].assign(float(low))
    entry.quantizer_vars["max_var"].assign(float(high))


def _scheme(keep_zeros: bool) -> Any:
    if keep_zeros:
        return tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
    return _quantization.default_8bit.Default8BitQuantizeScheme()


def _unsupported(base: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the layers that tfmot's scheme refuses: those that `OutputQuantizeConfig` handles, and the others."""
    registry = _scheme(keep_zeros=False).get_quantize_registry()
    configured: list[str] = []
    left: list[str] = []
    for layer in base.layers:
        kind = type(layer).__name__
        if kind == "InputLayer" or kind in CONVOLUTIONS or kind == "BatchNormalization":
            continue  # in the twin every normalisation follows a convolution
        if kind == "Activation":
            if layer.activation.__name__ not in _ACTIVATIONS:
                left.append(layer.name)
        elif not registry.supports(layer):
            (configured if kind in _CONFIGURED else left).append(layer.name)
    return tuple(configured), tuple(left)


def _ranges(quantised: Any) -> list[tuple[Any, Any]]:
    """Return the variables of the low and the high end of every activation's range."""
    found = []
    for layer in quantised.layers:
        if type(layer).__name__ == "QuantizeLayer":
            found.append((layer.quantizer_vars["min_var"], layer.quantizer_vars["max_var"]))
        elif hasattr(layer, "_output_quantizers"):
            if layer._output_quantizers:
                found.append((layer._output_quantizer_vars["min_var"], layer._output_quantizer_vars["max_var"]))
            for one in layer._quantize_activations:
                for name in ("_pre_activation_vars", "_post_activation_vars"):
                    if hasattr(one, name):
                        variables = getattr(one, name)
                        found.append((variables["min_var"], variables["max_var"]))
    return found
