"""The ranges that quantisation goes by: the least and greatest value of every tensor over representative slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.python.optimize import calibrator
from tensorflow.lite.tools import flatbuffer_utils

from edge_ct.system.host import processors


def calibrated(model: bytes, slices: Callable[[], Iterator[list[np.ndarray]]]) -> bytes:
    """A float flatbuffer of one input with the ranges of its activations written into it, as TensorFlow's calibrator
    writes them: where its converter reads them.

    slices: gives what goes into the input, float32 [1, s, s, 1], one list of one array at a time. Raises ValueError
    where it gives nothing, or a value is no number.
    """
    graph = flatbuffer_utils.convert_bytearray_to_object(model)
    [subgraph] = graph.subgraphs
    made = {int(index) for operator in subgraph.operators for index in operator.outputs}
    watched = sorted(
        index
        for index in made | set(map(int, subgraph.inputs))
        if subgraph.tensors[index].type == schema.TensorType.FLOAT32
    )
    outputs, signatures = subgraph.outputs, graph.signatureDefs
    # A tensor that is an output keeps its values, and the graph still runs on XNNPACK.
    subgraph.outputs, graph.signatureDefs = watched, []
    interpreter = Interpreter(
        model_content=bytes(flatbuffer_utils.convert_object_to_bytearray(graph)), num_threads=processors()
    )
    interpreter.allocate_tensors()
    least, most = np.full(len(watched), np.inf, np.float32), np.full(len(watched), -np.inf, np.float32)
    [entry] = subgraph.inputs
    for [image] in slices():
        interpreter.set_tensor(int(entry), image)
        interpreter.invoke()
        found = np.array([_extremes(interpreter.tensor(index)()) for index in watched])
        least, most = np.minimum(least, found[:, 0]), np.maximum(most, found[:, 1])
    if not (np.isfinite(least).all() and np.isfinite(most).all()):
        raise ValueError("no representative slices to take ranges from, or values that are no numbers")
    subgraph.outputs, graph.signatureDefs = outputs, signatures
    for index, low, high in zip(watched, least, most, strict=True):
        subgraph.tensors[index].quantization = schema.QuantizationParametersT(min=[float(low)], max=[float(high)])
    return bytes(flatbuffer_utils.convert_object_to_bytearray(graph))


def _extremes(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


@contextmanager
def quick_calibration() -> Iterator[None]:
    """Inside, TensorFlow's converter takes its ranges from `calibrated`.

    Its own calibrator runs the graph without XNNPACK on one thread, a third of a conversion's time; and where a sum is
    computed in the place of its first term (a residual connection), it takes the sum's range for the term's too.
    """
    own: Any = calibrator.Calibrator

    class Quick(own):
        def calibrate(self, dataset_gen: Callable[[], Iterator[list[np.ndarray]]]) -> bytes:
            return calibrated(self._model_content, dataset_gen)

    calibrator.Calibrator = Quick  # which the converter looks up when it converts
    try:
        yield
    finally:
        calibrator.Calibrator = own
