"""Convolutional backbones with random weights, whose layers have the same names in every process and Keras API."""

from __future__ import annotations

import re
from typing import Any

from .architectures import Architecture


def grey_input(api: Any, size: int) -> Any:
    """Return the input layer of every network, [n, size, size, 1]."""
    return api.layers.Input((size, size, 1), name="slice")


def keras_options(architecture: Architecture, alpha: float) -> dict[str, float]:
    """Return the options that only this network's function in `keras.applications` takes."""
    return {"alpha": alpha} if architecture.takes_alpha else {}


def keras_backbone(
    api: Any, architecture: Architecture, alpha: float, entry: Any, stochastic_depth: bool = True
) -> Any:
    """Build a network of `keras.applications` without its top and with random weights.

    The layers that normalise 0..255 inside EfficientNet are removed, because `Preprocess` has normalised already.

    Args:
        api: `keras` or `tf_keras`.
        architecture: A network with an `application`.
        alpha: Width multiplier, for networks that take one.
        entry: Keras tensor [n, s, s, channels] that the network is applied to.
        stochastic_depth: False to keep every block during training, for networks that drop blocks at random.

    Returns:
        A Keras model with fixed layer names.
    """
    make = getattr(api.applications, architecture.application)
    options = keras_options(architecture, alpha)
    model = make(include_top=False, weights=None, input_tensor=entry, input_shape=tuple(entry.shape[1:]), **options)
    if not architecture.rewritten:
        return model
    names = _fixed_names(model)

    def copy(layer: Any) -> Any:
        name = names.get(layer.name, layer.name)
        if type(layer).__name__ in ("Rescaling", "Normalization"):
            return api.layers.Activation("linear", name=name)
        config = {**layer.get_config(), "name": name}
        if architecture.initializer and "kernel_initializer" in config:
            config["kernel_initializer"] = architecture.initializer
        if not stochastic_depth and "rate" in config:
            config["rate"] = 0.0
        return type(layer).from_config(config)

    return api.models.clone_model(model, clone_function=copy)


def _fixed_names(model: Any) -> dict[str, str]:
    """Return new names for the layers that Keras numbers on within a process: weights are moved by layer name."""
    numbered: dict[str, list[tuple[int, str]]] = {}
    for layer in model.layers:
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        if match := re.fullmatch(rf"{kind}(?:_(\d+))?", layer.name):
            numbered.setdefault(kind, []).append((int(match[1] or 0), layer.name))
    # Sorted by number, which is the order of creation: the order of `layers` differs between the two APIs.
    return {
        name: f"{kind}_{position}"
        for kind, layers in numbered.items()
        for position, (_, name) in enumerate(sorted(layers), start=1)
        if kind != "input_layer"
    }


def customcnn_backbone(api: Any, size: int) -> tuple[Any, Any]:
    """Build CustomCNN: four stages of two 3x3 convolutions each, with max pooling between stages.

    The seed study names its network but does not describe the layers; these are ours.

    Returns:
        The input and the output tensor, [n, size, size, 1] and [n, size // 8, size // 8, 128].
    """
    layers = api.layers
    inputs = outputs = grey_input(api, size)
    for stage, filters in enumerate((16, 32, 64, 128), start=1):
        for step in (1, 2):
            name = f"stage{stage}_conv{step}"
            outputs = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(outputs)
            outputs = layers.BatchNormalization(name=f"{name}_bn")(outputs)
            outputs = layers.ReLU(name=f"{name}_relu")(outputs)
        if stage < 4:
            outputs = layers.MaxPooling2D(name=f"stage{stage}_pool")(outputs)
    return inputs, outputs
