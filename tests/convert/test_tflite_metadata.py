"""TFLite Metadata: the graph gives the same outputs, buffers are aligned, and the labels are found."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.table import Table

from edge_ct.bundle import read_bundle
from edge_ct.convert.tflite_metadata import add_metadata
from edge_ct.runtime import Runtime


@pytest.fixture
def described(tiny_bundle: Path) -> tuple[bytes, bytes]:
    bundle = read_bundle(tiny_bundle)
    model = bundle.model
    return model, add_metadata(model, bundle.manifest.tensors, name="name", licence="a licence", use="research")


def metadata(content: bytes) -> bytes:
    model = schema.Model.GetRootAs(content, 0)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    [number] = [entry.Buffer() for entry in entries if entry.Name() == b"TFLITE_METADATA"]
    return bytes(model.Buffers(number).DataAsNumpy())


def field(table: Table, slot: int) -> int:
    """Place of a field's value; fields are numbered as in metadata_schema.fbs."""
    offset = table.Offset(4 + 2 * slot)
    assert offset, f"no field {slot}"
    return table.Pos + offset


def child(table: Table, slot: int) -> Table:
    return Table(table.Bytes, table.Indirect(field(table, slot)))


def children(table: Table, slot: int) -> list[Table]:
    start = table.Vector(field(table, slot) - table.Pos)
    count = table.VectorLen(field(table, slot) - table.Pos)
    return [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(count)]


def text(table: Table, slot: int) -> str:
    return str(table.String(field(table, slot)).decode())


def test_outputs_are_the_same(tiny_bundle: Path, described: tuple[bytes, bytes]) -> None:
    tensors = read_bundle(tiny_bundle).manifest.tensors
    before, after = (Runtime(model, tensors) for model in described)
    for number in range(5):
        image = np.random.default_rng(number).integers(0, 256, tensors.input.shape[1:], np.uint8)
        results = []
        for runtime in (before, after):
            runtime.invoke(image)
            results.append(runtime.outputs())
        assert np.array_equal(results[0].stored, results[1].stored)
        assert np.array_equal(results[0].embedding, results[1].embedding)


def test_buffers_lie_on_boundaries_of_16_bytes(described: tuple[bytes, bytes]) -> None:
    model = schema.Model.GetRootAs(described[1], 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if not buffer.DataIsNone()]
    assert len(starts) > 5
    assert {start % 16 for start in starts} == {0}


def test_names_labels_and_size_are_found(tiny_bundle: Path, described: tuple[bytes, bytes]) -> None:
    content = metadata(described[1])
    assert content[4:8] == b"M001"
    root = Table(content, int.from_bytes(content[:4], "little"))
    assert (text(root, 0), text(root, 1), text(root, 5)) == ("name", "research", "a licence")
    [graph] = children(root, 3)
    [picture] = children(graph, 2)
    size = child(child(child(picture, 3), 1), 1)
    assert [int.from_bytes(content[field(size, i) :][:4], "little") for i in (0, 1)] == [32, 32]
    outputs = children(graph, 3)
    tensors = read_bundle(tiny_bundle).manifest.tensors
    assert text(outputs[tensors.logits.position], 0) == "logits"
    [labels] = children(outputs[tensors.logits.position], 6)
    assert text(labels, 0) == "labels.txt"


def test_added_again_it_is_replaced(tiny_bundle: Path, described: tuple[bytes, bytes]) -> None:
    tensors = read_bundle(tiny_bundle).manifest.tensors
    again = add_metadata(described[1], tensors, name="other", licence="l", use="u")
    assert b"other" in metadata(again)
