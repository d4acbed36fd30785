"""pytest-benchmark suites of a bundle: the network, its outputs, a slice from bytes to result. Run by `make bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_ct import slices
from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier

from ..measure.bundle import phantom_files


@pytest.fixture(scope="module")
def content() -> bytes:
    """Return a PNG file of a 512 px phantom."""
    return phantom_files(1)[0]


@pytest.fixture(params=[1, 2], ids="{} threads".format)
def classifier(request: pytest.FixtureRequest, bundle: Path) -> Classifier:
    """Return the engine with one thread, and with two."""
    return Classifier(bundle, request.param)


def test_invoke(benchmark: Any, classifier: Classifier, content: bytes) -> None:
    """Run the graph alone."""
    image = classifier.manifest.preprocess(slices.decode(content, "phantom").pixels)
    benchmark(classifier.runtime.invoke, image)


def test_infer(benchmark: Any, classifier: Classifier, content: bytes) -> None:
    """Run the graph, dequantise and calibrate: what `model only` measures."""
    image = classifier.manifest.preprocess(slices.decode(content, "phantom").pixels)
    p, _ = benchmark(classifier.infer, image)
    assert 0 <= p <= 1


def test_classify(benchmark: Any, classifier: Classifier, content: bytes) -> None:
    """Judge the bytes of a file: what `end to end` measures."""
    assert benchmark(classifier.classify, content).decision != "rejected"


def test_open(benchmark: Any, bundle: Path) -> None:
    """Read and verify a bundle, without the interpreter."""
    assert benchmark(read_bundle, bundle).model_bytes > 0
