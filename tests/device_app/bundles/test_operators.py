"""Operators of a flatbuffer, against the schema that comes with LiteRT; and flatbuffers that are none."""

from collections import Counter
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from edge_ct.bundle import read_bundle
from edge_ct.device_app.bundles import operators
from edge_ct.errors import ModelRejected

OLD = Path(__file__).parents[2] / "edge_ct" / "bundles" / "schema-1.tflite"
BUILTIN = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def by_schema(model: bytes) -> Counter[str]:
    """By the classes that flatc made."""
    whole = schema.Model.GetRootAsModel(model, 0)
    graph = whole.Subgraphs(0)
    codes = [whole.OperatorCodes(graph.Operators(i).OpcodeIndex()) for i in range(graph.OperatorsLength())]
    return Counter(BUILTIN[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes)


def test_operators_are_those_of_the_schema_s_own_reader(tiny_bundle: Path) -> None:
    for path in (tiny_bundle, OLD):
        model = read_bundle(path).model
        found: Counter[str] = Counter()
        for own in operators.count_operators(model):
            found[own.name] += own.count
        assert found == by_schema(model)
        assert found["CONV_2D"] > 0


def test_names_are_numbered_as_in_the_schema() -> None:
    assert [BUILTIN[number] for number in range(len(operators._NAMES))] == list(operators._NAMES)
    for targets in (*operators._XNNPACK.values(), operators._MICRO, operators._EDGE_TPU):
        assert targets <= set(operators._NAMES)


def test_an_integer_network_of_plain_layers_goes_everywhere(tiny_bundle: Path) -> None:
    for own in operators.count_operators(read_bundle(tiny_bundle).model):
        if own.name in ("CONV_2D", "MAX_POOL_2D", "MEAN"):
            assert (own.type, own.xnnpack, own.micro, own.edge_tpu) == ("int8", True, True, True)


@given(st.data())
def test_a_damaged_flatbuffer_is_read_or_refused(data: st.DataObject) -> None:
    model = bytearray(read_bundle(OLD).model[:4000] + read_bundle(OLD).model[-6000:])
    for _ in range(data.draw(st.integers(1, 8))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    try:
        operators.count_operators(bytes(model))
    except ModelRejected as error:
        assert "damaged flatbuffer" in str(error)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ModelRejected, match="damaged flatbuffer"):
        operators.count_operators(content)
