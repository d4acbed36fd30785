"""Quantising by ai-edge-quantizer: a float flatbuffer in, a recipe of layers, an integer or mixed one out.

Recipes are its own: `static_wi8_ai8` (int8), `static_wi8_ai16` (int16x8), `dynamic_wi8_afp32` (dynamic); single layers
may be kept in float, or in 16-bit activations.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np

from edge_ct.errors import EdgeCTError, MissingExtra
from edge_ct.manifest import Variant
from edge_ct.preprocess import Preprocess
from edge_ct.system import native_output

Calibration = Literal["minmax", "moving-average", "mse"]
Precision = Literal["fp32", "int16"]
CALIBRATIONS: tuple[Calibration, ...] = ("minmax", "moving-average", "mse")
_SIGNATURE, _INPUT = "serving_default", "image"
_ACTIVATION_BITS = {"int8": 8, "int16x8": 16}


def quantise(
    flatbuffer: bytes,
    preprocess: Preprocess,
    variant: Variant,
    representative: np.ndarray,
    calibration: Calibration = "minmax",
    keep: Mapping[str, Precision] = {},
    float_io: bool = False,
    on_slice: Callable[[int], None] = lambda steps: None,
) -> bytes:
    """Quantise a float graph with float32 input and outputs.

    representative: uint8 [n, s, s, 1]. calibration: of activations, the least and greatest values of all slices, or
    moving averages of each slice's; `mse` takes the first for activations, and for weights the steps of least mean
    squared error. keep: names of Keras layers -> what they are computed in instead. Raises `EdgeCTError` for a layer
    that is not in the graph, or where the quantiser refuses.
    """
    try:
        with native_output.captured_native_stderr():
            from ai_edge_quantizer import algorithm_manager, calibrator, qtyping, recipe_manager
            from ai_edge_quantizer.quantizer import Quantizer
            from ai_edge_quantizer.utils import qsv_utils
    except ModuleNotFoundError as error:
        raise MissingExtra(f"--quantizer ai-edge needs {error.name}: pip install 'edge-ct[convert]'") from error
    algorithm = algorithm_manager.AlgorithmName
    weights = algorithm.MSE if calibration == "mse" else algorithm.MIN_MAX_UNIFORM_QUANT
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    recipe = recipe_manager.RecipeManager()
    if variant == "dynamic":
        recipe.add_dynamic_config(".*", everything, 8)
    elif variant in _ACTIVATION_BITS:
        bits = _ACTIVATION_BITS[variant]
        recipe.add_static_config(".*", everything, bits, 8)
        if calibration == "mse":
            for kind in ("CONV_2D", "FULLY_CONNECTED"):  # what that algorithm covers
                recipe.add_static_config(".*", qtyping.TFLOperationName[kind], bits, 8, algorithm_key=weights)
    else:
        raise EdgeCTError(f"ai-edge-quantizer makes int8, int16x8 and dynamic files, not {variant}")
    if float_io:
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            recipe.add_quantization_config(".*", end, algorithm_key=algorithm.NO_QUANTIZE)
    signed, names = _with_signature(flatbuffer)
    for layer, precision in keep.items():
        pattern = layer_pattern(layer, names)
        if pattern is None:
            raise EdgeCTError(
                f"no layer {layer!r} in the converted graph (the converter may have merged it into another)"
            )
        if precision == "fp32":
            recipe.add_quantization_config(pattern, everything, algorithm_key=algorithm.NO_QUANTIZE)
        else:
            recipe.add_static_config(pattern, everything, 16, 8)
    slices = representative.copy()
    # Two pixels pin the input range to all bytes, whatever the slices hold; of every slice, as ranges may be averaged.
    slices[:, 0, 0, 0], slices[:, 0, 1, 0] = 0, 255

    try:
        with (
            warnings.catch_warnings(),
            native_output.captured_native_stderr(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            quantizer = Quantizer(signed, recipe.get_quantization_recipe())
            ranges = None
            if quantizer.need_calibration:
                update = (
                    qsv_utils.moving_average_update if calibration == "moving-average" else qsv_utils.min_max_update
                )
                observer = calibrator.Calibrator(signed, num_threads=2, qsv_update_func=update)
                for image in slices:
                    observer.calibrate({_SIGNATURE: [{_INPUT: preprocess.normalise(image[np.newaxis])}]}, recipe)
                    on_slice(1)
                ranges = observer.get_model_qsvs()
            made = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except Exception as error:  # it raises what it likes
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EdgeCTError(f"ai-edge-quantizer refuses this network: {reason.strip()}") from error
    return bytes(made.quantized_model)


def parse_keep(words: Iterable[str]) -> dict[str, Precision]:
    """`LAYER=fp32` and `LAYER=int16` -> layer -> precision. Raises `EdgeCTError`."""
    keep: dict[str, Precision] = {}
    for word in words:
        layer, equals, precision = word.rpartition("=")
        if not equals or not layer or precision not in ("fp32", "int16"):
            raise EdgeCTError(f"--keep {word}: say LAYER=fp32 or LAYER=int16")
        keep[layer] = precision  # type: ignore[assignment]
    return keep


def layer_pattern(layer: str, tensors: Iterable[str]) -> str | None:
    """Matches the names of tensors that a Keras layer's operations give: `net_1/block_3_project_1/convolution;...`.

    Keras numbers operations on when it traces them, so that `conv2d_1` is one of the layer `conv2d`. None where the
    layer gives none of `tensors`.
    """
    for number in (r"_\d+", ""):
        pattern = rf"(^|[/;]){re.escape(layer)}{number}([/;]|$)"
        if any(re.search(pattern, name) for name in tensors):
            return pattern
    return None


def _with_signature(flatbuffer: bytes) -> tuple[bytes, list[str]]:
    """With a signature, by which the calibrator feeds it; and the names of its tensors."""
    from ai_edge_litert.tools import flatbuffer_utils

    schema = flatbuffer_utils.schema_fb
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(flatbuffer))
    graph = model.subgraphs[0]

    def tensor(name: str, index: int) -> Any:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        return entry

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = _SIGNATURE.encode(), 0
    signature.inputs = [tensor(_INPUT, graph.inputs[0])]
    signature.outputs = [tensor(f"output_{number}", index) for number, index in enumerate(graph.outputs)]
    model.signatureDefs = [signature]
    names = [one.name.decode() for one in graph.tensors]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)), names
