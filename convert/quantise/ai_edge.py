"""Quantisation by ai-edge-quantizer: from a float file and a recipe for its layers to an integer or mixed one.

The recipes correspond to the quantiser's own: `static_wi8_ai8` (int8), `static_wi8_ai16` (int16x8) and
`dynamic_wi8_afp32` (dynamic). Single layers may stay in float, or use 16-bit activations.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from edge_ct.errors import EdgeCTError, MissingExtra
from edge_ct.manifest import Variant
from edge_ct.preprocess import Preprocess
from edge_ct.system import native_output
from edge_ct.system.host import processors

from ..options import LayerPrecision, RangeMethod

_SIGNATURE, _INPUT = "serving_default", "image"
_ACTIVATION_BITS = {"int8": 8, "int16x8": 16}
_EVERY_LAYER = ".*"


def quantise(
    flatbuffer: bytes,
    preprocess: Preprocess,
    variant: Variant,
    representative: np.ndarray,
    calibration: RangeMethod = "minmax",
    keep: Mapping[str, LayerPrecision] = {},
    float_io: bool = False,
    on_slice: Callable[[int], None] = lambda steps: None,
) -> bytes:
    """Quantise a float graph.

    Args:
        flatbuffer: A TFLite file with float32 input and outputs.
        preprocess: The preprocessing of the network.
        variant: `int8`, `int16x8` or `dynamic`.
        representative: Slices of the training split, uint8 [n, s, s, 1].
        calibration: How activation ranges are derived: from the least and greatest values of all slices, or from
            moving averages of each slice's. `mse` derives them as `minmax` does, and chooses the steps of weights that
            have the least mean squared error.
        keep: Name of a Keras layer -> what it is computed in instead of 8 bits.
        float_io: Keep float32 input and outputs.
        on_slice: Called after each slice that was run.

    Raises:
        EdgeCTError: A layer of `keep` is not in the graph, or the quantiser refuses the network.
        MissingExtra: ai-edge-quantizer is not installed.
    """
    quantiser = _import_quantiser()
    signed, tensor_names = _add_signature(flatbuffer)
    recipe = _make_recipe(quantiser, variant, calibration, keep, float_io, tensor_names)
    try:
        with (
            warnings.catch_warnings(),
            native_output.captured_native_stderr(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            job = quantiser.Quantizer(signed, recipe.get_quantization_recipe())
            ranges = None
            if job.need_calibration:
                images = _pin_input_range(representative)
                ranges = _measure_ranges(quantiser, signed, recipe, calibration, preprocess, images, on_slice)
            result = job.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except Exception as error:  # the quantiser documents no exceptions of its own
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EdgeCTError(f"ai-edge-quantizer refuses this network: {reason.strip()}") from error
    return bytes(result.quantized_model)


class _Quantiser:
    """The parts of ai-edge-quantizer that are used here; importing them takes seconds."""

    def __init__(self) -> None:
        from ai_edge_quantizer import algorithm_manager, calibrator, qtyping, recipe_manager
        from ai_edge_quantizer.quantizer import Quantizer
        from ai_edge_quantizer.utils import qsv_utils

        self.Algorithm = algorithm_manager.AlgorithmName
        self.Calibrator = calibrator.Calibrator
        self.Operation = qtyping.TFLOperationName
        self.RecipeManager = recipe_manager.RecipeManager
        self.Quantizer = Quantizer
        self.updates = {
            "minmax": qsv_utils.min_max_update,
            "mse": qsv_utils.min_max_update,
            "moving-average": qsv_utils.moving_average_update,
        }


def _import_quantiser() -> _Quantiser:
    try:
        with native_output.captured_native_stderr():
            return _Quantiser()
    except ModuleNotFoundError as error:
        raise MissingExtra(f"--quantizer ai-edge needs {error.name}: pip install 'edge-ct[convert]'") from error


def _make_recipe(
    quantiser: _Quantiser,
    variant: Variant,
    calibration: RangeMethod,
    keep: Mapping[str, LayerPrecision],
    float_io: bool,
    tensor_names: Iterable[str],
) -> Any:
    """Return the recipe manager; a later entry overrides an earlier one."""
    operation, algorithm = quantiser.Operation, quantiser.Algorithm
    recipe = quantiser.RecipeManager()
    if variant == "dynamic":
        recipe.add_dynamic_config(_EVERY_LAYER, operation.ALL_SUPPORTED, 8)
    elif variant in _ACTIVATION_BITS:
        bits = _ACTIVATION_BITS[variant]
        recipe.add_static_config(_EVERY_LAYER, operation.ALL_SUPPORTED, bits, 8)
        if calibration == "mse":
            for kind in ("CONV_2D", "FULLY_CONNECTED"):  # the operations that this algorithm covers
                recipe.add_static_config(_EVERY_LAYER, operation[kind], bits, 8, algorithm_key=algorithm.MSE)
    else:
        raise EdgeCTError(f"ai-edge-quantizer makes int8, int16x8 and dynamic files, not {variant}")
    if float_io:
        for end in (operation.INPUT, operation.OUTPUT):
            recipe.add_quantization_config(_EVERY_LAYER, end, algorithm_key=algorithm.NO_QUANTIZE)
    for layer, precision in keep.items():
        pattern = layer_pattern(layer, tensor_names)
        if pattern is None:
            raise EdgeCTError(
                f"there is no layer {layer!r} in the converted graph (the converter may have merged it into another)"
            )
        if precision == "fp32":
            recipe.add_quantization_config(pattern, operation.ALL_SUPPORTED, algorithm_key=algorithm.NO_QUANTIZE)
        else:
            recipe.add_static_config(pattern, operation.ALL_SUPPORTED, 16, 8)
    return recipe


def _pin_input_range(representative: np.ndarray) -> np.ndarray:
    """Set two pixels of every slice so that the input range covers all bytes, even where ranges are averaged."""
    slices = representative.copy()
    slices[:, 0, 0, 0], slices[:, 0, 1, 0] = 0, 255
    return slices


def _measure_ranges(
    quantiser: _Quantiser,
    flatbuffer: bytes,
    recipe: Any,
    calibration: RangeMethod,
    preprocess: Preprocess,
    images: np.ndarray,
    on_slice: Callable[[int], None],
) -> Any:
    observer = quantiser.Calibrator(
        flatbuffer, num_threads=processors(), qsv_update_func=quantiser.updates[calibration]
    )
    for image in images:
        observer.calibrate({_SIGNATURE: [{_INPUT: preprocess.normalise(image[np.newaxis])}]}, recipe)
        on_slice(1)
    return observer.get_model_qsvs()


def layer_pattern(layer: str, tensors: Iterable[str]) -> str | None:
    """Return a pattern for the tensors of a Keras layer's operations, such as `net_1/block_3_project_1/convolution`.

    Keras numbers operations when it traces them, so that `conv2d_1` may be one of the layer `conv2d`.

    Args:
        layer: Name of the layer.
        tensors: Names of all tensors of the graph.

    Returns:
        A regular expression; None if the layer has no tensor in the graph.
    """
    for number in (r"_\d+", ""):
        pattern = rf"(^|[/;]){re.escape(layer)}{number}([/;]|$)"
        if any(re.search(pattern, name) for name in tensors):
            return pattern
    return None


def _add_signature(flatbuffer: bytes) -> tuple[bytes, list[str]]:
    """Add the signature by which the calibrator feeds the file; also return the names of its tensors."""
    from ai_edge_litert.tools import flatbuffer_utils

    schema = flatbuffer_utils.schema_fb
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(flatbuffer))
    graph = model.subgraphs[0]

    def map_tensor(name: str, index: int) -> Any:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        return entry

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = _SIGNATURE.encode(), 0
    signature.inputs = [map_tensor(_INPUT, graph.inputs[0])]
    signature.outputs = [map_tensor(f"output_{number}", index) for number, index in enumerate(graph.outputs)]
    model.signatureDefs = [signature]
    names = [tensor.name.decode() for tensor in graph.tensors]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)), names
