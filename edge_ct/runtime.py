"""The TFLite interpreter: `ai-edge-litert`, or `tflite-runtime` where LiteRT has no wheel (32-bit Arm)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import EdgeCTError, ModelRejected
from .manifest import Tensor, Tensors
from .preprocess import Preprocess
from .system import native_output


def interpreter_class() -> Any:
    """Return the `Interpreter` class of the runtime that is installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    return Interpreter


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of the graph for one slice.

    Attributes:
        stored: The logits as the graph stores them, [2], in the dtype of the graph.
        logits: The logits as real numbers, float32 [2].
        class_map: float32 [h, w, 2]; None where the network has no class map.
        embedding: The pooled features, float32 [e].
    """

    stored: np.ndarray
    logits: np.ndarray
    class_map: np.ndarray | None
    embedding: np.ndarray


class Runtime:
    """One interpreter with its tensors checked against the manifest. Not safe to share between threads."""

    def __init__(self, model: bytes, tensors: Tensors, threads: int = 1, source: str = "model") -> None:
        """Load a flatbuffer and check its tensors.

        Args:
            model: A TFLite flatbuffer; bytes after its end are ignored.
            tensors: The tensors as the manifest describes them.
            threads: Number of threads of one inference.
            source: The name of the model in messages.

        Raises:
            ModelRejected: The flatbuffer does not load, or a tensor is not as the manifest describes it.
        """
        self._tensors = tensors
        try:
            with native_output.captured_native_stderr():
                self._interpreter = interpreter_class()(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelRejected(f"{source}: the TFLite runtime cannot load it: {str(error).splitlines()[0]}") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input = _index(inputs, tensors.input, "input", source)
        self._logits = _index(outputs, tensors.logits, "logits", source)
        self._class_map = tensors.class_map and _index(outputs, tensors.class_map, "class map", source)
        self._embedding = _index(outputs, tensors.embedding, "embedding", source)
        self._stored = None if tensors.input.dtype == "uint8" else stored_bytes(tensors)

    @property
    def delegated(self) -> bool | None:
        """Whether a delegate (XNNPACK) runs at least a part of the graph; None where the runtime does not report it."""
        try:
            operators = self._interpreter._get_ops_details()
        except AttributeError:
            return None
        return any(operator["op_name"] == "DELEGATE" for operator in operators)

    def invoke(self, image: np.ndarray) -> None:
        """Run the graph on one image, uint8 [size, size, 1]."""
        stored = image if self._stored is None else self._stored[image]
        self._interpreter.set_tensor(self._input, stored[np.newaxis])
        self._interpreter.invoke()

    def outputs(self) -> Outputs:
        """Return the outputs of the last `invoke`."""
        stored = self._interpreter.get_tensor(self._logits)[0]
        return Outputs(
            stored=stored,
            logits=_real(stored, self._tensors.logits),
            class_map=self._class_map_of_last(),
            embedding=_real(self._interpreter.get_tensor(self._embedding)[0], self._tensors.embedding),
        )

    def _class_map_of_last(self) -> np.ndarray | None:
        if self._class_map is None or self._tensors.class_map is None:
            return None
        return _real(self._interpreter.get_tensor(self._class_map)[0], self._tensors.class_map)


def stored_bytes(tensors: Tensors) -> np.ndarray:
    """Return a lookup table from a grey level to the stored value of an input that is not uint8.

    Args:
        tensors: The tensors of a graph.

    Returns:
        One value for each grey level, [256], in the dtype of the input.
    """
    tensor = tensors.input
    real = (np.arange(256, dtype=np.float32) - np.float32(tensors.byte_zero_point)) * np.float32(tensors.byte_scale)
    if tensor.dtype == "float32":
        return real
    limits = np.iinfo(tensor.dtype)
    steps = np.rint(real.astype(np.float64) / tensor.scale) + tensor.zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max).astype(tensor.dtype))


def _real(stored: np.ndarray, tensor: Tensor) -> np.ndarray:
    return (stored.astype(np.float32) - np.float32(tensor.zero_point)) * np.float32(tensor.scale)


def _index(details: list[dict[str, Any]], tensor: Tensor, name: str, source: str) -> int:
    if tensor.position >= len(details):
        raise ModelRejected(f"{source}: the graph has no {name} tensor {tensor.position}")
    detail = details[tensor.position]
    actual = describe(detail, tensor.position)
    if actual != tensor:
        raise ModelRejected(f"{source}: {name} tensor differs from the manifest: {actual} instead of {tensor}")
    return int(detail["index"])


def describe(detail: dict[str, Any], position: int) -> Tensor:
    """Return the tensor detail of an interpreter in the form of the manifest."""
    scale, zero_point = detail["quantization"]
    return Tensor(
        position=position,
        dtype=np.dtype(detail["dtype"]).name,
        shape=tuple(int(side) for side in detail["shape"]),
        scale=float(scale) or 1.0,
        zero_point=int(zero_point),
    )


def read_tensors(flatbuffer: bytes, preprocess: Preprocess | None = None) -> Tensors:
    """Describe the input and the outputs of a converted network, as its manifest stores them.

    The outputs are told apart by their shapes, because the converter numbers and orders them as it likes.

    Args:
        flatbuffer: A TFLite file with one input and the outputs logits, embedding and, if the network has one,
            class map.
        preprocess: How slices were normalised for an input that does not take bytes; by default the usual scaling.

    Raises:
        EdgeCTError: The file has other outputs than these.
    """
    preprocess = preprocess or Preprocess(1)
    interpreter = interpreter_class()(model_content=flatbuffer)
    details = interpreter.get_output_details()
    tensors: dict[str, Tensor] = {}
    for position, detail in enumerate(details):
        tensor = describe(detail, position)
        kind = "logits" if tensor.shape == (1, 2) else {4: "class_map", 2: "embedding"}.get(len(tensor.shape), "other")
        tensors[kind] = tensor
    if set(tensors) - {"class_map"} != {"logits", "embedding"} or len(tensors) != len(details):
        raise EdgeCTError(
            f"the converted graph must have the outputs logits, embedding and perhaps class map, but has {tensors}"
        )
    return Tensors(
        input=describe(interpreter.get_input_details()[0], 0),
        logits=tensors["logits"],
        class_map=tensors.get("class_map"),
        embedding=tensors["embedding"],
        byte_scale=preprocess.scale,
        byte_zero_point=preprocess.zero_point,
    )
