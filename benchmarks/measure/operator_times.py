"""What a TFLite graph consists of, and where its time goes.

LiteRT's Python interpreter has no profiler. So the graph is cut after each of its operators and every piece is timed
with the same kernels: what an operator costs is the difference between two pieces. The least of several times is taken,
as disturbances only add; on a noisy machine a small operator's difference can still be negative, and is left so.
Optimisation across a cut is lost: `whole_ms` beside their sum says how much.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any

import msgspec
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.system import native_output
from edge_ct.system.progress import QUIET, Progress

from .timing import Clock

REPEATS = 30
_WARM_UP = 3
# Operators whose second input is the kernel: all of its numbers are used once at every place of the output.
_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


class Operator(msgspec.Struct, frozen=True):
    """One operator. macs: multiply-accumulates. ms: None where it was not timed."""

    name: str
    output: tuple[int, ...]
    macs: int
    ms: float | None = None


class Profile(msgspec.Struct, frozen=True):
    """whole_ms: least time of the whole graph. operators: in the order of the graph; their times add up to the last
    piece's, not exactly to `whole_ms`.
    """

    whole_ms: float
    threads: int
    operators: tuple[Operator, ...]


def listed(interpreter: Any) -> tuple[Operator, ...]:
    """The operators of an interpreter, delegates left out."""
    tensors = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    found = []
    for operator in interpreter._get_ops_details():
        if operator["op_name"] == "DELEGATE":
            continue
        output = tuple(int(side) for side in tensors[operator["outputs"][0]]["shape"])
        kernel = tensors[operator["inputs"][1]]["shape"] if operator["op_name"] in _KERNELS else (0,)
        places = output[1:3] if len(output) == 4 else output[:1]
        macs = int(np.prod(kernel, dtype=np.int64) * np.prod(places, dtype=np.int64))
        found.append(Operator(operator["op_name"], output, macs))
    return tuple(found)


def count_macs(model: bytes) -> int:
    """Multiply-accumulates of one inference."""
    return sum(operator.macs for operator in listed(_interpreter(model, 1)))


def profile(model: bytes, threads: int = 1, progress: Progress = QUIET, clock: Clock = perf_counter_ns) -> Profile:
    """Time every operator of a flatbuffer. Raises `EdgeCTError` where the runtime brings no writer of flatbuffers."""
    operators = listed(_interpreter(model, threads))
    times = []
    with progress.bar("operators", len(operators)) as on_done:
        for piece in _pieces(model):
            times.append(_least_ms(piece, threads, clock))
            on_done(1)
    own = np.diff(times, prepend=0.0)
    return Profile(
        whole_ms=_least_ms(model, threads, clock),
        threads=threads,
        operators=tuple(
            msgspec.structs.replace(operator, ms=round(float(ms), 4))
            for operator, ms in zip(operators, own, strict=True)
        ),
    )


def _pieces(model: bytes) -> Iterator[bytes]:
    """The graph up to and with each operator, whose outputs are the piece's."""
    try:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise EdgeCTError("this runtime brings no writer of flatbuffers: no profile of operators here") from error
    graph = schema.ModelT.InitFromPackedBuf(model, 0)
    graph.signatureDefs = []
    body = graph.subgraphs[0]
    operators = body.operators
    for count in range(1, len(operators) + 1):
        body.operators = operators[:count]
        body.outputs = operators[count - 1].outputs
        builder = flatbuffers.Builder(len(model) + 4096)
        builder.Finish(graph.Pack(builder), b"TFL3")
        yield bytes(builder.Output())


def _least_ms(model: bytes, threads: int, clock: Clock) -> float:
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

    with native_output.captured_native_stderr():
        interpreter = interpreter_class()(model_content=model, num_threads=threads)
        interpreter.allocate_tensors()
    return interpreter
