"""Where a quantised file departs from its float one, layer by layer: the signal-to-noise ratio of every tensor."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import msgspec
import numpy as np

from edge_ct.preprocess import Preprocess
from edge_ct.runtime import read_tensors, stored_bytes
from edge_ct.system import native_output

_HEAD = {(1, 2): "logits"}
# Decibels of a tensor that is the same in both files.
EXACT = 200.0


class LayerError(msgspec.Struct, frozen=True):
    """The output of one operation. name: its Keras layer's. snr_db: of its output, with all noise from before.

    own: noise to signal that this operation adds to the worst of its inputs, 0 where it adds none. bytes: of weights.
    """

    name: str
    op: str
    snr_db: float
    own: float
    bytes: int


def layer_errors(
    fp32: bytes, quantised: bytes, images: np.ndarray, preprocess: Preprocess, layers: tuple[str, ...]
) -> tuple[LayerError, ...]:
    """Compare two files of one network in order of execution. fp32: with float32 input. images: uint8 [n, s, s, 1].

    layers: names of the Keras network's. Tensors are matched by their names; those that one file alone has, where
    operations were merged differently, are left out.
    """
    first, second = _Interpreter(fp32, preprocess), _Interpreter(quantised, preprocess)
    shared = [name for name in first.outputs if name in second.outputs]
    signal, noise = dict.fromkeys(shared, 0.0), dict.fromkeys(shared, 0.0)
    for image in images:
        first.invoke(image)
        second.invoke(image)
        for name in shared:
            expected, found = first.real(name), second.real(name)
            signal[name] += float((expected**2).sum())
            noise[name] += float(((found - expected) ** 2).sum())
    ratio = {name: noise[name] / max(signal[name], 1e-30) for name in shared}
    found = []
    for name in shared:
        operation = first.outputs[name]
        before = max((ratio[source] for source in first.sources(name) if source in ratio), default=0.0)
        found.append(
            LayerError(
                name=layer_of(name, first.shape(name), layers),
                op=operation["op_name"],
                snr_db=min(EXACT, -10 * math.log10(ratio[name])) if ratio[name] > 0 else EXACT,
                own=max(0.0, ratio[name] - before),
                bytes=second.weight_bytes(name),
            )
        )
    return tuple(found)


def layer_of(tensor: str, shape: tuple[int, ...], layers: tuple[str, ...]) -> str:
    """The Keras layer that a tensor comes from: `net_1/stage1_relu_1/Relu;net_1/stage1_conv_1/convolution` is
    stage1_conv's. The graph's outputs, which the converter names anew, are told by their shapes."""
    for part in reversed(tensor.split(";")):
        for word in reversed(part.split("/")):
            # Keras numbers a layer's operations on when it traces them.
            for candidate in (re.sub(r"_\d+$", "", word), word):
                if candidate in layers:
                    return candidate
    if tensor.startswith(("Identity", "StatefulPartitionedCall")):
        return "class_map" if len(shape) == 4 else _HEAD.get(shape, "embedding")
    return tensor


class _Interpreter:
    """A file whose every tensor can be read after a run, in order, without delegates."""

    def __init__(self, flatbuffer: bytes, preprocess: Preprocess) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with warnings.catch_warnings(), native_output.captured_native_stderr():
            warnings.simplefilter("ignore")
            self._interpreter = Interpreter(
                model_content=flatbuffer,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self._interpreter.allocate_tensors()
        self._tensors = {tensor["index"]: tensor for tensor in self._interpreter.get_tensor_details()}
        # Models made on the way are numbered through the life of the process.
        self._names = {
            index: re.sub(r"(^|;)functional(_\d+)*/", r"\1", tensor["name"]) for index, tensor in self._tensors.items()
        }
        operations = self._interpreter._get_ops_details()
        self.outputs: dict[str, Any] = {
            self._names[int(index)]: operation
            for operation in operations
            for index in operation["outputs"]
            if operation["op_name"] not in ("QUANTIZE", "DEQUANTIZE", "DELEGATE")
        }
        self._index = {self._names[int(i)]: int(i) for operation in operations for i in operation["outputs"]}
        tensors = read_tensors(flatbuffer, preprocess)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._bytes = None if tensors.input.dtype == "uint8" else stored_bytes(tensors)

    def invoke(self, image: np.ndarray) -> None:
        stored = image if self._bytes is None else self._bytes[image]
        self._interpreter.set_tensor(self._input, stored[np.newaxis])
        self._interpreter.invoke()

    def real(self, name: str) -> np.ndarray:
        tensor = self._tensors[self._index[name]]
        stored = self._interpreter.get_tensor(tensor["index"]).astype(np.float64)
        scale, zero_point = tensor["quantization"]
        return (stored - zero_point) * scale if scale else stored

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(side) for side in self._tensors[self._index[name]]["shape"])

    def sources(self, name: str) -> list[str]:
        return [self._names[int(index)] for index in self.outputs[name]["inputs"] if index >= 0]

    def weight_bytes(self, name: str) -> int:
        computed = {self._input, *self._index.values()}
        constants = {int(index) for index in self.outputs[name]["inputs"] if index >= 0} - computed
        tensors = [self._tensors[index] for index in constants]
        return sum(int(np.prod(one["shape"])) * np.dtype(one["dtype"]).itemsize for one in tensors)


def as_text(errors: tuple[LayerError, ...], most: int = 15) -> str:
    """The layers that add most noise, worst first."""
    worst = sorted(errors, key=lambda error: -error.own)[:most]
    width = max(len(error.name) for error in worst)
    lines = [f"{'layer':<{width}}  operation          SNR, dB  noise added    bytes"]
    lines += [
        f"{error.name:<{width}}  {error.op:<17}  {error.snr_db:7.1f}  {error.own:11.2e}  {error.bytes:7,}"
        for error in worst
    ]
    return "\n".join(lines)
