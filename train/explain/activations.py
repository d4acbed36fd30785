"""What the layers of a network respond to, along its depth (Garg et al. 2020, figures 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_ct.system import native_output

from .network import Network

with native_output.captured_native_stderr():
    import keras

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")


@dataclass(frozen=True, eq=False)
class Response:
    """One layer's. maps: float32 [n, f, h, w], of the same f filters for all slices; filters: their numbers."""

    layer: str
    filters: tuple[int, ...]
    maps: np.ndarray


def chosen(network: Network, names: Sequence[str] = (), every: int = 0) -> list[Any]:
    """The layers of those names; else every k-th convolution, where `every` is 0 about eight over the whole depth.

    Raises `EdgeCTError` for a layer that there is not.
    """
    if names:
        return [network.layer(name) for name in names]
    found = _convolutions(network)
    step = every or max(1, len(found) // 8)
    return found[::step]


def along(network: Network, count: int) -> list[Any]:
    """`count` convolutions, evenly over the depth, the first and the last among them."""
    found = _convolutions(network)
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))]


def _convolutions(network: Network) -> list[Any]:
    """Not those of one cell, such as of EfficientNet's squeeze and excitation: they have no place to show."""
    return [
        layer
        for layer in network.layers
        if type(layer).__name__ in _CONVOLUTIONS and layer.name != "class_map" and layer.output.shape[1:3] != (1, 1)
    ]


def responses(network: Network, images: np.ndarray, layers: Sequence[Any], filters: int) -> list[Response]:
    """The `filters` filters of each layer whose maps vary most over a slice, on average over the slices.

    images: uint8 [n, s, s, 1].
    """
    model = keras.Model(network.model.inputs, [layer.output for layer in layers])
    found = []
    outputs = model.predict_on_batch(network.preprocess.normalise(images))
    for layer, values in zip(layers, outputs if len(layers) > 1 else [_only(outputs)], strict=True):
        spread = np.asarray(values, np.float64).var((1, 2)).mean(0)
        best = np.argsort(-spread, kind="stable")[:filters]
        maps = np.asarray(values, np.float32)[..., best].transpose(0, 3, 1, 2)
        found.append(Response(layer.name, tuple(int(index) for index in best), maps))
    return found


def _only(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, list) else outputs
