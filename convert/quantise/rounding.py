"""Rounding kernels onto their int8 grid so that a layer's output changes least, not each weight.

Rounded to nearest, the errors of one filter add up: an edge filter, whose weights cancel, gets a false response to
plain areas, which fill most of a CT slice. (On a fine-tuned MobileNetV2 the first depthwise convolution alone moved
the logits by a ninth of their spread.) Two remedies, both on the representative slices:

- each weight's rounding error is made up for by the weights still to come, as their inputs vary together (Frantar et
  al. 2022, GPTQ, after optimal brain surgeon); where a filter has more than `MOST_TAPS` of them, it gains little for
  what it costs, and weights are rounded to nearest;
- what is left of it on average is taken off behind the convolution (Nagel et al. 2019, bias correction).

The converter then finds every weight on its own grid already, and changes nothing. A weight of zero stays one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edge_ct.system.progress import QUIET, Progress

LEVELS = 127
# A share of the taps' mean variance, added to each: taps whose input never changes would make the rest singular.
DAMPING = 0.01
MOST_TAPS = 400
_IMAGES, _MOST_BATCH = 64, 8
# Patches of a convolution's input that its statistics rest on; fewer where its mean is all that is wanted.
_PATCHES, _PATCHES_FOR_MEAN = 16384, 2048
# Activations, in numbers, that a batch may have in all layers together.
_ROOM = 1 << 26
# Taps whose errors reach the taps beyond in one multiplication.
_BLOCK = 64


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Statistics of a convolution's inputs over sampled patches; one group, or one a channel where depthwise.

    mean: [groups, taps]. covariance: [groups, taps, taps], None where there are too many taps.
    """

    mean: np.ndarray
    covariance: np.ndarray | None


def round_kernels(model: Any, images: np.ndarray, seed: int = 0, progress: Progress = QUIET) -> int:
    """Round the kernels of a Keras 3 model's convolutions in place; returns how many.

    images: normalised, float32 [n, s, s, 1], from the training split; up to 64 are used. Grouped and dilated
    convolutions are left to the converter.
    """
    layers = [layer for layer in model.layers if _is_handled(layer)]
    if not layers:
        return 0
    norms = {id(layer.input): layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    statistics = _statistics(model, layers, images, np.random.default_rng(seed), progress)
    with progress.bar("rounding kernels", len(layers)) as on_done:
        for layer, inputs in zip(layers, statistics, strict=True):
            rows = _rows(layer)
            rounded = _nearest(rows) if inputs.covariance is None else round_groups(rows, inputs.covariance)
            drift = ((rounded - rows) @ inputs.mean[:, :, np.newaxis])[:, :, 0].reshape(-1)
            _store(layer, rounded)
            _take_off(drift, layer, norms.get(id(layer.output)))
            on_done(1)
    return len(layers)


def round_groups(rows: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """As `round_rows` of several groups at once: [groups, filters, taps], [groups, taps, taps]."""
    step = _steps(rows)[:, :, 0]
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    taps = variances.shape[1]
    order = np.argsort(-variances, axis=1, kind="stable")
    damping = np.maximum(DAMPING * variances.mean(1), 1e-9)
    damped = covariance.astype(np.float64) + damping[:, np.newaxis, np.newaxis] * np.eye(taps)
    damped = np.take_along_axis(np.take_along_axis(damped, order[:, :, np.newaxis], 1), order[:, np.newaxis], 2)
    inverse = np.linalg.inv(damped)
    # Row i of the inverse's upper factor says how the taps after i make up for an error in tap i.
    upper = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
    remaining = np.take_along_axis(rows.astype(np.float64), order[:, np.newaxis], 2)
    zero, rounded = remaining == 0, np.empty_like(remaining)
    for start in range(0, taps, _BLOCK):
        end = min(start + _BLOCK, taps)
        errors = np.empty((*step.shape, end - start))
        for i in range(start, end):
            levels = np.clip(np.rint(remaining[:, :, i] / step), -LEVELS, LEVELS)
            rounded[:, :, i] = np.where(zero[:, :, i], 0.0, levels * step)
            error = (remaining[:, :, i] - rounded[:, :, i]) / upper[:, i, i, np.newaxis]
            remaining[:, :, i:end] -= error[:, :, np.newaxis] * upper[:, np.newaxis, i, i:end]
            errors[:, :, i - start] = error
        remaining[:, :, end:] -= errors @ upper[:, start:end, end:]
    return np.take_along_axis(rounded, np.argsort(order, axis=1)[:, np.newaxis], 2)


def _nearest(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(rows / _steps(rows)) * _steps(rows))


def _steps(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(np.abs(rows).max(2, keepdims=True), 1e-12) / LEVELS, np.float64)


def _is_handled(layer: Any) -> bool:
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return bool(layer.depth_multiplier == 1 and max(layer.dilation_rate) == 1)
    return bool(type(layer) is keras.layers.Conv2D and layer.groups == 1 and max(layer.dilation_rate) == 1)


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


def _statistics(
    model: Any, layers: list[Any], images: np.ndarray, generator: np.random.Generator, progress: Progress
) -> list[_Inputs]:
    """Statistics of every layer's inputs in the unrounded network, over patches of each image."""
    used = images[:: max(1, len(images) // _IMAGES)][:_IMAGES]
    room = sum(prod(layer.input.shape[1:]) for layer in layers)
    batch = max(1, min(_MOST_BATCH, len(used), _ROOM // room))
    used = used[: len(used) // batch * batch]
    probe = keras.Model(model.inputs, {str(number): layer.input for number, layer in enumerate(layers)})
    most = max(_patches(layer) for layer in layers)

    # Patches are taken inside the graph: no layer's whole output is kept beyond its turn.
    @tf.function(autograph=False)
    def observe(slices: Any, places: Any) -> Any:
        values = probe(slices, training=False)
        return [
            _moments(layer, tf.cast(values[str(number)], tf.float32), places, len(used) // batch)
            for number, layer in enumerate(layers)
        ]

    observed: list[list[tuple[np.ndarray, ...]]] = [[] for _ in layers]
    with progress.bar("observing layers", len(used)) as on_done:
        for start in range(0, len(used), batch):
            places = generator.random(most, np.float32)
            for own, moments in zip(observed, observe(used[start : start + batch], places), strict=True):
                own.append(tuple(np.asarray(moment, np.float64) for moment in moments))
            on_done(batch)
    return [_combined(own) for own in observed]


def _patches(layer: Any) -> int:
    taps = prod(layer.kernel_size) * (1 if _is_depthwise(layer) else layer.input.shape[-1])
    return _PATCHES if taps <= MOST_TAPS else _PATCHES_FOR_MEAN


def _moments(layer: Any, values: Any, places: Any, batches: int) -> tuple[Any, ...]:
    """Mean [groups, taps] and, where there are not too many taps, covariance [groups, taps, taps] of a batch's patches.

    values: float32 [n, h, w, c]. places: float32 [p] in 0 .. 1, where patches are cut out, the same in each image;
    borders are padded as the layer pads them.
    """
    height, width = layer.kernel_size
    if layer.padding == "same":
        values = tf.pad(values, ((0, 0), (height // 2, height // 2), (width // 2, width // 2), (0, 0)))
    n, tall, wide, channels = values.shape
    down, across = tall - height + 1, wide - width + 1
    wanted = -(-_patches(layer) // (n * batches))
    if wanted < down * across:
        place = tf.cast(places[:wanted] * (down * across), tf.int32) % (down * across)
    else:
        place = tf.range(down * across)
    corner = place // across * wide + place % across
    offsets = np.add.outer(np.arange(height) * wide, np.arange(width)).reshape(-1).astype(np.int32)
    flat = tf.reshape(corner[:, tf.newaxis] + offsets, [-1])
    patches = tf.reshape(
        tf.gather(tf.reshape(values, [n, tall * wide, channels]), flat, axis=1), [-1, height * width, channels]
    )
    patches = (
        tf.transpose(patches, [2, 0, 1])
        if _is_depthwise(layer)
        else tf.reshape(patches, [1, -1, height * width * channels])
    )
    mean = tf.reduce_mean(patches, axis=1)
    if patches.shape[-1] > MOST_TAPS:
        return (mean,)
    centred = patches - mean[:, tf.newaxis]
    count = tf.cast(tf.shape(patches)[1], tf.float32)
    return mean, tf.matmul(centred, centred, transpose_a=True) / count


def _combined(batches: list[tuple[np.ndarray, ...]]) -> _Inputs:
    """Batches have equally many patches: their covariance is the mean of theirs and that of their means."""
    means = np.stack([batch[0] for batch in batches])
    mean = means.mean(0)
    if len(batches[0]) == 1:
        return _Inputs(mean, None)
    apart = means - mean
    between = np.einsum("bgi,bgj->gij", apart, apart) / len(batches)
    return _Inputs(mean, np.mean([batch[1] for batch in batches], axis=0) + between)
