"""The operators of a TFLite graph, their multiply-accumulates and their times.

LiteRT's Python interpreter has no profiler. Therefore the graph is cut after each operator and every piece is timed
with the same kernels; the time of an operator is the difference between two successive pieces. Each time is the
shortest of several, because disturbances only add. On a noisy machine the difference can still be negative for a small
operator, and is reported as such. A cut prevents optimisation across it: compare `whole_ms` with the sum of the
operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any

import msgspec
import numpy as np

from edge_ct.system.native_output import captured_native_stderr
from edge_ct.system.progress import QUIET, Progress

from .tflite_graph import read_graph, write_graph
from .timing import Clock

REPEATS = 30
_WARM_UP = 3
# Operators whose second input is the kernel: each of its weights is used once at every position of the output.
_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


class Operator(msgspec.Struct, frozen=True):
    """One operator: its name, output shape, multiply-accumulates, and milliseconds, None if it was not timed."""

    name: str
    output: tuple[int, ...]
    macs: int
    ms: float | None = None


class Profile(msgspec.Struct, frozen=True):
    """Times of a graph.

    Attributes:
        whole_ms: Shortest time of the whole graph.
        threads: Number of threads.
        operators: In the order of the graph; the sum of their times is that of the last piece, not exactly `whole_ms`.
    """

    whole_ms: float
    threads: int
    operators: tuple[Operator, ...]


def list_operators(interpreter: Any) -> tuple[Operator, ...]:
    """Return the operators of an interpreter, without delegates."""
    tensors = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    operators = []
    for operator in interpreter._get_ops_details():
        if operator["op_name"] == "DELEGATE":
            continue
        output = tuple(int(side) for side in tensors[operator["outputs"][0]]["shape"])
        kernel = tensors[operator["inputs"][1]]["shape"] if operator["op_name"] in _KERNELS else (0,)
        positions = output[1:3] if len(output) == 4 else output[:1]
        macs = int(np.prod(kernel, dtype=np.int64) * np.prod(positions, dtype=np.int64))
        operators.append(Operator(operator["op_name"], output, macs))
    return tuple(operators)


def count_macs(model: bytes) -> int:
    """Return the multiply-accumulates of one inference."""
    return sum(operator.macs for operator in list_operators(_interpreter(model, 1)))


def profile(model: bytes, threads: int = 1, progress: Progress = QUIET, clock: Clock = perf_counter_ns) -> Profile:
    """Time every operator of a graph.

    Args:
        model: The TFLite flatbuffer.
        threads: Number of interpreter threads.
        progress: Where to show progress.
        clock: The timer.

    Raises:
        EdgeCTError: The runtime includes no module to write flatbuffers with.
    """
    operators = list_operators(_interpreter(model, threads))
    times = []
    with progress.bar("operators", len(operators)) as on_done:
        for piece in _pieces(model):
            times.append(_shortest_ms(piece, threads, clock))
            on_done(1)
    differences = np.diff(times, prepend=0.0)
    return Profile(
        whole_ms=_shortest_ms(model, threads, clock),
        threads=threads,
        operators=tuple(
            msgspec.structs.replace(operator, ms=round(float(ms), 4))
            for operator, ms in zip(operators, differences, strict=True)
        ),
    )


def _pieces(model: bytes) -> Iterator[bytes]:
    """Yield the graph cut after each operator, whose outputs become the outputs of the piece."""
    graph = read_graph(model)
    body = graph.subgraphs[0]
    operators = body.operators
    for count in range(1, len(operators) + 1):
        body.operators = operators[:count]
        body.outputs = operators[count - 1].outputs
        yield write_graph(graph)


def _shortest_ms(model: bytes, threads: int, clock: Clock) -> float:
    interpreter = _interpreter(model, threads)
    detail = interpreter.get_input_details()[0]
    image = np.random.default_rng(0).integers(0, 256, detail["shape"]).astype(detail["dtype"])
    interpreter.set_tensor(detail["index"], image)
    times = []
    for _ in range(_WARM_UP + REPEATS):
        start = clock()
        interpreter.invoke()
        times.append(clock() - start)
    return min(times[_WARM_UP:]) / 1e6


def _interpreter(model: bytes, threads: int) -> Any:
    from edge_ct.runtime import interpreter_class

    with captured_native_stderr():
        interpreter = interpreter_class()(model_content=model, num_threads=threads)
        interpreter.allocate_tensors()
    return interpreter
