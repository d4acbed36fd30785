"""The tf_keras twin of a Keras 3 network, which is what tfmot takes: the same layers, names, weights and outputs.

Rebuilt from the network's own configuration, so that any functional network of built-in layers has one, whoever made
it. Where a layer has no twin, or tfmot would refuse the one it has, the twin computes the same with other layers:
InceptionResNetV2's scaled sum becomes a plain one, its scale multiplied into the convolution before it.
"""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.system import native_output

with native_output.captured_native_stderr():
    import tf_keras

api = tf_keras
# Of no use to weights that exist already, and written in Keras 3's own terms.
_LEFT_OUT = ("initializer", "regularizer", "constraint")
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")
_UNIT, _SEPARATED = "_unit", "_separated"


def of(model: Any) -> Any:
    """The twin of a functional Keras 3 model, weights included. Raises `EdgeCTError` where a layer has none."""
    return _rebuild(model, units=False)[0]


def for_quantisation(model: Any) -> tuple[Any, tuple[str, ...]]:
    """As `of`, in a form that tfmot takes, and the names of the layers that it takes in another form.

    tfmot rounds a batch normalisation only together with a convolution before it. Where there is none of its own
    (DenseNet, ResNetV2), a depthwise 1x1 convolution of weights one is put in front: the network computes what it did,
    and in the converted file the two are one operation.
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
    """Convolutions that one other layer follows: a normalisation there becomes part of them."""
    followers = Counter(
        source[0] for entry in config["layers"] for node in entry["inbound_nodes"] for source in _sources(node)
    )
    followers.update(source[0] for source in _histories(config["output_layers"]))
    return {
        entry["config"]["name"]
        for entry in config["layers"]
        if entry["class_name"] in CONVOLUTIONS and followers[entry["config"]["name"]] == 1
    }


def bring_back(twin: Any, model: Any) -> None:
    """Give a Keras 3 model the weights of a twin that `of` made of it."""
    scales = _scales(model.get_config())
    _copy_weights(twin, model, {name: 1 / scale for name, scale in scales.items()})


def _copy_weights(source: Any, target: Any, scales: dict[str, float]) -> None:
    own = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if layer.weights and not layer.name.endswith(_UNIT):
            scale = scales.get(layer.name, 1.0)
            layer.set_weights([values * np.float32(scale) for values in _weights(own, layer)])


def _weights(own: dict[str, Any], layer: Any) -> list[np.ndarray]:
    """What a layer of the twin takes of the one it stands for."""
    if layer.name.endswith(_SEPARATED):
        return list(own[layer.name.removesuffix(_SEPARATED)].get_weights()[:1])
    values = list(own[layer.name].get_weights())
    return values[1:] if len(values) > len(layer.weights) else values


def _scales(config: dict[str, Any]) -> dict[str, float]:
    """Convolutions whose output is scaled before it is added (InceptionResNetV2) -> the scale.

    Raises `EdgeCTError` where what is scaled is not a linear convolution, into which the scale can be multiplied.
    """
    layers = {entry["config"]["name"]: entry for entry in config["layers"]}
    found = {}
    for entry in config["layers"]:
        if entry["class_name"] == "CustomScaleLayer":
            scaled = layers[_sources(entry["inbound_nodes"][0])[1][0]]
            if scaled["class_name"] != "Conv2D" or scaled["config"]["activation"] != "linear":
                raise EdgeCTError(f"layer {scaled['config']['name']!r}: a scale cannot be multiplied into it")
            found[scaled["config"]["name"]] = float(entry["config"]["scale"])
    return found


def _layer(layer: Any, kind: str, name: str) -> Any:
    if kind == "CustomScaleLayer":
        return tf_keras.layers.Add(name=name)
    twin = getattr(tf_keras.layers, kind, None)
    if twin is None:
        raise EdgeCTError(f"layer {name!r}: a {kind} has no twin in tf_keras, so tfmot cannot take this network")
    known = set(inspect.signature(twin.__init__).parameters)
    settings = {key: value for key, value in layer.get_config().items() if key in known and not key.endswith(_LEFT_OUT)}
    settings = {key: _activation(value) if key == "activation" else value for key, value in settings.items()}
    return twin(**{**settings, "name": name})


def _separated(config: dict[str, Any], name: str) -> Any:
    """A separable convolution as the two that it is. tfmot would do the same, under names of its own, which other
    layers of the network may have."""
    spatial = {key: config[key] for key in ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier")}
    depthwise = tf_keras.layers.DepthwiseConv2D(**spatial, use_bias=False, name=f"{name}{_SEPARATED}")
    pointwise = tf_keras.layers.Conv2D(
        config["filters"], 1, use_bias=config["use_bias"], activation=_activation(config["activation"]), name=name
    )
    return lambda inputs: pointwise(depthwise(inputs))


def _unit(name: str) -> Any:
    return tf_keras.layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones", trainable=False, name=name)


def _activation(value: Any) -> Any:
    """tf_keras knows as `swish` what Keras 3 calls `silu`; tfmot goes by that name."""
    return "swish" if value == "silu" else value


def _sources(node: dict[str, Any]) -> list[tuple[str, int, int]]:
    """(layer, node, tensor) of everything that one call of a layer was given."""
    found = []

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                layer, position, tensor = value["config"]["keras_history"]
                found.append((layer, position, tensor))
                return
            for inner in value.values():
                visit(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                visit(inner)

    visit(node["args"])
    visit(node["kwargs"])
    return found


def _histories(value: Any) -> list[tuple[str, int, int]]:
    """One history or a list of them, as a configuration writes its inputs and outputs."""
    if value and isinstance(value[0], str):
        value = [value]
    return [(layer, position, tensor) for layer, position, tensor in value]
