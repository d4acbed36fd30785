"""ImageNet weights for colour images, converted to networks with grey input.

A network trained on colour expects each channel scaled in its own way (`preprocess_input` of its Keras module, or the
first layers of EfficientNet). If the scaling is the same for all three channels, grey slices need only one channel:
the kernel of the first layer is summed over its input channels, which is exact for grey. Otherwise the scaling stays
in the graph as `grey_to_colour`, a 1x1 convolution from one channel to three: folding its offsets into the first layer
would be wrong along the border, where padding inserts zeros.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge_ct.errors import DataRejected
from edge_ct.preprocess import Preprocess

from .architectures import Architecture
from .backbones import grey_input, keras_backbone, keras_options

GREY_TO_COLOUR = "grey_to_colour"
# Half a grey level: MobileNetV2 is centred on 127.5 and edge-ct on 128, so that the input's zero point is an integer.
_MAX_OFFSET = 0.5 / 127.5 + 1e-6
# Keras' EfficientNet files store standard deviations as variances; Keras corrects this with a second Rescaling layer.
_KERAS_STANDARD_DEVIATION = (0.229, 0.224, 0.225)


def load_pretrained_backbone(
    api: Any,
    architecture: Architecture,
    size: int,
    alpha: float,
    weights: str | Path,
    stochastic_depth: bool = True,
) -> Any:
    """Build a backbone with grey input from weights that were trained on colour images.

    Args:
        api: `keras` or `tf_keras`.
        architecture: A network with an `application`.
        size: Side of the input in pixels.
        alpha: Width multiplier, for networks that take one.
        weights: "imagenet", or a file of three-channel weights without the top.
        stochastic_depth: As for `keras_backbone`.

    Returns:
        A Keras model without top on [n, size, size, 1].

    Raises:
        DataRejected: The weights cannot be downloaded, cannot be read or do not fit.
    """
    colour = _load_colour_network(api, architecture, size, alpha, weights)
    scale, offset = channel_scaling(api, architecture, colour)
    grey = grey_input(api, size)
    if np.ptp(scale) < 1e-6 and np.abs(offset).max() <= _MAX_OFFSET:
        backbone = keras_backbone(api, architecture, alpha, grey, stochastic_depth)
        copy_weights(colour, backbone, scale[0])
        return backbone
    entry = api.layers.Conv2D(3, 1, name=GREY_TO_COLOUR)(grey)
    backbone = keras_backbone(api, architecture, alpha, entry, stochastic_depth)
    copy_weights(colour, backbone, 1.0)
    kernel = scale.reshape(1, 1, 1, 3).astype(np.float32)
    backbone.get_layer(GREY_TO_COLOUR).set_weights([kernel, offset.astype(np.float32)])
    return backbone


def _load_colour_network(api: Any, architecture: Architecture, size: int, alpha: float, weights: str | Path) -> Any:
    if str(weights) != "imagenet" and not Path(weights).is_file():
        raise DataRejected(f"{weights}: no such file of weights; name a file with --weights, or write imagenet or none")
    make = getattr(api.applications, architecture.application)
    options = keras_options(architecture, alpha)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras prints download progress on standard output
            return make(include_top=False, weights=str(weights), input_shape=(size, size, 3), **options)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if str(weights) == "imagenet":
            raise DataRejected(
                f"ImageNet weights cannot be downloaded ({reason}); name a local file with --weights FILE"
            ) from error
        what = f"{architecture.application} weights" + (f" for alpha {alpha}" if options else "")
        raise DataRejected(f"{weights}: does not hold {what} without the top: {reason}") from error


def channel_scaling(api: Any, architecture: Architecture, colour: Any) -> tuple[np.ndarray, np.ndarray]:
    """Measure how the colour network scales a grey value before its first convolution.

    Returns:
        Scale and offset, float64 [3] each, for values as `Preprocess.normalise` returns them, in the channel order
        that the network expects.
    """

    def prepared(grey: float) -> np.ndarray:
        pixels = np.full((1, 1, 1, 3), grey, np.float32)
        if architecture.normalises_itself:
            return _apply_first_layers(colour, pixels)
        module = importlib.import_module(f"{api.__name__}.applications.{architecture.module}")
        return np.asarray(module.preprocess_input(pixels), np.float64).ravel()

    preprocess = Preprocess(32)
    offset = prepared(float(preprocess.zero_point))
    unit = 1 / preprocess.scale  # grey levels in one normalised unit
    scale = prepared(preprocess.zero_point + unit) - offset
    return scale, offset


def _apply_first_layers(colour: Any, pixels: np.ndarray) -> np.ndarray:
    rescalings = 0
    for layer in colour.layers[1:]:
        kind = type(layer).__name__
        if kind not in ("Rescaling", "Normalization"):
            break
        pixels = np.asarray(layer(pixels))
        rescalings += kind == "Rescaling"
        if kind == "Normalization":
            variance = np.asarray(layer.variance, np.float64).ravel()
    if rescalings == 1 and np.allclose(variance, _KERAS_STANDARD_DEVIATION, atol=1e-4):
        pixels = pixels / np.sqrt(_KERAS_STANDARD_DEVIATION)
    return np.asarray(pixels, np.float64).ravel()


def copy_weights(colour: Any, grey: Any, scale: float) -> None:
    """Copy weights layer by layer, in order.

    Args:
        colour: Source model with three input channels.
        grey: Target model; if its first kernel has one input channel, the source's kernel is summed over channels.
        scale: Factor applied to the summed kernel.
    """
    targets = [layer for layer in grey.layers if layer.weights and layer.name != GREY_TO_COLOUR]
    sources = [layer for layer in colour.layers if layer.weights and type(layer).__name__ != "Normalization"]
    first = True
    for target, source in zip(targets, sources, strict=True):
        values = source.get_weights()
        if first and target.weights[0].shape != values[0].shape:
            # Shape [k, k, 3, filters], or [k, k, 3, 1] for a depthwise kernel.
            values[0] = (values[0].sum(axis=2, keepdims=True) * scale).astype(np.float32)
        first = False
        target.set_weights(values)
