"""Keras -> TFLite flatbuffer. The graph takes raw grey bytes and gives logits, class map and embedding.

int8 after Jacob et al. 2018: per-channel weights, per-tensor activations, ranges from representative slices. The
normalisation of `Preprocess` becomes the quantisation of the input, so that no arithmetic is left for the device.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from edge_ct import quiet
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.manifest import Tensors
from edge_ct.preprocess import Preprocess
from edge_ct.run import Run
from edge_ct.runtime import describe

with quiet.native_stderr():
    import keras
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

_OUTPUTS = ("logits", "class_map", "embedding")


def load_deployed(run: Run) -> Any:
    """The trained network with its three outputs: logits [n, 2], class map [n, h, w, 2], embedding [n, e].

    Raises `DataRejected` for a run whose model is missing, damaged, an ensemble, or without a class map.
    """
    if keras.backend.backend() != "tensorflow":
        raise EdgeCTError("conversion runs on Keras' TensorFlow backend: set KERAS_BACKEND=tensorflow")
    try:
        return with_three_outputs(run.load_model(partial(keras.saving.load_model, compile=False)))
    except ValueError as error:
        raise DataRejected(f"{run.model_path}: not a network of this zoo: no class map") from error


def with_three_outputs(model: Any) -> Any:
    """A network of the zoo in its deployed form. Raises ValueError where it has no layers `features`, `class_map`."""
    features, class_map = model.get_layer("features").output, model.get_layer("class_map").output
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(features)
    return keras.Model(model.input, [model.output, class_map, embedding])


def to_fp32(model: Any, preprocess: Preprocess) -> bytes:
    """A float graph that takes uint8 [1, s, s, 1] and normalises it itself."""

    def serve(image: Any) -> Any:
        normalised = (tf.cast(image, tf.float32) - preprocess.zero_point) * preprocess.scale
        return model(normalised, training=False)

    return _convert(_converter(serve, preprocess.size, tf.uint8))


def to_int8(model: Any, preprocess: Preprocess, representative: np.ndarray) -> bytes:
    """A full-integer graph, uint8 in and int8 out. representative: uint8 [n, s, s, 1], from the training split.

    Raises `EdgeCTError` where the result is not what it should be: a float tensor, another input quantisation.
    """
    slices = representative.copy()
    # Two pixels pin the input range to all bytes, whatever the slices hold.
    slices[0, 0, 0, 0], slices[0, 0, 1, 0] = 0, 255
    converter = _converter(lambda image: model(image, training=False), preprocess.size, tf.float32)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([preprocess.normalise(image[np.newaxis])] for image in slices)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.int8
    flatbuffer = _convert(converter)
    check_int8(flatbuffer, preprocess)
    return flatbuffer


def check_int8(flatbuffer: bytes, preprocess: Preprocess) -> None:
    """Raise `EdgeCTError` where a tensor is not integer, or the input is not quantised as `preprocess` says."""
    interpreter = Interpreter(model_content=flatbuffer)
    allowed = (np.uint8, np.int8, np.int32)
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] not in allowed:
            raise EdgeCTError(f"not full integer: tensor {tensor['name']!r} is {np.dtype(tensor['dtype']).name}")
    scale, zero_point = interpreter.get_input_details()[0]["quantization"]
    if abs(scale / preprocess.scale - 1) > 1e-5 or zero_point != preprocess.zero_point:
        raise EdgeCTError(f"input is quantised with {scale}, {zero_point}; the preprocessing says otherwise")


def tensors_of(flatbuffer: bytes) -> Tensors:
    """Describe the input and the three outputs for the manifest."""
    interpreter = Interpreter(model_content=flatbuffer)
    outputs = interpreter.get_output_details()
    # The converter numbers a traced function's results in its own order, and lists them in another.
    order = sorted(range(len(outputs)), key=lambda position: outputs[position]["name"])
    found = {name: describe(outputs[position], position) for name, position in zip(_OUTPUTS, order, strict=True)}
    if found["logits"].shape != (1, 2) or len(found["class_map"].shape) != 4 or len(found["embedding"].shape) != 2:
        raise EdgeCTError(f"the converted graph's outputs are not logits, class map, embedding: {found}")
    return Tensors(input=describe(interpreter.get_input_details()[0], 0), **found)


def _converter(serve: Any, size: int, dtype: Any) -> Any:
    signature = [tf.TensorSpec([1, size, size, 1], dtype, name="image")]
    traced = tf.function(serve, input_signature=signature).get_concrete_function()
    # Frozen first: the quantiser's calibrator cannot read resource variables.
    frozen = convert_variables_to_constants_v2(traced)
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())


def _convert(converter: Any) -> bytes:
    with warnings.catch_warnings(), quiet.native_stderr():
        warnings.simplefilter("ignore")
        return bytes(converter.convert())
