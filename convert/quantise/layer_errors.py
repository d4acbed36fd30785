"""The signal-to-noise ratio of every tensor of a quantised file against its float file."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import msgspec
import numpy as np

from edge_ct.preprocess import Preprocess
from edge_ct.runtime import output_kind, read_tensors, stored_bytes
from edge_ct.system import native_output

# Decibels of a tensor that is the same in both files.
EXACT = 200.0
_SHOWN_LAYERS = 15


class LayerError(msgspec.Struct, frozen=True):
    """The noise of one operation's output.

    Attributes:
        name: Name of the Keras layer.
        op: Name of the TFLite operation.
        snr_db: Signal-to-noise ratio of its output in dB, with all noise from earlier operations.
        added_noise: Ratio of noise to signal that this operation adds to the worst of its inputs; 0 if it adds none.
        bytes: Size of its weights.
    """

    name: str
    op: str
    snr_db: float
    added_noise: float
    bytes: int


def measure_layer_errors(
    fp32: bytes, quantised: bytes, images: np.ndarray, preprocess: Preprocess, layers: tuple[str, ...]
) -> tuple[LayerError, ...]:
    """Compare two files of one network in order of execution.

    Tensors are matched by name. A tensor that only one file has, because operations were merged differently, is left
    out.

    Args:
        fp32: The float file, with float32 input.
        quantised: The quantised file.
        images: uint8 [n, s, s, 1].
        preprocess: The preprocessing of the network.
        layers: Names of the Keras layers.
    """
    first, second = _TensorReader(fp32, preprocess), _TensorReader(quantised, preprocess)
    shared = [name for name in first.outputs if name in second.outputs]
    signal, noise = dict.fromkeys(shared, 0.0), dict.fromkeys(shared, 0.0)
    for image in images:
        first.invoke(image)
        second.invoke(image)
        for name in shared:
            expected, actual = first.real(name), second.real(name)
            signal[name] += float((expected**2).sum())
            noise[name] += float(((actual - expected) ** 2).sum())
    ratio = {name: noise[name] / max(signal[name], 1e-30) for name in shared}
    errors = []
    for name in shared:
        before = max((ratio[source] for source in first.sources(name) if source in ratio), default=0.0)
        errors.append(
            LayerError(
                name=layer_of(name, first.shape(name), layers),
                op=first.outputs[name]["op_name"],
                snr_db=min(EXACT, -10 * math.log10(ratio[name])) if ratio[name] > 0 else EXACT,
                added_noise=max(0.0, ratio[name] - before),
                bytes=second.weight_bytes(name),
            )
        )
    return tuple(errors)


def layer_of(tensor: str, shape: tuple[int, ...], layers: tuple[str, ...]) -> str:
    """Return the Keras layer that a tensor comes from.

    `net_1/stage1_relu_1/Relu;net_1/stage1_conv_1/convolution` comes from `stage1_conv`. The converter renames the
    outputs of the graph; they are recognised by their shapes.

    Args:
        tensor: Name of the tensor.
        shape: Its shape.
        layers: Names of the Keras layers.
    """
    for part in reversed(tensor.split(";")):
        for word in reversed(part.split("/")):
            # Keras appends a number to a layer's operations when it traces them.
            for candidate in (re.sub(r"_\d+$", "", word), word):
                if candidate in layers:
                    return candidate
    if tensor.startswith(("Identity", "StatefulPartitionedCall")):
        return output_kind(shape)
    return tensor


class _TensorReader:
    """A file whose every tensor can be read after a run; it runs in order, without delegates."""

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
        # Intermediate models get a new number each time one is made in the process.
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
        return np.asarray((stored - zero_point) * scale if scale else stored)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(side) for side in self._tensors[self._index[name]]["shape"])

    def sources(self, name: str) -> list[str]:
        return [self._names[int(index)] for index in self.outputs[name]["inputs"] if index >= 0]

    def weight_bytes(self, name: str) -> int:
        computed = {self._input, *self._index.values()}
        constants = {int(index) for index in self.outputs[name]["inputs"] if index >= 0} - computed
        tensors = [self._tensors[index] for index in constants]
        return sum(int(np.prod(tensor["shape"])) * np.dtype(tensor["dtype"]).itemsize for tensor in tensors)


def layer_error_table(errors: tuple[LayerError, ...]) -> str:
    """Format the layers that add most noise as a table, worst first."""
    worst = sorted(errors, key=lambda error: -error.added_noise)[:_SHOWN_LAYERS]
    width = max(len(error.name) for error in worst)
    lines = [f"{'layer':<{width}}  operation          SNR, dB  noise added    bytes"]
    lines += [
        f"{error.name:<{width}}  {error.op:<17}  {error.snr_db:7.1f}  {error.added_noise:11.2e}  {error.bytes:7,}"
        for error in worst
    ]
    return "\n".join(lines)
