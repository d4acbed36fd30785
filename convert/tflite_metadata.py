"""TFLite Metadata of a file: what Netron, MediaPipe and Android Studio show of its input, its outputs and its labels.

The metadata is a flatbuffer of its own (identifier `M001`, schema `metadata_schema.fbs` of TensorFlow Lite Support) in
a buffer of the model that is named `TFLITE_METADATA`. The files that it names are members of the zip behind the model,
which is where a bundle has them. The graph is not changed.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.manifest import Tensor, Tensors
from edge_ct.runtime import read_tensors

NAME = b"TFLITE_METADATA"
LABELS = "labels.txt"
_IDENTIFIER = b"M001"
_ALIGNMENT = 16  # of every buffer, by the schema of TFLite
# Enumerations of metadata_schema.fbs.
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES, _GRAYSCALE, _TENSOR_AXIS_LABELS = 2, 1, 2, 2
_DESCRIPTIONS = {
    "input": "Grey levels of an axial chest CT slice in a lung window, 0 to 255.",
    "logits": "Scores of the two classes; calibrate their difference as manifest.json says.",
    "class_map": "Scores of the two classes in each cell; the logits are their mean.",
    "embedding": "Pooled features, for the outlier detector.",
    "lesion_map": "Logit of each cell showing a lesion.",
}


def add_metadata(flatbuffer: bytes, tensors: Tensors, *, name: str, licence: str, use: str) -> bytes:
    """Return a TFLite file with metadata added or replaced.

    Args:
        flatbuffer: The TFLite file.
        tensors: Its tensors.
        name: Name of the model.
        licence: Licence of the weights.
        use: Intended use, which becomes the description of the model.

    Raises:
        EdgeCTError: The file with metadata has other tensors than before.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(flatbuffer), 0))
    content = np.frombuffer(pack_metadata(tensors, name=name, licence=licence, use=use), np.uint8)
    entries = [entry for entry in model.metadata or [] if entry.name != NAME]
    entry = schema.MetadataT()
    entry.name, entry.buffer = NAME, len(model.buffers)
    model.metadata = [*entries, entry]
    added = schema.BufferT()
    added.data = content
    for buffer in model.buffers:
        if buffer.offset > 1:  # its content lies behind the flatbuffer, where some quantisers put it
            buffer.data = np.frombuffer(flatbuffer, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    model.buffers = [_AlignedBuffer(buffer) for buffer in (*model.buffers, added)]
    builder = flatbuffers.Builder(len(flatbuffer) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    made = bytes(builder.Output())
    if read_tensors(made) != read_tensors(flatbuffer):
        raise EdgeCTError("the file with metadata has other tensors than the file without")
    return made


class _AlignedBuffer:
    """A buffer that is packed on its boundary of 16 bytes, which the generated class would not keep."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def Pack(self, builder: Any) -> int:
        from ai_edge_litert import schema_py_generated as schema

        data = None if self._buffer.data is None else np.asarray(self._buffer.data, np.uint8).tobytes()
        vector = 0
        if data:
            builder.StartVector(1, len(data), _ALIGNMENT)
            builder.head = builder.Head() - len(data)
            builder.Bytes[builder.Head() : builder.Head() + len(data)] = data
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector:
            schema.BufferAddData(builder, vector)
        schema.BufferAddOffset(builder, self._buffer.offset)
        schema.BufferAddSize(builder, self._buffer.size)
        return int(schema.BufferEnd(builder))


def pack_metadata(tensors: Tensors, *, name: str, licence: str, use: str) -> bytes:
    """Return the metadata as a flatbuffer: `ModelMetadata` with one `SubGraphMetadata`. Arguments as `add_metadata`."""
    builder = flatbuffers.Builder(1024)
    outputs = {key: getattr(tensors, key) for key in ("logits", "class_map", "embedding", "lesion_map")}
    ordered = sorted((tensor.position, key) for key, tensor in outputs.items() if tensor is not None)
    inputs = _vector(builder, [_tensor(builder, "input", tensors.input)])
    described = _vector(builder, [_tensor(builder, key, outputs[key]) for _, key in ordered])
    graph = _table(builder, 9, {0: builder.CreateString(name), 2: inputs, 3: described})
    fields = {
        0: builder.CreateString(name),
        1: builder.CreateString(use),
        3: _vector(builder, [graph]),
        5: builder.CreateString(licence),
        7: builder.CreateString("1.0.0"),
    }
    builder.Finish(_table(builder, 8, fields), _IDENTIFIER)
    return bytes(builder.Output())


def _tensor(builder: Any, key: str, tensor: Tensor) -> int:
    """Write a `TensorMetadata`: name, description, kind of content, and for the logits the file of labels."""
    if key == "input":
        kind = _IMAGE_PROPERTIES
        builder.StartObject(2)  # ImageSize
        builder.PrependUint32Slot(0, tensor.shape[2], 0)
        builder.PrependUint32Slot(1, tensor.shape[1], 0)
        size = builder.EndObject()
        builder.StartObject(2)  # ImageProperties
        builder.PrependInt8Slot(0, _GRAYSCALE, 0)
        builder.PrependUOffsetTRelativeSlot(1, size, 0)
        properties = builder.EndObject()
    else:
        kind = _FEATURE_PROPERTIES
        properties = _table(builder, 0, {})
    builder.StartObject(3)  # Content
    builder.PrependUint8Slot(0, kind, 0)
    builder.PrependUOffsetTRelativeSlot(1, properties, 0)
    content = builder.EndObject()
    fields = {0: builder.CreateString(key), 1: builder.CreateString(_DESCRIPTIONS[key]), 3: content}
    if key == "logits":
        file_name, described = (
            builder.CreateString(LABELS),
            builder.CreateString("The classes, in the order of the scores."),
        )
        builder.StartObject(5)  # AssociatedFile
        builder.PrependUOffsetTRelativeSlot(0, file_name, 0)
        builder.PrependUOffsetTRelativeSlot(1, described, 0)
        builder.PrependInt8Slot(2, _TENSOR_AXIS_LABELS, 0)
        fields[6] = _vector(builder, [builder.EndObject()])
    return _table(builder, 7, fields)


def _table(builder: Any, slots: int, fields: dict[int, int]) -> int:
    builder.StartObject(slots)
    for slot, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
