"""Structured slimming: whole channels are removed, which leaves an ordinary, smaller network that is faster anywhere.

In each inverted residual block of MobileNetV2 (Sandler et al. 2018), the channels between expansion and projection that
contribute least are removed. The contribution of a channel is measured by the variance, over slices, of its part in the
projection. Its mean, which needs no channel, is moved into the normalisation behind the projection.
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

from .finetune import DistillationData, EpochResult, FineTuneRecipe, fine_tune
from .tf_keras_twin import build_twin, copy_back

with native_output.captured_native_stderr():
    import keras

# Channels are kept in multiples of this number, because vector kernels process so many at once.
_MULTIPLE = 8
_BATCH = 16


class SlimAccount(msgspec.Struct, frozen=True):
    """The result of slimming.

    Attributes:
        removed: Number of removed channels between expansion and projection, over all blocks.
        of: Number of these channels before.
        parameters: Number of weights before and after.
        macs: Multiply-accumulate operations of all convolutions for one slice, before and after.
        epochs: The epochs of fine-tuning.
    """

    removed: int
    of: int
    parameters: tuple[int, int]
    macs: tuple[int, int]
    epochs: list[EpochResult]


@dataclass(frozen=True)
class ResidualBlock:
    """The names of the layers of one inverted residual block, and its number of expansion channels."""

    expand: str
    expand_norm: str
    depthwise: str
    norm: str
    activation: str
    project: str
    project_norm: str
    channels: int


def find_blocks(model: Any) -> list[ResidualBlock]:
    """Return the inverted residual blocks of a MobileNetV2.

    Raises:
        EdgeCTError: The network has no such block.
    """
    names = {layer.name for layer in model.layers}
    blocks = []
    for layer in model.layers:
        if not layer.name.endswith("_depthwise"):
            continue
        stem = layer.name.removesuffix("depthwise")
        block = ResidualBlock(
            expand=f"{stem}expand",
            expand_norm=f"{stem}expand_BN",
            depthwise=layer.name,
            norm=f"{stem}depthwise_BN",
            activation=f"{stem}depthwise_relu",
            project=f"{stem}project",
            project_norm=f"{stem}project_BN",
            channels=int(layer.output.shape[-1]),
        )
        # The first block has no expansion; its channels are those of the stem.
        if {block.expand, block.project, block.activation} <= names:
            blocks.append(block)
    if not blocks:
        raise EdgeCTError(f"{model.name} cannot be slimmed: only MobileNetV2 has blocks whose channels can be removed")
    return blocks


def slim_network(model: Any, fraction: float, images: np.ndarray) -> Any:
    """Return a smaller network with the weights of the given one, not yet fine-tuned.

    Args:
        model: A Keras 3 MobileNetV2.
        fraction: Share of each block's channels to remove, as far as multiples of eight allow.
        images: Normalised slices of the training split, float32 [n, s, s, 1].

    Raises:
        EdgeCTError: The network is not a MobileNetV2.
    """
    chosen = find_blocks(model)
    kept, means = {}, {}
    for block, (mean, variance) in zip(chosen, _statistics(model, chosen, images), strict=True):
        kernel = np.asarray(model.get_layer(block.project).get_weights()[0])[0, 0]
        missed = variance * (kernel**2 / _deviation(model.get_layer(block.project_norm)) ** 2).sum(axis=1)
        count = _kept(block.channels, fraction)
        kept[block.expand] = np.sort(np.argsort(-missed, kind="stable")[:count])
        means[block.expand] = mean
    smaller = keras.Model.from_config(_config(model, chosen, kept))
    weights = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    for block in chosen:
        _cut(weights, block, kept[block.expand], means[block.expand])
    for layer in smaller.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])
    return smaller


def slim_and_train(
    model: Any,
    fraction: float,
    images: np.ndarray,
    data: DistillationData,
    recipe: FineTuneRecipe,
    progress: Progress = QUIET,
) -> tuple[Any, SlimAccount]:
    """Slim a network as `slim_network` does, and fine-tune it.

    Args:
        model: A Keras 3 MobileNetV2 whose only output is the logits.
        fraction: Share of each block's channels to remove.
        images: Normalised slices of the training split, float32 [n, s, s, 1].
        data: The slices to fine-tune on.
        recipe: How to train.
        progress: Where progress is shown.

    Returns:
        The smaller network and the result of slimming.
    """
    smaller = slim_network(model, fraction, images)
    base = build_twin(smaller)
    epochs = fine_tune(base, data, recipe, progress, f"slimmed {fraction:g}")
    copy_back(base, smaller)
    return smaller, count_removed(model, smaller, epochs)


def count_removed(before: Any, after: Any, epochs: list[EpochResult]) -> SlimAccount:
    """Count removed channels, weights and operations of a network before and after slimming."""
    widths = [sum(block.channels for block in find_blocks(model)) for model in (before, after)]
    return SlimAccount(
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
    return np.asarray(np.sqrt(variance + norm.epsilon))


def _statistics(model: Any, chosen: list[ResidualBlock], images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return mean and variance of each channel at the input of the projection, over slices and positions."""
    probe = keras.Model(model.inputs[0], [model.get_layer(block.activation).output for block in chosen])
    sums = [np.zeros((2, block.channels)) for block in chosen]
    counts = [0] * len(chosen)
    for start in range(0, len(images), _BATCH):
        for index, values in enumerate(probe.predict_on_batch(images[start : start + _BATCH])):
            flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
            sums[index] += (flat.sum(axis=0), (flat**2).sum(axis=0))
            counts[index] += len(flat)
    means = [(total[0] / n, total[1] / n) for total, n in zip(sums, counts, strict=True)]
    return [(mean, np.maximum(square - mean**2, 0)) for mean, square in means]


def _config(model: Any, chosen: list[ResidualBlock], kept: dict[str, np.ndarray]) -> dict[str, Any]:
    config: dict[str, Any] = copy.deepcopy(model.get_config())
    filters = {block.expand: len(kept[block.expand]) for block in chosen}
    for entry in config["layers"]:
        if entry["config"]["name"] in filters:
            entry["config"]["filters"] = filters[entry["config"]["name"]]
        entry.pop("build_config", None)
    return config


def _cut(weights: dict[str, list[np.ndarray]], block: ResidualBlock, kept: np.ndarray, mean: np.ndarray) -> None:
    """Remove channels from a block's weights; the projection's normalisation compensates for their means."""
    removed = np.setdiff1d(np.arange(block.channels), kept)
    kernel = weights[block.project][0]
    norm = weights[block.project_norm]
    # The mean of what is missing behind the projection is subtracted from the mean of its normalisation.
    norm[2] = norm[2] - (mean[removed] @ kernel[0, 0][removed]).astype(np.float32)
    weights[block.expand] = [weights[block.expand][0][..., kept]]
    weights[block.expand_norm] = [values[kept] for values in weights[block.expand_norm]]
    weights[block.depthwise] = [weights[block.depthwise][0][:, :, kept]]
    weights[block.norm] = [values[kept] for values in weights[block.norm]]
    weights[block.project] = [kernel[:, :, kept]]
