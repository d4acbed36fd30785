"""The networks. Each maps grey slices, float `[n, size, size, 1]` as `Preprocess.normalise` gives them, to two logits.

All end alike: a 1x1 convolution to two class maps and their global average, so that the map which explains a decision
is the decision. The layers `features`, `class_map` and `logits` are where conversion takes the graph's outputs from.
Builders take the Keras API as a parameter; weights move between twins by layer name.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge_ct.errors import DataRejected, EdgeCTError

NETWORKS = ("mobilenetv2", "customcnn")
MINIMUM_SIZE = 32
# Keras' MobileNetV2 keeps 0.999: at some 55 steps an epoch its moving statistics lag so far behind that validation
# stays at chance while training looks perfect.
BATCH_NORM_MOMENTUM = 0.9


def build(
    api: Any, network: str, size: int, alpha: float = 1.0, weights: str | Path | None = None, dropout: float = 0.2
) -> Any:
    """Build a network of two logits.

    api: `keras` or `tf_keras`. weights: None, "imagenet" (downloaded by Keras) or a file of three-channel MobileNetV2
    weights without top, whose stem is folded to one grey channel. Raises `DataRejected` for weights that do not fit.
    """
    if size < MINIMUM_SIZE:
        raise EdgeCTError(f"{network} needs a size of at least {MINIMUM_SIZE}, not {size}")
    if network == "mobilenetv2":
        inputs, features = _mobilenetv2(api, size, alpha, weights)
    elif network == "customcnn":
        if weights is not None:
            raise DataRejected("customcnn has no pretrained weights: use --weights none")
        inputs, features = _customcnn(api, size)
    else:
        raise EdgeCTError(f"no network named {network!r}; there are: {', '.join(NETWORKS)}")
    model = api.Model(inputs, _head(api, features, dropout), name=network)
    for layer in model.layers:
        if isinstance(layer, api.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
    return model


def _head(api: Any, features: Any, dropout: float) -> Any:
    features = api.layers.Activation("linear", name="features")(features)
    # Dropping whole channels before the class map equals dropping pooled features in an ordinary head.
    dropped = api.layers.SpatialDropout2D(dropout, name="dropout")(features)
    class_map = api.layers.Conv2D(2, 1, name="class_map")(dropped)
    return api.layers.GlobalAveragePooling2D(name="logits")(class_map)


def _mobilenetv2(api: Any, size: int, alpha: float, weights: str | Path | None) -> tuple[Any, Any]:
    def backbone(channels: int, weights: Any) -> Any:
        shape = (size, size, channels)
        return api.applications.MobileNetV2(input_shape=shape, alpha=alpha, include_top=False, weights=weights)

    grey = backbone(1, None)
    if weights is not None:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # Keras prints its downloads
                colour = backbone(3, str(weights))
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if weights == "imagenet":
                raise DataRejected(
                    f"ImageNet weights cannot be downloaded ({reason}); give a file with --weights FILE"
                ) from error
            raise DataRejected(f"{weights}: not MobileNetV2 weights of alpha {alpha}: {reason}") from error
        fold_colour(colour, grey)
    return grey.input, grey.output


def fold_colour(colour: Any, grey: Any) -> None:
    """Copy weights by layer name, summing the first kernel over its three input channels: exact for grey input."""
    for layer in grey.layers:
        values = colour.get_layer(_twin_name(layer.name, colour)).get_weights()
        for index, (own, given) in enumerate(zip(layer.get_weights(), values, strict=True)):
            if own.shape != given.shape:
                values[index] = given.sum(axis=2, keepdims=True).astype(np.float32)
        layer.set_weights(values)


def _twin_name(name: str, twin: Any) -> str:
    names = {layer.name for layer in twin.layers}
    # Only the input layer is numbered by Keras rather than named.
    return name if name in names else twin.layers[0].name


def _customcnn(api: Any, size: int) -> tuple[Any, Any]:
    """A plain convolutional network of four stages, as the seed study's CustomCNN, of which it says no more."""
    layers = api.layers
    inputs = outputs = layers.Input((size, size, 1))
    for stage, filters in enumerate((16, 32, 64, 128)):
        for step in (1, 2):
            name = f"stage{stage + 1}_conv{step}"
            outputs = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(outputs)
            outputs = layers.BatchNormalization(name=f"{name}_bn")(outputs)
            outputs = layers.ReLU(name=f"{name}_relu")(outputs)
        if stage < 3:
            outputs = layers.MaxPooling2D(name=f"stage{stage + 1}_pool")(outputs)
    return inputs, outputs
