"""Class-activation maps of a Keras network from gradients; they need Keras' TensorFlow backend.

The maps explain the log-odds of COVID-19, logit[1] - logit[0], which decide. Grad-CAM: Selvaraju et al. 2017, equations
1 and 2; Grad-CAM++: Chattopadhay et al. 2018, equation 19 with the exponential of the score, whose factor cancels. If
the head of a network is the mean of a class map, Grad-CAM of the last layer is this map without its bias.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.system import native_output

from .network import RunNetwork, batches

with native_output.captured_native_stderr():
    import keras

Method = Literal["gradcam", "gradcam++", "classmap"]
METHODS: tuple[Method, ...] = ("gradcam", "gradcam++", "classmap")


def compute_maps(
    network: RunNetwork, images: np.ndarray, method: Method = "gradcam", layer: str | None = None, signed: bool = False
) -> np.ndarray:
    """Compute heat maps, float32 [n, h, w]; h and w are those of the layer.

    Args:
        network: The network of a run.
        images: uint8 [n, s, s, 1].
        method: How the maps are computed.
        layer: Layer whose maps Grad-CAM weighs; by default the last convolution. The class map ignores it.
        signed: Keep evidence against COVID-19 as negative values; Grad-CAM++ gives none.

    Raises:
        EdgeCTError: There is no such layer or no class map, or Keras runs on another backend than TensorFlow.
    """
    if method == "classmap":
        maps = compute_class_map(network, images)
    else:
        maps = _compute_by_gradients(network, images, method, layer)
    return maps if signed else np.maximum(maps, 0)


def compute_class_map(network: RunNetwork, images: np.ndarray) -> np.ndarray:
    """Compute local log-odds, float32 [n, h, w], whose mean is the log-odds of the slice, on any backend.

    Args:
        network: The network of a run.
        images: uint8 [n, s, s, 1].

    Raises:
        EdgeCTError: The network has no class map.
    """
    if not network.has_class_map:
        raise EdgeCTError(f"{network.name}: the network has no class map; use --method gradcam")
    model = keras.Model(network.model.inputs, network.model.get_layer("class_map").output)
    maps = np.concatenate([model.predict_on_batch(batch) for batch in batches(network, images)])
    return np.asarray(maps[..., 1] - maps[..., 0], np.float32)


def _compute_by_gradients(network: RunNetwork, images: np.ndarray, method: Method, layer: str | None) -> np.ndarray:
    if keras.backend.backend() != "tensorflow":
        raise EdgeCTError("Grad-CAM runs on Keras' TensorFlow backend: set KERAS_BACKEND=tensorflow")
    model = keras.Model(network.model.inputs, [network.layer(layer).output, network.model.output])
    weigh = _grad_cam_plus_plus_weights if method == "gradcam++" else _grad_cam_weights
    return np.concatenate([_weighted_sum(model, batch, weigh) for batch in batches(network, images)])


def _weighted_sum(model: Any, batch: np.ndarray, weigh: Any) -> np.ndarray:
    import tensorflow as tf

    inputs = tf.convert_to_tensor(batch)
    with tf.GradientTape() as tape:
        tape.watch(inputs)  # so that the outputs of frozen layers are recorded, too
        activations, logits = model(inputs, training=False)
        log_odds = logits[:, 1] - logits[:, 0]
    gradients = tape.gradient(log_odds, activations)
    values, slopes = activations.numpy().astype(np.float64), gradients.numpy().astype(np.float64)
    return np.asarray(np.einsum("nhwc,nc->nhw", values, weigh(values, slopes)), np.float32)


def _grad_cam_weights(values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Return one weight per channel, [n, c], from activations and gradients [n, h, w, c]."""
    return np.asarray(slopes.mean((1, 2)))


def _grad_cam_plus_plus_weights(values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Return one weight per channel, [n, c], from activations and gradients [n, h, w, c]."""
    total = values.sum((1, 2), keepdims=True)
    below = 2 * slopes**2 + total * slopes**3
    share = np.divide(slopes**2, below, out=np.zeros_like(below), where=np.abs(below) > 1e-30)
    return np.asarray((share * np.maximum(slopes, 0)).sum((1, 2)))
