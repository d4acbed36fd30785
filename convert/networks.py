"""The Keras network of a run, and its deployed form with all outputs that a bundle needs."""

from __future__ import annotations

from functools import partial
from typing import Any

from edge_ct.errors import EdgeCTError
from edge_ct.run import Run
from edge_ct.system import native_output

with native_output.captured_native_stderr():
    import keras


def load_network(run: Run) -> Any:
    """Load the trained Keras network of a run; its outputs are the logits and, if it has one, the lesion map.

    Raises:
        DataRejected: The model is missing or damaged, or the run is an ensemble.
        EdgeCTError: Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise EdgeCTError("conversion runs on Keras' TensorFlow backend: set KERAS_BACKEND=tensorflow")
    return run.load_model(partial(keras.saving.load_model, compile=False), lesion_map=True)


def to_deployed_form(model: Any) -> Any:
    """Add the outputs of the deployed form to a network of the zoo.

    Args:
        model: A Keras 3 network whose outputs are the logits and, if it has one, the lesion map. A network that has an
            embedding too (Keras 3 or tf_keras) already has the deployed form and is returned unchanged.

    Returns:
        A network with the outputs logits [n, 2], class map [n, h, w, 2] if it has one, embedding [n, e], and lesion map
        [n, h, w, 1] if it has one.

    Raises:
        ValueError: The network has no layer `features`, so it is not a network of the zoo.
    """
    if sum(len(output.shape) == 2 for output in model.outputs) > 1:
        return model
    features = model.get_layer("features").output
    names = {layer.name for layer in model.layers}
    if "pooled" in names:
        embedding = model.get_layer("pooled").output
    else:
        embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(features)
    class_map = [model.get_layer("class_map").output] if "class_map" in names else []
    return keras.Model(model.inputs[0], [model.outputs[0], *class_map, embedding, *model.outputs[1:]])
