"""A light decoder that says which parts of a slice show a lesion, beside the class that the network decides.

It joins the features of strides 8, 16 and 32 from the coarsest to the finest, as a feature pyramid does (Lin et al.
2017, figure 3), in 32 channels (16 in a narrow network), and gives one logit for each cell of 8 x 8 pixels: 28 x 28
cells at 224 px. It costs about 4 % more multiply-accumulates. The layers whose names begin with `lesion_` are the
decoder; the output layer is `lesion_map`.
"""

from __future__ import annotations

from typing import Any

from edge_ct.errors import EdgeCTError

STRIDE = 8  # pixels of the input that a cell of the lesion map stands for, in each direction
PREFIX = "lesion_"  # of the names of the layers
OUTPUT = "lesion_map"
# The outputs of MobileNetV2 at strides 8, 16 and 32: the last one of each resolution, where it has most channels.
_TAPS = {"mobilenetv2": ("block_6_expand_relu", "block_13_expand_relu", "features")}
_NETWORKS = tuple(_TAPS)
_PRIOR = -3.0  # logit of a cell before anything is learned: one cell in twenty shows a lesion


def check_network(network: str, size: int) -> None:
    """Raise `EdgeCTError` for a network, or an input size in pixels, that the decoder does not fit."""
    if network not in _TAPS:
        raise EdgeCTError(f"{network} has no lesion map; choose one of {', '.join(_NETWORKS)}")
    if size % 32:
        raise EdgeCTError(f"a lesion map needs a size that is a multiple of 32, not {size}")


def add_lesion_map(api: Any, model: Any) -> Any:
    """Add the decoder to a network of the zoo.

    Args:
        api: `keras` or `tf_keras`, the one that the network was built with.
        model: A network whose only output is `logits`. Its layers, and so its weights, are shared with the result.

    Returns:
        A network of two outputs, of the same name: `logits`, [n, 2], and `lesion_map`, [n, size / 8, size / 8, 1],
        logits as well.

    Raises:
        EdgeCTError: for a network that the decoder does not fit.
    """
    check_network(model.name, model.inputs[0].shape[1])
    layers = api.layers
    fine, middle, coarse = (model.get_layer(name).output for name in _TAPS[model.name])
    channels = 32 if fine.shape[-1] >= 128 else 16
    joined = layers.Conv2D(channels, 1, name="lesion_lateral_32")(coarse)
    for stride, features in ((16, middle), (8, fine)):
        lateral = layers.Conv2D(channels, 1, name=f"lesion_lateral_{stride}")(features)
        joined = layers.UpSampling2D(2, interpolation="bilinear", name=f"lesion_up_{stride}")(joined)
        joined = layers.Add(name=f"lesion_add_{stride}")([lateral, joined])
    joined = layers.ReLU(6.0, name="lesion_add_relu")(joined)
    joined = layers.DepthwiseConv2D(3, padding="same", name="lesion_depthwise")(joined)
    joined = layers.Conv2D(channels, 1, name="lesion_pointwise")(joined)
    joined = layers.ReLU(6.0, name="lesion_relu")(joined)
    lesion_map = layers.Conv2D(1, 1, bias_initializer=api.initializers.Constant(_PRIOR), name=OUTPUT)(joined)
    return api.Model(model.inputs[0], [model.outputs[0], lesion_map], name=model.name)


def has_lesion_map(model: Any) -> bool:
    """Tell whether a network has a lesion map."""
    return any(layer.name == OUTPUT for layer in model.layers)
