"""Keras -> TFLite flatbuffer. The graph takes raw grey bytes and gives logits, class map and embedding.

int8 after Jacob et al. 2018: per-channel weights, per-tensor activations, ranges from representative slices. The
normalisation of `Preprocess` becomes the quantisation of the input, so that no arithmetic is left for the device.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import numpy as np

from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.manifest import Variant
from edge_ct.preprocess import Preprocess
from edge_ct.run import Run
from edge_ct.system import native_output

with native_output.captured_native_stderr():
    import keras
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from . import calibration_ranges

INTEGER = ("int8", "int16x8")


class Form(msgspec.Struct, frozen=True):
    """What a file is to be. float_io: float32 in, normalised already, and float32 out; else bytes in where the variant
    can take them. fixed_batch: one slice at a time, for which delegates are fastest; else the first side is free.
    sparse: kernels with many zeros are stored without them."""

    variant: Variant = "int8"
    float_io: bool = False
    fixed_batch: bool = True
    sparse: bool = False


def load(run: Run) -> Any:
    """The trained Keras network, of one output.

    Raises `DataRejected` for a run whose model is missing, damaged or an ensemble.
    """
    if keras.backend.backend() != "tensorflow":
        raise EdgeCTError("conversion runs on Keras' TensorFlow backend: set KERAS_BACKEND=tensorflow")
    return run.load_model(partial(keras.saving.load_model, compile=False))


def load_deployed(run: Run) -> Any:
    """As `load`, in its deployed form; raises `DataRejected` too for a network that is not of this zoo."""
    try:
        return deployed(load(run))
    except ValueError as error:
        raise DataRejected(f"{run.model_path}: not a network of this zoo: no features") from error


def is_tf_keras(model: Any) -> bool:
    """Whether a network is one of Keras 2's, and not of Keras 3's."""
    return type(model).__module__.startswith("tf_keras")


def deployed(model: Any) -> Any:
    """A network of the zoo with its outputs: logits [n, 2], class map [n, h, w, 2] if it has one, embedding [n, e].

    Keras 3 or tf_keras; one that has several outputs is taken as it is. Raises ValueError where it has no layer
    `features`.
    """
    if len(model.outputs) > 1:
        return model
    api = importlib.import_module("tf_keras") if is_tf_keras(model) else keras
    features = model.get_layer("features").output
    names = {layer.name for layer in model.layers}
    if "pooled" in names:
        embedding = model.get_layer("pooled").output
    else:
        embedding = api.layers.GlobalAveragePooling2D(name="embedding")(features)
    class_map = [model.get_layer("class_map").output] if "class_map" in names else []
    return api.Model(model.inputs[0], [model.outputs[0], *class_map, embedding])


def to_flatbuffer(
    model: Any,
    preprocess: Preprocess,
    form: Form,
    representative: np.ndarray | None = None,
    on_slice: Callable[[int], None] = lambda steps: None,
) -> bytes:
    """Convert a network in its deployed form, Keras 3 or tf_keras.

    representative: uint8 [n, s, s, 1], from the training split; the integer variants need it. on_slice: called for each
    of them that has been run. Raises `EdgeCTError` where the result is not what it should be, or there is none.
    """
    if form.variant in INTEGER:
        assert representative is not None
        return _to_integer(model, preprocess, form, representative, on_slice)
    if form.float_io:
        serve, dtype = (lambda image: model(image, training=False)), tf.float32
    else:
        serve, dtype = _normalising(model, preprocess), tf.uint8
    converter = _converter(serve, preprocess.size, dtype, form.fixed_batch)
    if form.variant != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form.variant == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    return _convert(converter, form.sparse)


def to_fp32(model: Any, preprocess: Preprocess) -> bytes:
    """A float graph that takes uint8 [1, s, s, 1] and normalises it itself."""
    return to_flatbuffer(model, preprocess, Form("fp32"))


def to_int8(model: Any, preprocess: Preprocess, representative: np.ndarray) -> bytes:
    """A full-integer graph, uint8 in and int8 out."""
    return to_flatbuffer(model, preprocess, Form("int8"), representative)


def _to_integer(
    model: Any, preprocess: Preprocess, form: Form, representative: np.ndarray, on_slice: Callable[[int], None]
) -> bytes:
    slices = representative.copy()
    # Two pixels pin the input range to all bytes, whatever the slices hold.
    slices[0, 0, 0, 0], slices[0, 0, 1, 0] = 0, 255

    def feed() -> Any:
        for image in slices:
            yield [preprocess.normalise(image[np.newaxis])]
            on_slice(1)

    converter = _converter(lambda image: model(image, training=False), preprocess.size, tf.float32, form.fixed_batch)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = feed
    ops = tf.lite.OpsSet
    # The converter puts no byte in front of 16-bit activations: that graph takes int16.
    supported, in_type, out_type = {
        "int8": (ops.TFLITE_BUILTINS_INT8, tf.uint8, tf.int8),
        "int16x8": (ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8, tf.int16, tf.int16),
    }[form.variant]
    converter.target_spec.supported_ops = [supported]
    if not form.float_io:
        converter.inference_input_type, converter.inference_output_type = in_type, out_type
    with calibration_ranges.quick_calibration():
        flatbuffer = _convert(converter, form.sparse)
    check_integer(flatbuffer, preprocess, form)
    return flatbuffer


def check_int8(flatbuffer: bytes, preprocess: Preprocess) -> None:
    """As `check_integer`, of a graph of bytes."""
    check_integer(flatbuffer, preprocess, Form("int8"))


def check_integer(flatbuffer: bytes, preprocess: Preprocess, form: Form) -> None:
    """Raise `EdgeCTError` where a tensor is not integer, or bytes are not taken as `preprocess` says.

    With float inputs and outputs, those alone may be float.
    """
    interpreter = Interpreter(model_content=flatbuffer)
    outside = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    exempt = {tensor["index"] for tensor in outside} if form.float_io else set()
    allowed = (np.uint8, np.int8, np.int32, *((np.int16, np.int64) if form.variant == "int16x8" else ()))
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] not in allowed and tensor["index"] not in exempt:
            raise EdgeCTError(f"not full integer: tensor {tensor['name']!r} is {np.dtype(tensor['dtype']).name}")
    entry = interpreter.get_input_details()[0]
    scale, zero_point = entry["quantization"]
    zero_point += 128 if entry["dtype"] == np.int8 else 0
    takes_bytes = form.variant == "int8" and not form.float_io
    if takes_bytes and (abs(scale / preprocess.scale - 1) > 1e-5 or zero_point != preprocess.zero_point):
        raise EdgeCTError(f"input is quantised with {scale}, {zero_point}; the preprocessing says otherwise")


def _normalising(model: Any, preprocess: Preprocess) -> Any:
    def serve(image: Any) -> Any:
        normalised = (tf.cast(image, tf.float32) - preprocess.zero_point) * preprocess.scale
        return model(normalised, training=False)

    return serve


def _converter(serve: Any, size: int, dtype: Any, fixed_batch: bool = True) -> Any:
    signature = [tf.TensorSpec([1 if fixed_batch else None, size, size, 1], dtype, name="image")]
    # Without autograph, which leaves a file in the temporary folder where the process is killed.
    traced = tf.function(serve, input_signature=signature, autograph=False).get_concrete_function()
    # Frozen first: the quantiser's calibrator cannot read resource variables.
    frozen = convert_variables_to_constants_v2(traced)
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())


def _convert(converter: Any, sparse: bool = False) -> bytes:
    if sparse:
        converter.optimizations = [*converter.optimizations, tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    # Else the graph takes a detour through a temporary folder, which a kill would leave behind.
    converter.experimental_lower_to_saved_model = False
    try:
        with warnings.catch_warnings(), native_output.captured_native_stderr():
            warnings.simplefilter("ignore")
            return bytes(converter.convert())
    except Exception as error:  # the converter raises what it likes
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EdgeCTError(f"TensorFlow's converter refuses this network: {reason.strip()}") from error
