"""Rounding kernels onto their int8 grid so that a layer's output changes least, not each weight.

Rounded to nearest, the errors of one filter add up: an edge filter, whose weights cancel, gets a false response to
plain areas, which fill most of a CT slice. (On a fine-tuned MobileNetV2 the first depthwise convolution alone moved
the logits by a ninth of their spread.) Two remedies, both on the representative slices:

- each weight's rounding error is made up for by the weights still to come, as their inputs vary together (Frantar et
  al. 2022, GPTQ, after optimal brain surgeon);
- what is left of it on average is taken off behind the convolution (Nagel et al. 2019, bias correction).

The converter then finds every weight on its own grid already, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

LEVELS = 127
# A share of the taps' mean variance, added to each: taps whose input never changes would make the rest singular.
DAMPING = 0.01
_IMAGES, _BATCH, _PATCHES = 96, 4, 512


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Statistics of a convolution's inputs over sampled patches; one group, or one a channel where depthwise.

    mean: [groups, taps]. covariance: [groups, taps, taps].
    """

    mean: np.ndarray
    covariance: np.ndarray


def round_kernels(model: Any, images: np.ndarray, seed: int = 0) -> int:
    """Round the kernels of a Keras 3 model's convolutions in place; returns how many.

    images: normalised, float32 [n, s, s, 1], from the training split; up to 96 are used. Grouped and dilated
    convolutions are left to the converter.
    """
    layers = [layer for layer in model.layers if _is_handled(layer)]
    norms = {id(layer.input): layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    statistics = _statistics(model, layers, images, np.random.default_rng(seed))
    for layer, inputs in zip(layers, statistics, strict=True):
        rows = _rows(layer)
        rounded = np.stack([round_rows(*pair) for pair in zip(rows, inputs.covariance, strict=True)])
        drift = ((rounded - rows) @ inputs.mean[:, :, np.newaxis])[:, :, 0].reshape(-1)
        _store(layer, rounded)
        _take_off(drift, layer, norms.get(id(layer.output)))
    return len(layers)


def round_rows(rows: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Round filters onto their grids, one step a filter: its largest magnitude / 127.

    rows: float [filters, taps]. covariance: float [taps, taps], of the taps' inputs. Returns float64 [filters, taps].
    """
    step = np.maximum(np.abs(rows).max(1, keepdims=True), 1e-12) / LEVELS
    order = np.argsort(-np.diag(covariance), kind="stable")
    damping = max(DAMPING * float(np.diag(covariance).mean()), 1e-9)
    inverse = np.linalg.inv(covariance[np.ix_(order, order)] + damping * np.eye(len(order)))
    # Row i of the inverse's upper factor says how the taps after i make up for an error in tap i.
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    remaining, rounded = rows[:, order].astype(np.float64), np.empty(rows.shape)
    for i in range(len(order)):
        rounded[:, i] = np.clip(np.rint(remaining[:, i] / step[:, 0]), -LEVELS, LEVELS) * step[:, 0]
        remaining[:, i:] -= np.outer((remaining[:, i] - rounded[:, i]) / upper[i, i], upper[i, i:])
    return rounded[:, np.argsort(order)]


def _is_handled(layer: Any) -> bool:
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return layer.depth_multiplier == 1 and max(layer.dilation_rate) == 1
    return type(layer) is keras.layers.Conv2D and layer.groups == 1 and max(layer.dilation_rate) == 1


def _is_depthwise(layer: Any) -> bool:
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def _rows(layer: Any) -> np.ndarray:
    """The kernel as [groups, filters, taps]: [c, 1, kh * kw] where depthwise, else [1, filters, kh * kw * c]."""
    kernel = layer.get_weights()[0]
    if _is_depthwise(layer):
        return np.asarray(kernel.reshape(-1, kernel.shape[2]).T[:, np.newaxis])
    return np.asarray(kernel.reshape(-1, kernel.shape[3]).T[np.newaxis])


def _store(layer: Any, rows: np.ndarray) -> None:
    kernel, *rest = layer.get_weights()
    flat = rows[:, 0] if _is_depthwise(layer) else rows[0]
    layer.set_weights([flat.T.reshape(kernel.shape).astype(kernel.dtype), *rest])


def _take_off(drift: np.ndarray, layer: Any, norm: Any | None) -> None:
    """drift: [channels], what rounding adds to the convolution's output on average."""
    if norm is not None:
        *affine, mean, variance = norm.get_weights()
        norm.set_weights([*affine, mean + drift, variance])
    elif layer.use_bias:
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel, bias - drift])


def _statistics(model: Any, layers: list[Any], images: np.ndarray, generator: np.random.Generator) -> list[_Inputs]:
    """Statistics of every layer's inputs in the unrounded network, over patches of each image."""
    probe = keras.Model(model.input, [layer.input for layer in layers])
    counts = [0] * len(layers)
    sums: list[Any] = [0.0] * len(layers)
    products: list[Any] = [0.0] * len(layers)
    used = images[:: max(1, len(images) // _IMAGES)][:_IMAGES]
    for start in range(0, len(used), _BATCH):
        batch = probe.predict_on_batch(used[start : start + _BATCH])
        for index, (layer, values) in enumerate(zip(layers, batch, strict=True)):
            patches = _patches(layer, keras.ops.convert_to_numpy(values), generator)
            counts[index] += patches.shape[1]
            sums[index] = sums[index] + patches.sum(1)
            products[index] = products[index] + patches.transpose(0, 2, 1) @ patches
    means = [total / n for total, n in zip(sums, counts, strict=True)]
    return [
        _Inputs(mean, product / n - mean[:, :, np.newaxis] * mean[:, np.newaxis])
        for mean, product, n in zip(means, products, counts, strict=True)
    ]


def _patches(layer: Any, values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """values: [n, h, w, c] -> [groups, n * patches, taps].

    At most `_PATCHES` places, the same in each image, borders padded as the layer pads them.
    """
    height, width = layer.kernel_size
    if layer.padding == "same":
        values = np.pad(values, ((0, 0), (height // 2, height // 2), (width // 2, width // 2), (0, 0)))
    down, across = values.shape[1] - height + 1, values.shape[2] - width + 1
    places = generator.permutation(down * across)[:_PATCHES]
    rows, columns = np.divmod(places, across)
    taps = [values[:, rows + i, columns + j] for i in range(height) for j in range(width)]
    patches = np.stack(taps, axis=2).astype(np.float64)  # [n, patches, kh * kw, c]
    patches = patches.reshape(-1, *patches.shape[2:])
    if _is_depthwise(layer):
        return patches.transpose(2, 0, 1)
    return patches.reshape(1, len(patches), -1)
