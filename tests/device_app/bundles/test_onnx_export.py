"""`bundle export --onnx`: the same logits within a few steps in ONNX Runtime, and a clear error without tf2onnx."""

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ct import cli
from edge_ct.bundle import read_bundle


def test_without_tf2onnx_the_extra_is_named(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.run(["bundle", "export", str(tiny_bundle), "--onnx", str(tmp_path / "m.onnx")]) == 6
    assert "pip install 'edge-ct[onnx]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tf2onnx") is None, reason="the extra onnx is not installed")
def test_the_golden_slices_in_onnx_runtime(tiny_bundle: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    out = tmp_path / "m.onnx"
    assert cli.run(["bundle", "export", str(tiny_bundle), "--onnx", str(out)]) == 0
    assert cli.run(["bundle", "export", str(tiny_bundle), "--onnx", str(out)]) == 1  # nothing is overwritten
    bundle = read_bundle(tiny_bundle)
    assert json.loads((tmp_path / "m.json").read_text()) == json.loads(bundle.member("manifest.json"))
    session = runtime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for golden in bundle.manifest.golden:
        pixels = cv2.imdecode(np.frombuffer(bundle.member(golden.input), np.uint8), cv2.IMREAD_GRAYSCALE)
        outputs = session.run(None, {name: pixels[np.newaxis, :, :, np.newaxis]})
        logits = outputs[bundle.manifest.tensors.logits.position][0].astype(float)
        assert np.abs(logits - golden.logits).max() <= 3
