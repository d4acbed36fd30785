"""One engine of `peers`, in a process and an environment of its own; only the engine `edge-ct` imports edge-ct.

python peer_worker.py ENGINE MODEL SLICE.png INPUT.png THREADS

INPUT.png holds what the network of the bundle sees of the slice, so that the model alone computes the same in every
engine. The first line of output is JSON with the engine's version and the stored logits. Each line of input is
`model SECONDS QUERIES` or `end SECONDS QUERIES`; a turn ends when one of the two limits is reached, and the worker
answers with a line of JSON: the milliseconds of every query.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import cv2
import numpy as np

SCALE, ZERO_POINT = 1 / 127.5, 128


class Engine(NamedTuple):
    """An engine that has loaded a model.

    Attributes:
        package: Name of the engine's Python package.
        infer: Image, uint8 [1, size, size, 1] -> logits.
        classify: Bytes of a file -> result; None decodes, resizes and infers, as a plain script does.
    """

    package: str
    infer: Callable[[Any], Any]
    classify: Callable[[bytes], Any] | None = None


def preprocess_plainly(content: bytes, size: int) -> Any:
    """Decode to grey and resize, as a plain script does; returns uint8 [1, size, size, 1]."""
    image: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.ascontiguousarray(cv2.resize(image, (size, size))[np.newaxis, :, :, np.newaxis])


def edge_ct(model: str, threads: int) -> Engine:
    """Load the engine that ships, with its own path from bytes to a result."""
    from edge_ct.classifier import Classifier

    classifier = Classifier(model, threads)
    return Engine("edge-ct", lambda image: classifier.infer(image[0])[1].stored, classifier.classify)


def tflite(model: str, threads: int) -> Engine:
    """Load LiteRT, or tflite-runtime where LiteRT is not installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter

        name = "ai-edge-litert"
    except ImportError:
        from tflite_runtime.interpreter import Interpreter

        name = "tflite-runtime"
    interpreter: Any = Interpreter(model_path=model, num_threads=threads)
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]["index"]
    outputs = interpreter.get_output_details()

    def infer(image: Any) -> Any:
        interpreter.set_tensor(into, image)
        interpreter.invoke()
        return select_logits([interpreter.get_tensor(output["index"]) for output in outputs])

    return Engine(name, infer)


def onnxruntime(model: str, threads: int) -> Engine:
    """Load ONNX Runtime with its processor provider."""
    import onnxruntime as engine

    options = engine.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = engine.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return Engine("onnxruntime", lambda image: select_logits(session.run(None, {name: image})))


def openvino(model: str, threads: int) -> Engine:
    """Load OpenVINO, which reads the TFLite file itself."""
    import openvino as engine

    core = engine.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return Engine("openvino", lambda image: select_logits(list(request.infer({0: image}).values())))


def keras(model: str, threads: int) -> Engine:
    """Load the network that the bundle was made from, at full precision, for a plain `predict`."""
    import keras as engine
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    network = engine.saving.load_model(model, compile=False)

    def infer(image: Any) -> Any:
        return network.predict((image.astype(np.float32) - ZERO_POINT) * SCALE, verbose=0)[0]

    return Engine("keras", infer)


def select_logits(outputs: Sequence[Any]) -> Any:
    """Return the output of shape [1, 2]."""
    return next(output for output in outputs if tuple(output.shape) == (1, 2))[0]


ENGINES = {
    "edge-ct": edge_ct,
    "litert": tflite,
    "tflite-runtime": tflite,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "keras": keras,
}


def main(name: str, model: str, path: str, network_input: str, threads: str) -> None:
    """Answer lines of input until there are no more."""
    # Native libraries may print to standard output: that goes to standard error, and answers to the original output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine = ENGINES[name](model, int(threads))
    content = Path(path).read_bytes()
    pixels: Any = cv2.imread(network_input, cv2.IMREAD_GRAYSCALE)
    image, size = np.ascontiguousarray(pixels[np.newaxis, :, :, np.newaxis]), len(pixels)
    classify = engine.classify or (lambda content: engine.infer(preprocess_plainly(content, size)))
    queries: dict[str, Callable[[], Any]] = {"model": lambda: engine.infer(image), "end": lambda: classify(content)}
    for query in queries.values():
        for _ in range(10):
            query()
    first = {
        "version": f"{engine.package} {version(engine.package)}",
        "logits": np.asarray(engine.infer(image), float).tolist(),
    }
    print(json.dumps(first), file=answers, flush=True)
    for line in sys.stdin:
        kind, seconds, count = line.split()
        query, until = queries[kind], perf_counter() + float(seconds)
        times: list[float] = []
        while len(times) < int(count) and (not times or perf_counter() < until):
            start = perf_counter()
            query()
            times.append(1000 * (perf_counter() - start))
        print(json.dumps(times), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
