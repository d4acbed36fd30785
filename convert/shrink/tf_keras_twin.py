"""The tf_keras twin of a Keras 3 network: the same layers, names, weights and outputs, in the form that tfmot needs.

This is the one module that imports tf_keras. A twin is rebuilt from the configuration of the network, so that every
functional network of built-in layers has one. Where tf_keras lacks a layer, or tfmot would refuse it, the twin computes
the same with other layers: the scaled sum of InceptionResNetV2 becomes a plain one, and its scale is multiplied into
the convolution before it.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.system import native_output

with native_output.captured_native_stderr():
    import tf_keras

# Settings that do not matter for weights that exist already, and that Keras 3 writes in its own terms.
_LEFT_OUT = ("initializer", "regularizer", "constraint")
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")
_UNIT, _SEPARATED = "_unit", "_separated"


def set_random_seed(seed: int) -> None:
    """Seed everything that tf_keras draws at random."""
    tf_keras.utils.set_random_seed(seed)


def make_adam(rate: float) -> Any:
    """Return an Adam optimiser for tf_keras networks."""
    return tf_keras.optimizers.Adam(rate)


def clone_layers(twin: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy of a twin, each layer replaced by what `change` returns for it; weights are new."""
    return tf_keras.models.clone_model(twin, clone_function=change)


def build_twin(model: Any) -> Any:
    """Return the twin of a functional Keras 3 network, with its weights.

    Raises:
        EdgeCTError: A layer has no twin.
    """
    return _rebuild(model, units=False)[0]


def build_quantisable_twin(model: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the twin in a form that tfmot can quantise.

    tfmot rounds a batch normalisation only together with a convolution before it. Where there is none (DenseNet,
    ResNetV2), a depthwise 1x1 convolution with weights of one is put in front: the network computes the same, and in
    the converted file the two are one operation.

    Args:
        model: A functional Keras 3 network.

    Returns:
        The twin, and the names of the layers that were rebuilt with other layers.

    Raises:
        EdgeCTError: A layer has no twin.
    """
    return _rebuild(model, units=True)


def _rebuild(model: Any, units: bool) -> tuple[Any, tuple[str, ...]]:
    config = model.get_config()
    foldable = _foldable(config)
    tensors: dict[tuple[str, int, int], Any] = {}
    folded = []
    for entry in config["layers"]:
        name, kind = entry["config"]["name"], entry["class_name"]
        original = model.get_layer(name)
        if kind == "InputLayer":
            tensors[name, 0, 0] = tf_keras.layers.Input(tuple(original.output.shape[1:]), name=name)
            continue
        if units and kind == "SeparableConv2D":
            layer = _separated(original.get_config(), name)
            folded.append(name)
        else:
            layer = _layer(original, kind, name)
        for node, inbound in enumerate(entry["inbound_nodes"]):
            sources = _sources(inbound)
            inputs = [tensors[source] for source in sources]
            if kind == "CustomScaleLayer":
                folded.append(name)
            if units and kind == "BatchNormalization" and sources[0][0] not in foldable:
                inputs = [_unit(f"{name}{_UNIT}")(inputs[0])]
                folded.append(name)
            tensors[name, node, 0] = layer(inputs if len(inputs) > 1 else inputs[0])
    outputs = [tensors[source] for source in _histories(config["output_layers"])]
    inputs = [tensors[source] for source in _histories(config["input_layers"])]
    twin = tf_keras.Model(inputs[0], outputs if len(outputs) > 1 else outputs[0], name=model.name)
    _copy_weights(model, twin, _scales(config))
    return twin, tuple(folded)


def _foldable(config: dict[str, Any]) -> set[str]:
    """Return the convolutions that exactly one layer follows: a normalisation there can be folded into them."""
    followers = Counter(
        source[0] for entry in config["layers"] for node in entry["inbound_nodes"] for source in _sources(node)
    )
    followers.update(source[0] for source in _histories(config["output_layers"]))
    return {
        entry["config"]["name"]
        for entry in config["layers"]
        if entry["class_name"] in CONVOLUTIONS and followers[entry["config"]["name"]] == 1
    }


def copy_back(twin: Any, model: Any) -> None:
    """Copy the weights of a twin, made by `build_twin`, back to its Keras 3 network."""
    scales = _scales(model.get_config())
    _copy_weights(twin, model, {name: 1 / scale for name, scale in scales.items()})


def _copy_weights(source: Any, target: Any, scales: dict[str, float]) -> None:
    sources = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if layer.weights and not layer.name.endswith(_UNIT):
            scale = scales.get(layer.name, 1.0)
            layer.set_weights([values * np.float32(scale) for values in _weights_for(layer, sources)])


def _weights_for(layer: Any, sources: dict[str, Any]) -> list[np.ndarray]:
    """Return the weights that a layer takes from the layer that it stands for."""
    if layer.name.endswith(_SEPARATED):
        return list(sources[layer.name.removesuffix(_SEPARATED)].get_weights()[:1])
    values = list(sources[layer.name].get_weights())
    return values[1:] if len(values) > len(layer.weights) else values


def _scales(config: dict[str, Any]) -> dict[str, float]:
    """Return convolution -> scale of its output in a scaled sum (InceptionResNetV2).

    Raises:
        EdgeCTError: The scaled layer is not a linear convolution, into which the scale can be multiplied.
    """
    layers = {entry["config"]["name"]: entry for entry in config["layers"]}
    scales = {}
    for entry in config["layers"]:
        if entry["class_name"] == "CustomScaleLayer":
            scaled = layers[_sources(entry["inbound_nodes"][0])[1][0]]
            if scaled["class_name"] != "Conv2D" or scaled["config"]["activation"] != "linear":
                raise EdgeCTError(
                    f"layer {scaled['config']['name']!r}: its scale cannot be multiplied into it, because it is not a "
                    "linear convolution"
                )
            scales[scaled["config"]["name"]] = float(entry["config"]["scale"])
    return scales


def _layer(layer: Any, kind: str, name: str) -> Any:
    if kind == "CustomScaleLayer":
        return tf_keras.layers.Add(name=name)
    twin = getattr(tf_keras.layers, kind, None)
    if twin is None:
        raise EdgeCTError(f"layer {name!r}: a {kind} has no twin in tf_keras, which tfmot needs")
    known = set(inspect.signature(twin.__init__).parameters)
    settings = {key: value for key, value in layer.get_config().items() if key in known and not key.endswith(_LEFT_OUT)}
    settings = {key: _activation(value) if key == "activation" else value for key, value in settings.items()}
    return twin(**{**settings, "name": name})


def _separated(config: dict[str, Any], name: str) -> Any:
    """Return a separable convolution as its two parts.

    tfmot would do the same, under names that other layers of the network may have.
    """
    spatial = {key: config[key] for key in ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier")}
    depthwise = tf_keras.layers.DepthwiseConv2D(**spatial, use_bias=False, name=f"{name}{_SEPARATED}")
    pointwise = tf_keras.layers.Conv2D(
        config["filters"], 1, use_bias=config["use_bias"], activation=_activation(config["activation"]), name=name
    )
    return lambda inputs: pointwise(depthwise(inputs))


def _unit(name: str) -> Any:
    return tf_keras.layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones", trainable=False, name=name)


def _activation(value: Any) -> Any:
    """Rename `silu` of Keras 3 to `swish`, the name that tf_keras and tfmot know."""
    return "swish" if value == "silu" else value


def _sources(node: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Return (layer, node, tensor) for every input of one call of a layer."""
    sources = []

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                layer, position, tensor = value["config"]["keras_history"]
                sources.append((layer, position, tensor))
                return
            for inner in value.values():
                visit(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                visit(inner)

    visit(node["args"])
    visit(node["kwargs"])
    return sources


def _histories(value: Any) -> list[tuple[str, int, int]]:
    """Return (layer, node, tensor) of the inputs or outputs in a configuration, which holds one or a list of them."""
    if value and isinstance(value[0], str):
        value = [value]
    return [(layer, position, tensor) for layer, position, tensor in value]
