"""Structured slimming: whole channels go, so that what is left is an ordinary, smaller network, and faster anywhere.

Of each inverted residual block of MobileNetV2 (Sandler et al. 2018) those channels between expansion and projection are
removed that the projection would miss least: by the variance, over slices, of what a channel contributes. Its mean,
which needs no channel, goes into the normalisation behind the projection.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.network_analysis.macs import count_macs
from edge_ct.system import native_output
from edge_ct.system.progress import QUIET, Progress

from . import finetune, tf_keras_twin

with native_output.captured_native_stderr():
    import keras

# Channels are kept in multiples of this, which is what vector kernels work through at once.
_MULTIPLE = 8
_BATCH = 16


class Account(msgspec.Struct, frozen=True):
    """What slimming came to. removed, of: channels between expansion and projection, over all blocks.

    parameters, macs: before and after; multiply-accumulates of convolutions, a slice.
    """

    removed: int
    of: int
    parameters: tuple[int, int]
    macs: tuple[int, int]
    epochs: list[finetune.Epoch]


@dataclass(frozen=True)
class Block:
    """Names of the layers of one inverted residual block, and its number of channels in between."""

    expand: str
    expand_norm: str
    depthwise: str
    norm: str
    activation: str
    project: str
    project_norm: str
    channels: int


def blocks(model: Any) -> list[Block]:
    """The blocks of a MobileNetV2. Raises `EdgeCTError` for another network: its channels are wired otherwise."""
    names = {layer.name for layer in model.layers}
    found = []
    for layer in model.layers:
        if not layer.name.endswith("_depthwise"):
            continue
        stem = layer.name.removesuffix("depthwise")
        block = Block(
            f"{stem}expand", f"{stem}expand_BN", layer.name, f"{stem}depthwise_BN", f"{stem}depthwise_relu",
            f"{stem}project", f"{stem}project_BN", int(layer.output.shape[-1]),
        )  # fmt: skip
        # The first block has no expansion of its own: its channels are the stem's.
        if {block.expand, block.project, block.activation} <= names:
            found.append(block)
    if not found:
        raise EdgeCTError(f"{model.name} cannot be slimmed: only the blocks of MobileNetV2 can")
    return found


def slim(model: Any, fraction: float, images: np.ndarray) -> Any:
    """A smaller Keras 3 network, its weights taken from `model`, not trained further.

    fraction: of each block's channels to remove, as far as multiples of eight allow. images: normalised, float32
    [n, s, s, 1], from the training split.
    """
    chosen = blocks(model)
    kept, means = {}, {}
    for block, (mean, variance) in zip(chosen, _statistics(model, chosen, images), strict=True):
        kernel = np.asarray(model.get_layer(block.project).get_weights()[0])[0, 0]
        missed = variance * (kernel**2 / _deviation(model.get_layer(block.project_norm)) ** 2).sum(axis=1)
        count = _kept(block.channels, fraction)
        kept[block.expand] = np.sort(np.argsort(-missed, kind="stable")[:count])
        means[block.expand] = mean
    smaller = keras.Model.from_config(_config(model, chosen, kept))
    own = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    for block in chosen:
        _cut(own, block, kept[block.expand], means[block.expand])
    for layer in smaller.layers:
        if layer.weights:
            layer.set_weights(own[layer.name])
    return smaller


def slim_and_train(
    model: Any,
    fraction: float,
    images: np.ndarray,
    lessons: finetune.Lessons,
    recipe: finetune.Recipe,
    progress: Progress = QUIET,
) -> tuple[Any, Account]:
    """As `slim`, then trained further; and what it came to."""
    smaller = slim(model, fraction, images)
    base = tf_keras_twin.of(smaller)
    epochs = finetune.fit(base, lessons, recipe, progress, f"slimmed {fraction:g}")
    tf_keras_twin.bring_back(base, smaller)
    return smaller, account(model, smaller, epochs)


def account(before: Any, after: Any, epochs: list[finetune.Epoch]) -> Account:
    """Count what is gone."""
    widths = [sum(block.channels for block in blocks(model)) for model in (before, after)]
    return Account(
        removed=widths[0] - widths[1],
        of=widths[0],
        parameters=(before.count_params(), after.count_params()),
        macs=(count_macs(before), count_macs(after)),
        epochs=epochs,
    )


def _kept(channels: int, fraction: float) -> int:
    wanted = round((1 - fraction) * channels / _MULTIPLE) * _MULTIPLE
    return min(channels, max(_MULTIPLE, wanted))


def _deviation(norm: Any) -> np.ndarray:
    variance = np.asarray(norm.get_weights()[3], np.float64)
    return np.sqrt(variance + norm.epsilon)


def _statistics(model: Any, chosen: list[Block], images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and variance of each channel as the projection meets it, over slices and places."""
    probe = keras.Model(model.inputs[0], [model.get_layer(block.activation).output for block in chosen])
    sums = [np.zeros((2, block.channels)) for block in chosen]
    places = [0] * len(chosen)
    for start in range(0, len(images), _BATCH):
        for index, values in enumerate(probe.predict_on_batch(images[start : start + _BATCH])):
            flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
            sums[index] += (flat.sum(axis=0), (flat**2).sum(axis=0))
            places[index] += len(flat)
    means = [(total[0] / n, total[1] / n) for total, n in zip(sums, places, strict=True)]
    return [(mean, np.maximum(square - mean**2, 0)) for mean, square in means]


def _config(model: Any, chosen: list[Block], kept: dict[str, np.ndarray]) -> dict[str, Any]:
    config: dict[str, Any] = copy.deepcopy(model.get_config())
    filters = {block.expand: len(kept[block.expand]) for block in chosen}
    for entry in config["layers"]:
        if entry["config"]["name"] in filters:
            entry["config"]["filters"] = filters[entry["config"]["name"]]
        entry.pop("build_config", None)
    return config


def _cut(own: dict[str, list[np.ndarray]], block: Block, kept: np.ndarray, mean: np.ndarray) -> None:
    """Take the removed channels out of a block's weights; the projection's normalisation makes up for their means."""
    gone = np.setdiff1d(np.arange(block.channels), kept)
    kernel = own[block.project][0]
    norm = own[block.project_norm]
    # What is missing behind the projection on average is missing from the mean that is taken off there.
    norm[2] = norm[2] - (mean[gone] @ kernel[0, 0][gone]).astype(np.float32)
    own[block.expand] = [own[block.expand][0][..., kept]]
    own[block.expand_norm] = [values[kept] for values in own[block.expand_norm]]
    own[block.depthwise] = [own[block.depthwise][0][:, :, kept]]
    own[block.norm] = [values[kept] for values in own[block.norm]]
    own[block.project] = [kernel[:, :, kept]]
