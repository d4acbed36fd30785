"""OpenVINO behind the calls of a TFLite interpreter, so that `Runtime` need not tell the two apart.

OpenVINO reads the flatbuffer itself. Names, shapes and quantisation of the tensors come from LiteRT, which is always
installed: OpenVINO does not report the quantisation.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import EdgeCTError, MissingExtra

_CONVERTER = "openvino.tools.ovc"


class OpenVinoInterpreter:
    """The part of the interface of `ai_edge_litert.interpreter.Interpreter` that `Runtime` uses.

    Args:
        reader: The `Interpreter` class that describes the tensors of the flatbuffer.
        model: A TFLite flatbuffer; bytes after its end are ignored.
        threads: Number of threads of one inference.
    """

    def __init__(self, reader: Callable[..., Any], model: bytes, threads: int) -> None:
        described = reader(model_content=model)
        self._inputs, self._outputs = described.get_input_details(), described.get_output_details()
        openvino = import_openvino()
        core = openvino.Core()
        # OpenVINO recognises the format by the suffix and cannot read it from memory.
        with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
            file.write(model)
            file.flush()
            network = core.read_model(file.name)
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # The default is bfloat16 on new processors, whose outputs differ by more stored steps.
            "INFERENCE_PRECISION_HINT": "f32",
            # Each worker process would pin its thread to the same processor.
            "ENABLE_CPU_PINNING": False,
        }
        self._request = core.compile_model(network, "CPU", settings).create_infer_request()
        compiled = {name: output for output in self._request.model_outputs for name in output.get_names()}
        try:
            self._tensors = {
                int(detail["index"]): self._request.get_tensor(compiled[detail["name"]]) for detail in self._outputs
            }
        except KeyError as error:
            raise EdgeCTError(f"OpenVINO names no output {error}") from error

    def allocate_tensors(self) -> None:
        """Do nothing: the tensors are allocated when the network is compiled."""

    def get_input_details(self) -> list[dict[str, Any]]:
        """Return the details of the inputs as LiteRT reports them."""
        return list(self._inputs)

    def get_output_details(self) -> list[dict[str, Any]]:
        """Return the details of the outputs as LiteRT reports them."""
        return list(self._outputs)

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        """Set the only input; `index` is ignored."""
        self._request.get_input_tensor().data[:] = value

    def invoke(self) -> None:
        """Run the network."""
        self._request.infer()

    def get_tensor(self, index: int) -> np.ndarray:
        """Return a copy of an output of the last `invoke`."""
        return np.array(self._tensors[index].data)


def import_openvino() -> Any:
    """Import OpenVINO without its model converter, which sends usage data over the network when it is imported.

    Raises:
        MissingExtra: OpenVINO is not installed.
    """
    if module := sys.modules.get("openvino"):
        return module
    # None makes the import of the converter an ImportError, which OpenVINO ignores.
    sys.modules.setdefault(_CONVERTER, None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("--engine openvino needs OpenVINO: pip install 'edge-ct[openvino]'") from error
    finally:
        if sys.modules.get(_CONVERTER, ...) is None:
            with contextlib.suppress(KeyError):
                del sys.modules[_CONVERTER]
    return openvino
