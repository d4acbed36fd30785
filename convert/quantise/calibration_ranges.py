"""Activation ranges for quantisation: the least and greatest value of every tensor over representative slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.python.optimize import calibrator
from tensorflow.lite.tools import flatbuffer_utils

from edge_ct.runtime import interpreter_class
from edge_ct.system.host import processors


def write_ranges(model: bytes, slices: Callable[[], Iterator[list[np.ndarray]]]) -> bytes:
    """Write the ranges of the activations into a float file, where TensorFlow's converter reads them.

    Args:
        model: A float file with one input.
        slices: Gives the values of the input, one list of one array, float32 [1, s, s, 1], at a time.

    Returns:
        The file with ranges.

    Raises:
        ValueError: There are no slices, or an activation is NaN or infinite.
    """
    graph = flatbuffer_utils.convert_bytearray_to_object(model)
    [subgraph] = graph.subgraphs
    computed = {int(index) for operator in subgraph.operators for index in operator.outputs}
    watched = sorted(
        index
        for index in computed | set(map(int, subgraph.inputs))
        if subgraph.tensors[index].type == schema.TensorType.FLOAT32
    )
    outputs, signatures = subgraph.outputs, graph.signatureDefs
    # A tensor that is an output keeps its values, and the graph still runs on XNNPACK.
    subgraph.outputs, graph.signatureDefs = watched, []
    interpreter = interpreter_class()(
        model_content=bytes(flatbuffer_utils.convert_object_to_bytearray(graph)), num_threads=processors()
    )
    interpreter.allocate_tensors()
    lowest, highest = np.full(len(watched), np.inf, np.float32), np.full(len(watched), -np.inf, np.float32)
    [entry] = subgraph.inputs
    for [image] in slices():
        interpreter.set_tensor(int(entry), image)
        interpreter.invoke()
        extremes = np.array([_extremes(interpreter.tensor(index)()) for index in watched])
        lowest, highest = np.minimum(lowest, extremes[:, 0]), np.maximum(highest, extremes[:, 1])
    if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
        raise ValueError("there are no representative slices, or an activation is NaN or infinite")
    subgraph.outputs, graph.signatureDefs = outputs, signatures
    for index, low, high in zip(watched, lowest, highest, strict=True):
        subgraph.tensors[index].quantization = schema.QuantizationParametersT(min=[float(low)], max=[float(high)])
    return bytes(flatbuffer_utils.convert_object_to_bytearray(graph))


def _extremes(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


@contextmanager
def quick_calibration() -> Iterator[None]:
    """Let TensorFlow's converter take its ranges from `write_ranges`, inside this context.

    Its own calibrator runs the graph on one thread without XNNPACK, which takes a third of a conversion's time. Where a
    sum is computed in the place of its first term (a residual connection), it also takes the sum's range for the
    term's.
    """
    original: Any = calibrator.Calibrator

    class QuickCalibrator(original):  # type: ignore[misc]
        def calibrate(self, dataset_gen: Callable[[], Iterator[list[np.ndarray]]]) -> bytes:
            return write_ranges(self._model_content, dataset_gen)

    calibrator.Calibrator = QuickCalibrator  # the converter looks up this name when it converts
    try:
        yield
    finally:
        calibrator.Calibrator = original
