"""Class-activation maps of a Keras network, by gradients: TensorFlow's backend alone.

What is explained is the log-odds of COVID-19, logit[1] - logit[0]: what decides. Grad-CAM: Selvaraju et al. 2017,
equations 1 and 2; Grad-CAM++: Chattopadhay et al. 2018, equation 19 with the exponential of the score, whose factor
cancels. Of a network whose head is the mean of a class map, Grad-CAM of the last layer is that map, less its bias.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.system import native_output

from .network import Network, batches

with native_output.captured_native_stderr():
    import keras

Method = Literal["gradcam", "gradcam++", "classmap"]
METHODS: tuple[Method, ...] = ("gradcam", "gradcam++", "classmap")


def maps(
    network: Network, images: np.ndarray, method: Method = "gradcam", layer: str | None = None, signed: bool = False
) -> np.ndarray:
    """Heat maps, float32 [n, h, w], of images uint8 [n, s, s, 1]; h, w: of the layer.

    signed: keep what speaks against COVID-19, below zero; Grad-CAM++ has no such part. Raises `EdgeCTError` for a layer
    that there is not, a network without class map, and another backend.
    """
    found = class_map(network, images) if method == "classmap" else _by_gradients(network, images, method, layer)
    return found if signed else np.maximum(found, 0)


def class_map(network: Network, images: np.ndarray) -> np.ndarray:
    """Local log-odds, float32 [n, h, w], whose mean is the slice's; no gradients, any backend."""
    if not network.has_class_map:
        raise EdgeCTError(f"{network.name}: its head has no class map; use --method gradcam")
    model = keras.Model(network.model.inputs, network.model.get_layer("class_map").output)
    found = np.concatenate([model.predict_on_batch(batch) for batch in batches(network, images)])
    return np.asarray(found[..., 1] - found[..., 0], np.float32)


def _by_gradients(network: Network, images: np.ndarray, method: Method, layer: str | None) -> np.ndarray:
    if keras.backend.backend() != "tensorflow":
        raise EdgeCTError("Grad-CAM runs on Keras' TensorFlow backend: set KERAS_BACKEND=tensorflow")
    model = keras.Model(network.model.inputs, [network.layer(layer).output, network.model.output])
    weigh = _plus_plus if method == "gradcam++" else _mean
    return np.concatenate([_weighted(model, batch, weigh) for batch in batches(network, images)])


def _weighted(model: Any, batch: np.ndarray, weigh: Any) -> np.ndarray:
    import tensorflow as tf

    inputs = tf.convert_to_tensor(batch)
    with tf.GradientTape() as tape:
        tape.watch(inputs)  # and so all that follows from them, frozen layers included
        activations, logits = model(inputs, training=False)
        log_odds = logits[:, 1] - logits[:, 0]
    gradients = tape.gradient(log_odds, activations)
    values, slopes = activations.numpy().astype(np.float64), gradients.numpy().astype(np.float64)
    return np.asarray(np.einsum("nhwc,nc->nhw", values, weigh(values, slopes)), np.float32)


def _mean(values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    return np.asarray(slopes.mean((1, 2)))


def _plus_plus(values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    total = values.sum((1, 2), keepdims=True)
    below = 2 * slopes**2 + total * slopes**3
    share = np.divide(slopes**2, below, out=np.zeros_like(below), where=np.abs(below) > 1e-30)
    return np.asarray((share * np.maximum(slopes, 0)).sum((1, 2)))
