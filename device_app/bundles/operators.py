"""The operators of a TFLite flatbuffer, their types, and which targets support them.

The tables Model, OperatorCode, SubGraph, Operator and Tensor of the TFLite schema are read with `struct` alone, because
a device has no schema library. The lists of supported operators come from the documents of the targets' makers at the
time of writing, by name and type only; a compiler may refuse further operators because of their shapes or sizes.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from edge_ct.errors import ModelRejected


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Builtin operators by their number in the TFLite schema.
_NAMES = _names(
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR "
    "FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC "
    "LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX "
    "SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD "
    "UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE "
    "UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE "
    "BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL "
    "LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT "
    "RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT "
    "UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR "
    "LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK "
    "ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 "
    "NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL "
    "PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS "
    "HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE "
    "READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL "
    "GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1"
)
_TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 17: "int4"}

# Operators that the README of TensorFlow Lite's XNNPACK delegate lists.
_XNNPACK_BOTH = _listed(
    "ADD CONCATENATION CONV_2D DEPTH_TO_SPACE DEPTHWISE_CONV_2D ELU EXPAND_DIMS FULLY_CONNECTED LEAKY_RELU "
    "LOGISTIC MAX_POOL_2D MEAN MUL PAD RESHAPE RESIZE_BILINEAR SLICE SPLIT STRIDED_SLICE SUB TANH TRANSPOSE "
    "TRANSPOSE_CONV"
)
_XNNPACK = {
    "float32": _XNNPACK_BOTH
    | _listed(
        "ABS AVERAGE_POOL_2D BATCH_MATMUL CEIL DIV FLOOR GELU HARD_SWISH MAXIMUM MINIMUM NEG PRELU RELU RELU6 "
        "RELU_N1_TO_1 ROUND RSQRT SOFTMAX SPACE_TO_DEPTH SQRT SQUARE SQUARED_DIFFERENCE"
    ),
    "int8": _XNNPACK_BOTH | {"DEQUANTIZE", "QUANTIZE"},
}
_XNNPACK["uint8"] = _XNNPACK["int8"]
# Operators of LiteRT for Microcontrollers, from its MicroMutableOpResolver.
_MICRO = _listed(
    "ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS "
    "BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D "
    "DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV "
    "FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D "
    "LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D "
    "MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_MAX REDUCE_MIN "
    "RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX "
    "SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM "
    "SVDF TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE"
)
# Operators that the Edge TPU compiler maps, from Coral's table; 8-bit integers only.
_EDGE_TPU = _listed(
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION "
    "LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 "
    "RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT "
    "SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV"
)
_MICRO_TYPES = frozenset(("int8", "int16", "float32"))


class OperatorCount(msgspec.Struct, frozen=True):
    """An operator of one type, and how often it occurs in a graph.

    Attributes:
        type: Type of its tensors, for example int8 or float32.
        xnnpack: True if the CPU delegate XNNPACK lists it.
        micro: True if LiteRT for Microcontrollers lists it.
        edge_tpu: True if the Coral Edge TPU lists it.
    """

    name: str
    type: str
    count: int
    xnnpack: bool
    micro: bool
    edge_tpu: bool


def count_operators(flatbuffer: bytes, source: str = "model") -> tuple[OperatorCount, ...]:
    """Count the operators of the main graph.

    Args:
        flatbuffer: The content of a TFLite file.
        source: The name of the file, for errors.

    Returns:
        The operators, the most frequent first.

    Raises:
        ModelRejected: The flatbuffer is damaged.
    """
    try:
        counts = Counter(_operators(flatbuffer))
    except (struct.error, IndexError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise ModelRejected(f"{source}: damaged flatbuffer: {error}") from error
    return tuple(
        OperatorCount(
            name,
            kind,
            count,
            xnnpack=name in _XNNPACK.get(kind, ()),
            micro=name in _MICRO and (kind in _MICRO_TYPES or (name, kind) == ("QUANTIZE", "uint8")),
            edge_tpu=name in _EDGE_TPU and kind in ("int8", "uint8"),
        )
        for (name, kind), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


@dataclass(frozen=True)
class _Table:
    """A table of a flatbuffer, little-endian; its vtable holds the offsets of its fields."""

    data: bytes
    at: int

    def _field(self, number: int) -> int:
        """Return the offset of a field; 0 if the field is absent and has its default value."""
        vtable = self.at - _read("<i", self.data, self.at)
        size = _read("<H", self.data, vtable)
        entry = 4 + 2 * number
        offset = _read("<H", self.data, vtable + entry) if entry + 2 <= size else 0
        return self.at + offset if offset else 0

    def scalar(self, number: int, kind: str) -> int:
        at = self._field(number)
        return _read(kind, self.data, at) if at else 0

    def vector(self, number: int) -> tuple[int, int]:
        """Return the offset of the first element and the number of elements."""
        at = self._field(number)
        if not at:
            return 0, 0
        at += _read("<I", self.data, at)
        count = _read("<I", self.data, at)
        if at + 4 + 4 * count > len(self.data) and count:
            raise ValueError("a vector extends beyond the end of the file")
        return at + 4, count

    def integers(self, number: int) -> tuple[int, ...]:
        at, count = self.vector(number)
        return struct.unpack_from(f"<{count}i", self.data, at)

    def tables(self, number: int) -> list[_Table]:
        at, count = self.vector(number)
        return [_Table(self.data, spot + _read("<I", self.data, spot)) for spot in range(at, at + 4 * count, 4)]

    def text(self, number: int) -> str:
        at = self._field(number)
        if not at:
            return ""
        at += _read("<I", self.data, at)
        length = _read("<I", self.data, at)
        return self.data[at + 4 : at + 4 + length].decode()


def _operators(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the name and type of each operator of the first subgraph."""
    model = _Table(data, _read("<I", data, 0))
    names = [_name(code) for code in model.tables(1)]
    graph = model.tables(2)[0]
    types = [_TYPES.get(tensor.scalar(1, "<b"), "other") for tensor in graph.tables(0)]
    for operator in graph.tables(3):
        # The type is that of the first input, not of the output: DEQUANTIZE is then an operator on integers.
        tensors = [index for index in (*operator.integers(1), *operator.integers(2)) if index >= 0]
        yield names[operator.scalar(0, "<I")], types[tensors[0]] if tensors else "other"


def _name(code: _Table) -> str:
    number = max(code.scalar(0, "<b"), code.scalar(3, "<i"))
    if number == _NAMES.index("CUSTOM"):
        return f"CUSTOM {code.text(1)}".strip()
    return _NAMES[number] if 0 <= number < len(_NAMES) else f"BUILTIN {number}"


def _read(kind: str, data: bytes, at: int) -> int:
    if at < 0:
        raise ValueError("an offset lies before the start of the file")
    return int(struct.unpack_from(kind, data, at)[0])
