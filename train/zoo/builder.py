"""Complete networks: they map grey slices, as `Preprocess.normalise` returns them, to two logits.

The last layer of a base network is a 1x1 convolution to two class maps followed by their global average. It computes
the same function with the same parameters as pooling and Dense-2, and the map that explains a decision is the decision
itself. A Modified network has no such map. Conversion takes the outputs of the graph from the layers `features`,
`class_map` and `logits`. The functions take the Keras API as an argument; weights are moved by layer name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_ct.errors import DataRejected

from .architectures import Architecture, check_size, find
from .backbones import customcnn_backbone, grey_input, keras_backbone
from .pretrained import load_pretrained_backbone

# Keras' MobileNetV2 uses 0.999: with about 55 steps an epoch its moving statistics then lag so far behind that
# validation stays at chance level while training looks perfect.
BATCH_NORM_MOMENTUM = 0.9


def build(
    api: Any, network: str, size: int, alpha: float = 1.0, weights: str | Path | None = None, dropout: float = 0.2
) -> Any:
    """Build a network with two logits.

    Args:
        api: `keras` or `tf_keras`.
        network: Name of an architecture.
        size: Side of the input in pixels.
        alpha: Width multiplier of MobileNetV2.
        weights: None for random weights, "imagenet" (downloaded by Keras), or a file of Keras' three-channel weights
            without the top, whose first layer is converted to grey input.
        dropout: Dropout rate before the class map; in a Modified network, after Dense-128. At 0 EfficientNet's
            stochastic depth is switched off too: with it, EfficientNet learns nothing from random weights in small
            batches.

    Returns:
        A Keras model [n, size, size, 1] -> [n, 2].

    Raises:
        EdgeCTError: Unknown network, or a size below its minimum.
        DataRejected: The weights do not fit the network or cannot be downloaded.
    """
    architecture = find(network)
    check_size(architecture, size)
    if not architecture.application:
        if weights is not None:
            raise DataRejected(f"{network} has no pretrained weights: use --weights none")
        inputs, features = customcnn_backbone(api, size)
    else:
        if weights is None:
            backbone = keras_backbone(api, architecture, alpha, grey_input(api, size), dropout > 0)
        else:
            backbone = load_pretrained_backbone(api, architecture, size, alpha, weights, dropout > 0)
        inputs, features = backbone.inputs[0], backbone.outputs[0]
    features = api.layers.Activation("linear", name="features")(features)
    model = _with_head(api, architecture, inputs, features, dropout)
    for layer in model.layers:
        if isinstance(layer, api.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
    return model


def replace_head(api: Any, architecture: Architecture, model: Any, dropout: float = 0.2) -> Any:
    """Build a network that shares the backbone and its weights with `model`, with the head of `architecture`."""
    return _with_head(api, architecture, model.inputs[0], model.get_layer("features").output, dropout)


def _with_head(api: Any, architecture: Architecture, inputs: Any, features: Any, dropout: float) -> Any:
    head = _modified_head if architecture.modified else _class_map_head
    return api.Model(inputs, head(api, features, dropout), name=architecture.name)


def _class_map_head(api: Any, features: Any, dropout: float) -> Any:
    # Dropping whole channels before the class map equals dropping pooled features in an ordinary head.
    dropped = api.layers.SpatialDropout2D(dropout, name="dropout")(features)
    class_map = api.layers.Conv2D(2, 1, name="class_map")(dropped)
    return api.layers.GlobalAveragePooling2D(name="logits")(class_map)


def _modified_head(api: Any, features: Any, dropout: float) -> Any:
    layers = api.layers
    outputs = layers.GlobalAveragePooling2D(name="pooled")(features)
    outputs = layers.Dense(128, activation="relu", name="dense1")(outputs)
    outputs = layers.Dropout(dropout, name="dropout")(outputs)
    outputs = layers.Dense(64, activation="relu", name="dense2")(outputs)
    outputs = layers.Dense(32, activation="relu", name="dense3")(outputs)
    return layers.Dense(2, name="logits")(outputs)
