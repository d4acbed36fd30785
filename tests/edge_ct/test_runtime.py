"""The seam: whichever runtime is installed, the same calls; LiteRT first."""

import sys
import types
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edge_ct import runtime
from edge_ct.bundle import read_bundle
from edge_ct.phantom import make_slice


@pytest.fixture
def without_litert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)


def test_litert_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    litert, other = types.ModuleType("ai_edge_litert.interpreter"), types.ModuleType("tflite_runtime.interpreter")
    litert.Interpreter, other.Interpreter = "LiteRT", "tflite-runtime"  # type: ignore[attr-defined]
    for module in (litert, other):
        monkeypatch.setitem(sys.modules, module.__name__.split(".")[0], types.ModuleType(module.__name__.split(".")[0]))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert runtime.interpreter_class() == "LiteRT"
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert runtime.interpreter_class() == "tflite-runtime"


@pytest.mark.skipif(
    find_spec("tflite_runtime") is None, reason="tflite-runtime is not installed: make test-tflite-runtime"
)
def test_a_bundle_runs_on_tflite_runtime(tiny_bundle: Path, without_litert: None) -> None:
    """A small network's golden slices are right there, and outputs have the shapes and dtypes that LiteRT gives."""
    from edge_ct.classifier import Classifier

    classifier = Classifier(tiny_bundle)
    assert runtime.interpreter_class().__module__.startswith("tflite_runtime")
    classifier.check_golden()
    tensors = read_bundle(tiny_bundle).manifest.tensors
    p, outputs = classifier.infer(classifier.manifest.preprocess(make_slice(5, 3, True, 90).image))
    assert 0 < p < 1
    assert outputs.stored.dtype == np.dtype(tensors.logits.dtype)
    assert outputs.logits.shape == (2,)
    assert outputs.class_map is not None
    assert tensors.class_map is not None
    assert outputs.class_map.shape == tensors.class_map.shape[1:]
