"""Quantisation-aware training: the network learns with the roundings of its int8 file in place (Jacob et al. 2018).

tfmot puts them into the tf_keras twin, after its default 8-bit scheme; what that refuses is brought into a form that it
takes (`twin.of`), or given a rule here, or left alone, and `Taken` says which. The ranges of activations start at those
of representative slices: tfmot's own start, -6 to 6, would take thousands of steps to leave.
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

from . import finetune, tf_keras_twin

with native_output.captured_native_stderr(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot

_quantization = tfmot.quantization.keras
# What tfmot's rule for `Activation` knows.
_ACTIVATIONS = ("relu", "relu6", "swish", "silu", "gelu", "linear", "softmax", "sigmoid", "tanh")
_RULED = ("Multiply", "Subtract", "Maximum", "Rescaling")
_BATCH = 16


class Taken(msgspec.Struct, frozen=True):
    """What quantisation-aware training takes of a network. full: all of it; partial: all but `left`; none.

    folded: layers that tfmot refuses as they are, and takes in another form that computes the same. ruled: layers that
    it has no rule for, and that have one here. left: layers that stay as they are, and so no full-integer file results.
    """

    qat: str
    folded: tuple[str, ...] = ()
    ruled: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    reason: str = ""


class Account(msgspec.Struct, frozen=True):
    """What was taken, and how training went."""

    taken: Taken
    epochs: list[finetune.Epoch]


class OutputRule(_quantization.QuantizeConfig):  # type: ignore[misc]
    """For layers without weights that tfmot's scheme does not know: their output is rounded, to a moving range."""

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        """None: there are no weights."""
        return []

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        """None: the output is what is rounded."""
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        """Nothing to set."""

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        """Nothing to set."""

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """One, for the whole tensor."""
        return [
            _quantization.quantizers.MovingAverageQuantizer(
                num_bits=8, per_axis=False, symmetric=False, narrow_range=False
            )
        ]

    def get_config(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}


class _Observer:
    """Stands in for a quantiser while ranges are found: widens its range to what it sees, and changes nothing."""

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **_: Any) -> Any:
        weights["min_var"].assign(tf.minimum(weights["min_var"], tf.reduce_min(inputs)))
        weights["max_var"].assign(tf.maximum(weights["max_var"], tf.reduce_max(inputs)))
        return inputs


def examine(model: Any) -> Taken:
    """What would be taken of a Keras 3 network, by its layers; a quick look, where `prepare` tries it."""
    base, folded = tf_keras_twin.for_quantisation(model)
    ruled, left = _untaken(base)
    return Taken("partial" if left else "full", folded, ruled, left)


def prepare(model: Any, keep_zeros: bool = False) -> tuple[Any, Taken]:
    """A Keras 3 model -> its twin with roundings in place, ranges still unknown, and what was taken of it.

    keep_zeros: weights that are zero stay so in training. Raises `EdgeCTError` where tfmot takes none of it.
    """
    base, folded = tf_keras_twin.for_quantisation(model)
    ruled, left = _untaken(base)

    def annotate(layer: Any) -> Any:
        if layer.name in left:
            return layer
        rule = OutputRule() if layer.name in ruled else None
        return _quantization.quantize_annotate_layer(layer, rule)

    with (
        _quantization.quantize_scope({"OutputRule": OutputRule}),
        warnings.catch_warnings(),
        native_output.captured_native_stderr(),
    ):
        warnings.simplefilter("ignore")
        try:
            annotated = tf_keras_twin.api.models.clone_model(base, clone_function=annotate)
            annotated.set_weights(base.get_weights())
            quantised = _quantization.quantize_apply(annotated, _scheme(keep_zeros))
        except (RuntimeError, ValueError) as error:
            raise EdgeCTError(f"tfmot takes none of {model.name}: {str(error).splitlines()[0]}") from error
    return quantised, Taken("partial" if left else "full", folded, ruled, left)


def set_ranges(quantised: Any, preprocess: Preprocess, images: np.ndarray) -> None:
    """Set the ranges of all activations to what they are on `images`, uint8 [n, s, s, 1]; the input's to all bytes."""
    for low, high in _ranges(quantised):
        low.assign(0.0)
        high.assign(0.0)
    with _observing(quantised):
        observe = tf.function(lambda batch: quantised(batch, training=False))
        for start in range(0, len(images), _BATCH):
            observe(tf.constant(preprocess.normalise(images[start : start + _BATCH])))
    for layer in quantised.layers:
        if type(layer).__name__ == "QuantizeLayer":
            pin(layer, preprocess)


def train(
    quantised: Any, taken: Taken, lessons: finetune.Lessons, recipe: finetune.Recipe, progress: Progress = QUIET
) -> Account:
    """Train what `prepare` gave, its ranges set."""
    return Account(taken, finetune.fit(quantised, lessons, recipe, progress, "with roundings"))


@contextmanager
def _observing(quantised: Any) -> Iterator[None]:
    """Inside, activations pass unrounded and widen their ranges; weights are rounded to ranges of their own."""
    wrappers = [layer for layer in quantised.layers if hasattr(layer, "_output_quantizers")]
    rounding = [(layer, layer._output_quantizers, layer._weight_vars) for layer in wrappers]
    holders = [one for layer in wrappers for one in layer._quantize_activations]
    holders += [layer for layer in quantised.layers if type(layer).__name__ == "QuantizeLayer"]
    kept = [(holder, holder.quantizer) for holder in holders]
    for layer, outputs, weights in rounding:
        layer._output_quantizers = [_Observer() for _ in outputs]
        layer._weight_vars = [(weight, partial(_as_in_training, quantizer), own) for weight, quantizer, own in weights]
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


def pin(entry: Any, preprocess: Preprocess) -> None:
    """Give the input the range of all bytes, whatever the slices hold."""
    low, high = preprocess.normalise(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)).ravel()
    entry.quantizer_vars["min_var"].assign(float(low))
    entry.quantizer_vars["max_var"].assign(float(high))


def _scheme(keep_zeros: bool) -> Any:
    if keep_zeros:
        return tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
    return _quantization.default_8bit.Default8BitQuantizeScheme()


def _untaken(base: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the layers that tfmot's scheme refuses: those that `OutputRule` serves, and those that nothing does."""
    registry = _scheme(keep_zeros=False).get_quantize_registry()
    ruled, left = [], []
    for layer in base.layers:
        kind = type(layer).__name__
        if kind == "InputLayer" or kind in tf_keras_twin.CONVOLUTIONS or kind == "BatchNormalization":
            continue  # the twin has normalisations behind convolutions alone
        if kind == "Activation":
            if layer.activation.__name__ not in _ACTIVATIONS:
                left.append(layer.name)
        elif not registry.supports(layer):
            (ruled if kind in _RULED else left).append(layer.name)
    return tuple(ruled), tuple(left)


def _ranges(quantised: Any) -> list[tuple[Any, Any]]:
    """Variables of the low and the high end of every activation's range."""
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
