"""Three-channel ImageNet weights made into a network of grey slices.

A network that was trained on colour expects each channel scaled its own way (`preprocess_input` of its Keras module,
or EfficientNet's first layers). Where that is the same for all channels, grey slices need but one: the first kernel is
summed over its inputs, exact for grey. Elsewhere the scaling stays in the graph, as a 1x1 convolution from one channel
to three, `grey_to_colour`: folding its offsets away would be wrong along the border, where padding puts zeros.
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

from .build import Architecture, application, grey_input

GREY_TO_COLOUR = "grey_to_colour"
# Half a grey level: MobileNetV2's centre is 127.5, ours is 128, so that the input's zero point is a whole number.
_SAME = 0.5 / 127.5 + 1e-6
# What Keras' EfficientNet files hold for variances are standard deviations; Keras itself makes up for it downstream.
_EFFICIENTNET_VARIANCE = (0.229, 0.224, 0.225)


def load(
    api: Any, architecture: Architecture, size: int, alpha: float, weights: str | Path, whole: bool = False
) -> Any:
    """The network without top, on grey [n, size, size, 1]; weights: "imagenet" or a file of three-channel weights.

    whole: as of `zoo.application`. Raises `DataRejected` where they cannot be had or do not fit.
    """
    colour = _colour(api, architecture, size, alpha, weights)
    scale, offset = channel_scaling(api, architecture, colour)
    grey = grey_input(api, size)
    if np.ptp(scale) < 1e-6 and np.abs(offset).max() <= _SAME:
        backbone = application(api, architecture, alpha, grey, whole)
        copy_weights(colour, backbone, scale[0])
        return backbone
    entry = api.layers.Conv2D(3, 1, name=GREY_TO_COLOUR)(grey)
    backbone = application(api, architecture, alpha, entry, whole)
    copy_weights(colour, backbone, 1.0)
    kernel = scale.reshape(1, 1, 1, 3).astype(np.float32)
    backbone.get_layer(GREY_TO_COLOUR).set_weights([kernel, offset.astype(np.float32)])
    return backbone


def _colour(api: Any, architecture: Architecture, size: int, alpha: float, weights: str | Path) -> Any:
    make = getattr(api.applications, architecture.application)
    options = {"alpha": alpha} if architecture.name == "mobilenetv2" else {}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras prints its downloads
            return make(include_top=False, weights=str(weights), input_shape=(size, size, 3), **options)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if str(weights) == "imagenet":
            raise DataRejected(
                f"ImageNet weights cannot be downloaded ({reason}); give a file with --weights FILE"
            ) from error
        what = f"{architecture.application} weights" + (f" of alpha {alpha}" if options else "")
        raise DataRejected(f"{weights}: not {what}: {reason}") from error


def channel_scaling(api: Any, architecture: Architecture, colour: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the colour network does to a grey value before its first convolution: scale and offset, float64 [3] each.

    They apply to values as `Preprocess.normalise` gives them, in the channel order that the network expects.
    """

    def prepared(grey: float) -> np.ndarray:
        pixels = np.full((1, 1, 1, 3), grey, np.float32)
        if architecture.family == "EfficientNet":
            return _efficientnet_scaling(colour, pixels)
        module = importlib.import_module(f"{api.__name__}.applications.{architecture.module}")
        return np.asarray(module.preprocess_input(pixels), np.float64).ravel()

    preprocess = Preprocess(32)
    offset = prepared(float(preprocess.zero_point))
    unit = 1 / preprocess.scale  # grey levels that one normalised unit stands for
    scale = prepared(preprocess.zero_point + unit) - offset
    return scale, offset


def _efficientnet_scaling(colour: Any, pixels: np.ndarray) -> np.ndarray:
    rescalings = 0
    for layer in colour.layers[1:]:
        kind = type(layer).__name__
        if kind not in ("Rescaling", "Normalization"):
            break
        pixels = np.asarray(layer(pixels))
        rescalings += kind == "Rescaling"
        if kind == "Normalization":
            variance = np.asarray(layer.variance, np.float64).ravel()
    if rescalings == 1 and np.allclose(variance, _EFFICIENTNET_VARIANCE, atol=1e-4):
        pixels = pixels / np.sqrt(_EFFICIENTNET_VARIANCE)
    return np.asarray(pixels, np.float64).ravel()


def copy_weights(colour: Any, grey: Any, scale: float) -> None:
    """Copy layer by layer, in order; a first kernel of one input channel gets the sum over three, times `scale`."""
    own = [layer for layer in grey.layers if layer.weights and layer.name != GREY_TO_COLOUR]
    given = [layer for layer in colour.layers if layer.weights and type(layer).__name__ != "Normalization"]
    first = True
    for target, source in zip(own, given, strict=True):
        values = source.get_weights()
        if first and target.weights[0].shape != values[0].shape:
            # [k, k, 3, filters], or of a depthwise kernel [k, k, 3, 1]
            values[0] = (values[0].sum(axis=2, keepdims=True) * scale).astype(np.float32)
        first = False
        target.set_weights(values)
