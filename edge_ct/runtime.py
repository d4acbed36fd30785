"""The TFLite interpreter: `ai-edge-litert`, or `tflite-runtime` where LiteRT has no wheel (32-bit Arm).

OpenVINO can take its place where it is installed and asked for; see `engines`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .engines.names import DEFAULT_ENGINE, EngineName
from .errors import EdgeCTError, MissingExtra, ModelRejected
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


def _load_interpreter(engine: EngineName, model: bytes, threads: int) -> Any:
    if engine == "openvino":
        from .engines.openvino_interpreter import OpenVinoInterpreter

        return OpenVinoInterpreter(interpreter_class(), model, threads)
    return interpreter_class()(model_content=model, num_threads=threads)


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of the graph for one slice.

    Attributes:
        stored: The logits as the graph stores them, [2], in the dtype of the graph.
        logits: The logits as real numbers, float32 [2].
        class_map: float32 [h, w, 2]; None where the network has no class map.
        embedding: The pooled features, float32 [e].
        lesion_map: The logits of each cell showing a lesion, float32 [h, w]; None where the network has no lesion map.
    """

    stored: np.ndarray
    logits: np.ndarray
    class_map: np.ndarray | None
    embedding: np.ndarray
    lesion_map: np.ndarray | None = None


class Runtime:
    """One interpreter with its tensors checked against the manifest. Not safe to share between threads."""

    def __init__(
        self,
        model: bytes,
        tensors: Tensors,
        threads: int = 1,
        source: str = "model",
        engine: EngineName = DEFAULT_ENGINE,
    ) -> None:
        """Load a flatbuffer and check its tensors.

        Args:
            model: A TFLite flatbuffer; bytes after its end are ignored.
            tensors: The tensors as the manifest describes them.
            threads: Number of threads of one inference.
            source: The name of the model in messages.
            engine: The engine that computes the graph.

        Raises:
            ModelRejected: The flatbuffer does not load, or a tensor is not as the manifest describes it.
            MissingExtra: The engine is not installed.
        """
        self._tensors = tensors
        try:
            with native_output.captured_native_stderr():
                self._interpreter = _load_interpreter(engine, model, threads)
                self._interpreter.allocate_tensors()
        except MissingExtra:
            raise
        except Exception as error:
            lines = str(error).splitlines() or [type(error).__name__]
            loader = "the TFLite runtime" if engine == DEFAULT_ENGINE else engine
            raise ModelRejected(f"{source}: {loader} cannot load it: {lines[0]}") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input = _index(inputs, tensors.input, "input", source)
        self._logits = _index(outputs, tensors.logits, "logits", source)
        self._class_map = _index(outputs, tensors.class_map, "class map", source) if tensors.class_map else None
        self._embedding = _index(outputs, tensors.embedding, "embedding", source)
        self._lesion_map = _index(outputs, tensors.lesion_map, "lesion map", source) if tensors.lesion_map else None
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
        lesion_map = self._map_of_last(self._lesion_map, self._tensors.lesion_map)
        return Outputs(
            stored=stored,
            logits=_real(stored, self._tensors.logits),
            class_map=self._map_of_last(self._class_map, self._tensors.class_map),
            embedding=_real(self._interpreter.get_tensor(self._embedding)[0], self._tensors.embedding),
            lesion_map=None if lesion_map is None else lesion_map[:, :, 0],
        )

    def _map_of_last(self, index: int | None, tensor: Tensor | None) -> np.ndarray | None:
        if index is None or tensor is None:
            return None
        return _real(self._interpreter.get_tensor(index)[0], tensor)


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
        flatbuffer: A TFLite file with one input and the outputs logits, embedding and, if the network has them,
            class map and lesion map.
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
        tensors[output_kind(tensor.shape)] = tensor
    if set(tensors) - {"class_map", "lesion_map"} != {"logits", "embedding"} or len(tensors) != len(details):
        raise EdgeCTError(
            "the converted graph must have the outputs logits, embedding and perhaps class map and lesion map, "
            f"but has {tensors}"
        )
    return Tensors(
        input=describe(interpreter.get_input_details()[0], 0),
        logits=tensors["logits"],
        class_map=tensors.get("class_map"),
        embedding=tensors["embedding"],
        byte_scale=preprocess.scale,
        byte_zero_point=preprocess.zero_point,
        lesion_map=tensors.get("lesion_map"),
    )


def output_kind(shape: Sequence[int]) -> str:
    """Tell which output of the graph a tensor of this shape is; "other" where it is none."""
    if len(shape) == 2:
        return "logits" if shape[1] == 2 else "embedding"
    if len(shape) == 4:
        return {1: "lesion_map", 2: "class_map"}.get(int(shape[3]), "other")
    return "other"
