"""Activation maps of a network's layers along its depth (Garg et al. 2020, figures 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_ct.system import native_output

from .network import RunNetwork

with native_output.captured_native_stderr():
    import keras

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
_DEFAULT_LAYERS = 8


@dataclass(frozen=True, eq=False)
class LayerResponse:
    """Activation maps of some filters of one layer.

    Attributes:
        layer: Name of the layer.
        filters: Indices of the f filters.
        maps: float32 [n, f, h, w]; the same filters for all n slices.
    """

    layer: str
    filters: tuple[int, ...]
    maps: np.ndarray


def choose_layers(network: RunNetwork, names: Sequence[str] = (), every: int = 0) -> list[Any]:
    """Choose the layers to show.

    Args:
        network: The network of a run.
        names: Names of layers. If there are none, convolutions are chosen by `every`.
        every: Choose every k-th convolution; 0 chooses about eight over the whole depth.

    Raises:
        EdgeCTError: The network has no layer of one of these names.
    """
    if names:
        return [network.layer(name) for name in names]
    convolutions = _spatial_convolutions(network)
    return convolutions[:: every or max(1, len(convolutions) // _DEFAULT_LAYERS)]


def layers_along_depth(network: RunNetwork, count: int) -> list[Any]:
    """Return `count` convolutions spaced evenly over the depth, including the first and the last."""
    convolutions = _spatial_convolutions(network)
    return [convolutions[i] for i in np.unique(np.linspace(0, len(convolutions) - 1, count).round().astype(int))]


def _spatial_convolutions(network: RunNetwork) -> list[Any]:
    """Return the convolutions with more than one output cell.

    Those with a single one, such as in EfficientNet's squeeze and excitation, give no picture.
    """
    return [
        layer
        for layer in network.layers
        if type(layer).__name__ in _CONVOLUTIONS and layer.name != "class_map" and layer.output.shape[1:3] != (1, 1)
    ]


def measure_responses(
    network: RunNetwork, images: np.ndarray, layers: Sequence[Any], filters: int
) -> list[LayerResponse]:
    """Compute activation maps of the filters that vary most over a slice, on average over all slices.

    Args:
        network: The network of a run.
        images: uint8 [n, s, s, 1].
        layers: Keras layers of the network.
        filters: Number of filters per layer.
    """
    model = keras.Model(network.model.inputs, [layer.output for layer in layers])
    outputs = model.predict_on_batch(network.preprocess.normalise(images))
    if len(layers) == 1 and not isinstance(outputs, list):
        outputs = [outputs]
    responses = []
    for layer, values in zip(layers, outputs, strict=True):
        variance = np.asarray(values, np.float64).var((1, 2)).mean(0)
        best = np.argsort(-variance, kind="stable")[:filters]
        maps = np.asarray(values, np.float32)[..., best].transpose(0, 3, 1, 2)
        responses.append(LayerResponse(layer.name, tuple(int(index) for index in best), maps))
    return responses
