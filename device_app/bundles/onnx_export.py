"""A bundle as an ONNX file, by tf2onnx in a process of its own: a device never needs it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from edge_ct.bundle import Bundle
from edge_ct.errors import EdgeCTError, MissingExtra

_OPSET = "13"  # the first with the quantised operators for every channel


def to_onnx(bundle: Bundle) -> bytes:
    """Convert the graph of a bundle to ONNX with its quantised operators.

    Args:
        bundle: The bundle; its input must take bytes or float32.

    Returns:
        The content of the ONNX file. Inputs and outputs are those of the TFLite file; everything else that a program
        needs is in the manifest.

    Raises:
        MissingExtra: tf2onnx is not installed.
        EdgeCTError: tf2onnx cannot convert the graph.
    """
    if importlib.util.find_spec("tf2onnx") is None:
        raise MissingExtra("bundle export --onnx needs tf2onnx: pip install 'edge-ct[onnx]'")
    with tempfile.TemporaryDirectory() as folder:
        model, out = Path(folder) / "model.tflite", Path(folder) / "model.onnx"
        model.write_bytes(bundle.model)
        words = [sys.executable, "-m", "tf2onnx.convert", "--tflite", str(model), "--output", str(out)]
        done = subprocess.run([*words, "--opset", _OPSET], capture_output=True, text=True, check=False)
        if done.returncode or not out.exists():
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise EdgeCTError(f"{bundle.source}: tf2onnx cannot convert it: {lines[-1]}")
        return out.read_bytes()
