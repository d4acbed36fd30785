"""One engine of `peers`, in a process and an environment of its own; it imports nothing of edge-ct but as `edge-ct`.

python peer_worker.py ENGINE MODEL SLICE.png SIZE THREADS

Lines on standard input: `model SECONDS QUERIES` or `end SECONDS QUERIES`, whichever is reached first ends the turn. One
line of JSON for each: the milliseconds of every query. The first line tells the version and the logits as stored.
"""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

SCALE, ZERO_POINT = 1 / 127.5, 128


def prepared(content, size):
    """What a plain script does: decode to grey, resize. uint8 [1, size, size, 1]."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.ascontiguousarray(cv2.resize(image, (size, size))[np.newaxis, :, :, np.newaxis])


def edge_ct(model, size, threads):
    """The engine that ships: its own way from bytes to a result."""
    from edge_ct import slices
    from edge_ct.classifier import Classifier

    classifier = Classifier(model, threads)

    def prepare(content):
        return classifier.manifest.preprocess(slices.decode(content, "slice").pixels)

    def infer(image):
        return classifier.infer(image)[1].stored

    return "edge-ct", prepare, infer, classifier.classify


def tflite(model, size, threads):
    """LiteRT or tflite-runtime, plainly."""
    try:
        from ai_edge_litert.interpreter import Interpreter

        name = "ai-edge-litert"
    except ImportError:
        from tflite_runtime.interpreter import Interpreter

        name = "tflite-runtime"
    interpreter = Interpreter(model_path=model, num_threads=threads)
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]["index"]
    outputs = interpreter.get_output_details()

    def infer(image):
        interpreter.set_tensor(into, image)
        interpreter.invoke()
        found = [interpreter.get_tensor(output["index"]) for output in outputs]
        return logits(found)

    return name, None, infer, None


def onnxruntime(model, size, threads):
    """ONNX Runtime on its processor provider."""
    import onnxruntime as engine

    options = engine.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = engine.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return "onnxruntime", None, lambda image: logits(session.run(None, {name: image})), None


def openvino(model, size, threads):
    """OpenVINO reads the TFLite file itself."""
    import openvino as engine

    core = engine.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return "openvino", None, lambda image: logits(list(request.infer({0: image}).values())), None


def keras(model, size, threads):
    """A plain `predict` of the network that the bundle was made of, at full precision."""
    import keras as engine
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    network = engine.saving.load_model(model, compile=False)

    def infer(image):
        return network.predict((image.astype(np.float32) - ZERO_POINT) * SCALE, verbose=0)[0]

    return "keras", None, infer, None


def logits(outputs):
    """The output of shape [1, 2]."""
    return next(output for output in outputs if tuple(output.shape) == (1, 2))[0]


ENGINES = {
    "edge-ct": edge_ct,
    "litert": tflite,
    "tflite-runtime": tflite,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "keras": keras,
}


def main(engine, model, path, size, threads):
    """Answer lines until there are no more."""
    # Native libraries print as they like: answers go where standard output was, theirs to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    size = int(size)
    package, prepare, infer, whole = ENGINES[engine](model, size, int(threads))
    prepare = prepare or (lambda content: prepared(content, size))
    whole = whole or (lambda content: infer(prepare(content)))
    content = Path(path).read_bytes()
    image = prepare(content)
    queries = {"model": lambda: infer(image), "end": lambda: whole(content)}
    for query in queries.values():
        for _ in range(10):
            query()
    first = {"version": f"{package} {version(package)}", "logits": np.asarray(infer(image), float).tolist()}
    print(json.dumps(first), file=answers, flush=True)
    for line in sys.stdin:
        kind, seconds, count = line.split()
        query, until, times = queries[kind], perf_counter() + float(seconds), []
        while len(times) < int(count) and (not times or perf_counter() < until):
            start = perf_counter()
            query()
            times.append(1000 * (perf_counter() - start))
        print(json.dumps(times), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
