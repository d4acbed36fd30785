"""Cutting TFLite graphs, to time parts of them. The signature definitions of a graph are dropped."""

from __future__ import annotations

from typing import Any

from edge_ct.errors import EdgeCTError


def read_graph(model: bytes) -> Any:
    """Return the model as an object tree of the TFLite schema (`ModelT`).

    Raises:
        EdgeCTError: The runtime includes no module to write flatbuffers with.
    """
    try:
        import flatbuffers  # noqa: F401 (needed to write the graph)
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise EdgeCTError(
            "graphs cannot be cut here: this TFLite runtime includes no flatbuffer writer; install ai-edge-litert"
        ) from error
    graph = schema.ModelT.InitFromPackedBuf(model, 0)
    graph.signatureDefs = []
    return graph


def write_graph(graph: Any) -> bytes:
    """Return the flatbuffer of a model."""
    import flatbuffers

    builder = flatbuffers.Builder(4096)
    builder.Finish(graph.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def without_output(model: bytes, position: int) -> bytes:
    """Return a model without one of its outputs and without the operators that only this output needs.

    Args:
        model: The TFLite flatbuffer.
        position: Number of the output.
    """
    graph = read_graph(model)
    body = graph.subgraphs[0]
    body.outputs = [tensor for place, tensor in enumerate(body.outputs) if place != position]
    needed, kept = set(body.outputs), []
    for operator in reversed(body.operators):
        if needed.intersection(operator.outputs):
            needed.update(operator.inputs)
            kept.append(operator)
    body.operators = kept[::-1]
    return write_graph(graph)
