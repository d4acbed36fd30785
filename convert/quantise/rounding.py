"""Rounding of kernels to their int8 grid so that the outputs of a layer, not each weight, change least.

If weights are rounded to nearest, the errors of one filter add up: an edge filter, whose weights cancel, responds to
plain areas, which fill most of a CT slice. (On a fine-tuned MobileNetV2 the first depthwise convolution alone moved the
logits by a ninth of their spread.) There are two remedies, both measured on the representative slices:

- The rounding error of each weight is compensated by the weights that are not yet rounded, according to the covariance
  of their inputs (Frantar et al. 2022, GPTQ, after optimal brain surgeon). In a filter of more than `MAX_TAPS` weights
  this gains little for its cost, and they are rounded to nearest.
- The mean of the remaining error is subtracted behind the convolution (Nagel et al. 2019, bias correction).

The converter then finds every weight on its grid and changes nothing. A weight of zero stays zero.
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
# Share of the taps' mean variance that is added to each: taps with constant input make the covariance singular.
DAMPING = 0.01
MAX_TAPS = 400
_IMAGES, _MAX_BATCH = 64, 8
# Patches of a convolution's input for its statistics; fewer if only the mean is needed.
_PATCHES, _PATCHES_FOR_MEAN = 16384, 2048
# Maximum number of values that a batch may have in all layers together.
_MAX_VALUES = 1 << 26
# Number of taps whose errors are passed on to the later taps in one multiplication.
_BLOCK = 64


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Statistics of a convolution's inputs over sampled patches.

    Attributes:
        mean: [groups, taps]; a depthwise convolution has one group per channel, any other a single group.
        covariance: [groups, taps, taps]; None if there are too many taps.
    """

    mean: np.ndarray
    covariance: np.ndarray | None


def round_kernels(model: Any, images: np.ndarray, seed: int = 0, progress: Progress = QUIET) -> int:
    """Round the kernels of a network's convolutions in place.

    Grouped and dilated convolutions are left to the converter.

    Args:
        model: A Keras 3 network.
        images: Normalised slices of the training split, float32 [n, s, s, 1]; up to 64 are used.
        seed: Seed of the sampled patches.
        progress: Where progress is shown.

    Returns:
        The number of rounded kernels.
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
            _subtract_drift(drift, layer, norms.get(id(layer.output)))
            on_done(1)
    return len(layers)


def round_groups(rows: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Round filters to their grids; the step of a filter is its largest magnitude / 127.

    Args:
        rows: The filters, float [groups, filters, taps].
        covariance: Covariance of the taps' inputs, float [groups, taps, taps].

    Returns:
        The rounded filters, float64 [groups, filters, taps].
    """
    step = _steps(rows)[:, :, 0]
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    taps = variances.shape[1]
    order = np.argsort(-variances, axis=1, kind="stable")
    damping = np.maximum(DAMPING * variances.mean(1), 1e-9)
    damped = covariance.astype(np.float64) + damping[:, np.newaxis, np.newaxis] * np.eye(taps)
    damped = np.take_along_axis(np.take_along_axis(damped, order[:, :, np.newaxis], 1), order[:, np.newaxis], 2)
    inverse = np.linalg.inv(damped)
    # Row i of the upper factor of the inverse tells how the taps after i compensate for an error in tap i.
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
    """Return the kernel as [groups, filters, taps]: [c, 1, kh * kw] if depthwise, else [1, filters, kh * kw * c]."""
    kernel = layer.get_weights()[0]
    if _is_depthwise(layer):
        return np.asarray(kernel.reshape(-1, kernel.shape[2]).T[:, np.newaxis])
    return np.asarray(kernel.reshape(-1, kernel.shape[3]).T[np.newaxis])


def _store(layer: Any, rows: np.ndarray) -> None:
    kernel, *rest = layer.get_weights()
    flat = rows[:, 0] if _is_depthwise(layer) else rows[0]
    layer.set_weights([flat.T.reshape(kernel.shape).astype(kernel.dtype), *rest])


def _subtract_drift(drift: np.ndarray, layer: Any, norm: Any | None) -> None:
    """Subtract the mean error of a convolution's output, [channels], in its normalisation or its bias."""
    if norm is not None:
        *affine, mean, variance = norm.get_weights()
        norm.set_weights([*affine, mean + drift, variance])
    elif layer.use_bias:
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel, bias - drift])


def _statistics(
    model: Any, layers: list[Any], images: np.ndarray, generator: np.random.Generator, progress: Progress
) -> list[_Inputs]:
    """Return statistics of every layer's inputs in the unrounded network, over patches of each image."""
    used = images[:: max(1, len(images) // _IMAGES)][:_IMAGES]
    values_per_slice = sum(prod(layer.input.shape[1:]) for layer in layers)
    batch = max(1, min(_MAX_BATCH, len(used), _MAX_VALUES // values_per_slice))
    used = used[: len(used) // batch * batch]
    probe = keras.Model(model.inputs, {str(number): layer.input for number, layer in enumerate(layers)})
    most = max(_patches(layer) for layer in layers)

    # Patches are cut inside the graph, so that no layer's whole output is kept in memory.
    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def observe(slices: Any, places: Any) -> Any:
        values = probe(slices, training=False)
        return [
            _moments(layer, tf.cast(values[str(number)], tf.float32), places, len(used) // batch)
            for number, layer in enumerate(layers)
        ]

    observed: list[list[tuple[np.ndarray, ...]]] = [[] for _ in layers]
    with progress.bar("measuring layer inputs", len(used)) as on_done:
        for start in range(0, len(used), batch):
            places = generator.random(most, np.float32)
            for layer_moments, moments in zip(observed, observe(used[start : start + batch], places), strict=True):
                layer_moments.append(tuple(np.asarray(moment, np.float64) for moment in moments))
            on_done(batch)
    return [_combine(layer_moments) for layer_moments in observed]


def _patches(layer: Any) -> int:
    taps = prod(layer.kernel_size) * (1 if _is_depthwise(layer) else layer.input.shape[-1])
    return _PATCHES if taps <= MAX_TAPS else _PATCHES_FOR_MEAN


def _moments(layer: Any, values: Any, places: Any, batches: int) -> tuple[Any, ...]:
    """Compute the moments of a batch's patches; borders are padded as the layer pads them.

    Args:
        layer: The convolution.
        values: Its inputs, float32 [n, h, w, c].
        places: Random positions of patches, float32 [p] in 0 .. 1, the same in each image.
        batches: Number of batches over which the patches are spread.

    Returns:
        The mean, [groups, taps], and the covariance, [groups, taps, taps], if there are not too many taps.
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
    if patches.shape[-1] > MAX_TAPS:
        return (mean,)
    centred = patches - mean[:, tf.newaxis]
    count = tf.cast(tf.shape(patches)[1], tf.float32)
    return mean, tf.matmul(centred, centred, transpose_a=True) / count


def _combine(batches: list[tuple[np.ndarray, ...]]) -> _Inputs:
    """Combine batches of equally many patches: the mean of their covariances plus the covariance of their means."""
    means = np.stack([batch[0] for batch in batches])
    mean = means.mean(0)
    if len(batches[0]) == 1:
        return _Inputs(mean, None)
    apart = means - mean
    between = np.einsum("bgi,bgj->gij", apart, apart) / len(batches)
    return _Inputs(mean, np.mean([batch[1] for batch in batches], axis=0) + between)
