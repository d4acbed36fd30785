"""Conversion of a Keras network to a TFLite file that takes raw grey bytes and gives all outputs of a bundle.

int8 follows Jacob et al. 2018: per-channel weights, per-tensor activations, ranges from representative slices. The
normalisation of `Preprocess` becomes the quantisation of the input, so that no arithmetic is left for the device.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.preprocess import Preprocess
from edge_ct.runtime import interpreter_class
from edge_ct.system import native_output

from ..options import INTEGER_VARIANTS, FileFormat

with native_output.captured_native_stderr():
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from .calibration_ranges import quick_calibration


def to_flatbuffer(
    model: Any,
    preprocess: Preprocess,
    file_format: FileFormat,
    representative: np.ndarray | None = None,
    on_slice: Callable[[int], None] = lambda steps: None,
) -> bytes:
    """Convert a network in its deployed form, Keras 3 or tf_keras.

    Args:
        model: The network.
        preprocess: Its preprocessing.
        file_format: The format of the file.
        representative: Slices of the training split, uint8 [n, s, s, 1]; the integer variants need them.
        on_slice: Called after each representative slice that was run.

    Raises:
        EdgeCTError: The converter refuses the network, or the result is not full integer.
    """
    if file_format.variant in INTEGER_VARIANTS:
        assert representative is not None
        return _to_integer(model, preprocess, file_format, representative, on_slice)
    if file_format.float_io:
        serve, dtype = (lambda image: model(image, training=False)), tf.float32
    else:
        serve, dtype = _with_normalisation(model, preprocess), tf.uint8
    converter = _make_converter(serve, preprocess.size, dtype, file_format.fixed_batch)
    if file_format.variant != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if file_format.variant == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    return _convert(converter, file_format.sparse)


def _to_integer(
    model: Any,
    preprocess: Preprocess,
    file_format: FileFormat,
    representative: np.ndarray,
    on_slice: Callable[[int], None],
) -> bytes:
    slices = representative.copy()
    # Two pixels set the input range to all bytes, whatever the slices hold.
    slices[0, 0, 0, 0], slices[0, 0, 1, 0] = 0, 255

    def feed() -> Any:
        for image in slices:
            yield [preprocess.normalise(image[np.newaxis])]
            on_slice(1)

    def serve(image: Any) -> Any:
        return model(image, training=False)

    converter = _make_converter(serve, preprocess.size, tf.float32, file_format.fixed_batch)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = feed
    ops = tf.lite.OpsSet
    # The converter cannot put a byte in front of 16-bit activations, so that graph takes int16.
    supported, in_type, out_type = {
        "int8": (ops.TFLITE_BUILTINS_INT8, tf.uint8, tf.int8),
        "int16x8": (ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8, tf.int16, tf.int16),
    }[file_format.variant]
    converter.target_spec.supported_ops = [supported]
    if not file_format.float_io:
        converter.inference_input_type, converter.inference_output_type = in_type, out_type
    with quick_calibration():
        flatbuffer = _convert(converter, file_format.sparse)
    check_integer(flatbuffer, preprocess, file_format)
    return flatbuffer


def check_integer(flatbuffer: bytes, preprocess: Preprocess, file_format: FileFormat) -> None:
    """Check that a file is full integer and takes bytes as the preprocessing says.

    Args:
        flatbuffer: The file.
        preprocess: The preprocessing of the network.
        file_format: The format that the file should have; with `float_io` its input and outputs may be float.

    Raises:
        EdgeCTError: A tensor is not integer, or the input is quantised otherwise.
    """
    interpreter = interpreter_class()(model_content=flatbuffer)
    ends = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    exempt = {tensor["index"] for tensor in ends} if file_format.float_io else set()
    allowed = (np.uint8, np.int8, np.int32, *((np.int16, np.int64) if file_format.variant == "int16x8" else ()))
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] not in allowed and tensor["index"] not in exempt:
            raise EdgeCTError(
                f"the file is not full integer: tensor {tensor['name']!r} is {np.dtype(tensor['dtype']).name}"
            )
    entry = interpreter.get_input_details()[0]
    scale, zero_point = entry["quantization"]
    zero_point += 128 if entry["dtype"] == np.int8 else 0
    takes_bytes = file_format.variant == "int8" and not file_format.float_io
    if takes_bytes and (abs(scale / preprocess.scale - 1) > 1e-5 or zero_point != preprocess.zero_point):
        raise EdgeCTError(
            f"the input is quantised with scale {scale} and zero point {zero_point}, but the preprocessing has "
            f"{preprocess.scale} and {preprocess.zero_point}"
        )


def _with_normalisation(model: Any, preprocess: Preprocess) -> Any:
    def serve(image: Any) -> Any:
        normalised = (tf.cast(image, tf.float32) - preprocess.zero_point) * preprocess.scale
        return model(normalised, training=False)

    return serve


def _make_converter(serve: Any, size: int, dtype: Any, fixed_batch: bool) -> Any:
    signature = [tf.TensorSpec([1 if fixed_batch else None, size, size, 1], dtype, name="image")]
    # Autograph leaves a file in the temporary folder if the process is killed.
    traced = tf.function(serve, input_signature=signature, autograph=False).get_concrete_function()
    # The quantiser's calibrator cannot read resource variables, so they are frozen first.
    frozen = convert_variables_to_constants_v2(traced)
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())


def _convert(converter: Any, sparse: bool) -> bytes:
    if sparse:
        converter.optimizations = [*converter.optimizations, tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    # Otherwise the graph goes through a temporary folder, which would stay behind if the process is killed.
    converter.experimental_lower_to_saved_model = False
    try:
        with warnings.catch_warnings(), native_output.captured_native_stderr():
            warnings.simplefilter("ignore")
            return bytes(converter.convert())
    except Exception as error:  # the converter documents no exceptions of its own
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EdgeCTError(f"TensorFlow's converter refuses this network: {reason.strip()}") from error
