"""Batch normalisation in training as one kernel of TensorFlow, which halves the time of a step on a CPU.

Keras writes the mean, the variance and the scaling as separate operations, each of which reads and writes the whole
activation, and so do their gradients: two thirds of the time of a MobileNetV2 in training. TensorFlow has one kernel
for all of it. Results agree except for rounding.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from edge_ct.system import native_output

with native_output.captured_native_stderr():
    import keras

_LEAST_EPSILON = 1.001e-5  # TensorFlow raises a smaller one to this


def fuse_batch_norms(model: Any) -> int:
    """Let the layers of batch normalisation of a network compute with TensorFlow's kernel while they are trained.

    The layers, their weights and their configuration stay those of Keras, so a network is saved as before. With another
    backend, or where the kernel does not apply, a layer keeps Keras' operations.

    Args:
        model: The network; it is changed.

    Returns:
        Number of layers that were changed.
    """
    if keras.backend.backend() != "tensorflow":
        return 0
    layers = [layer for layer in model.layers if _has_kernel(layer)]
    for layer in layers:
        layer.call = MethodType(_normalise, layer)
    return len(layers)


def _has_kernel(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.moving_mean is not None
        and len(layer.input.shape) == 4
        and layer.axis in (3, -1)
        and not layer.renorm
        and not layer.synchronized
        and layer.epsilon >= _LEAST_EPSILON
        and layer.compute_dtype in ("float32", "bfloat16")
    )


def _normalise(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """Replace `BatchNormalization.call`: the batch's own statistics normalise it, and move those of the layer."""
    if not (training and layer.trainable) or mask is not None:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    import tensorflow

    channels = inputs.shape[-1]
    scale = layer.gamma if layer.scale else tensorflow.ones(channels)
    offset = layer.beta if layer.center else tensorflow.zeros(channels)
    outputs, mean, variance = tensorflow.compat.v1.nn.fused_batch_norm(
        inputs, tensorflow.cast(scale, "float32"), tensorflow.cast(offset, "float32"), epsilon=layer.epsilon
    )
    # The kernel returns the variance over n - 1 values, and Keras keeps that over n.
    count = tensorflow.cast(tensorflow.reduce_prod(tensorflow.shape(inputs)[:-1]), "float32")
    variance *= (count - 1) / count
    for statistic, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        statistic.assign(statistic * layer.momentum + value * (1 - layer.momentum))
    return outputs
