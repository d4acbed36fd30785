"""pytest-benchmark suites of the steps before the network: decode, identity, preprocess. Run by `make bench`."""

from __future__ import annotations

from typing import Any

import pytest

from edge_ct import slices
from edge_ct.preprocess import Preprocess

from ..measure.bundle import phantom_files


@pytest.fixture(scope="module")
def content() -> bytes:
    """Return a PNG file of a 512 px phantom."""
    return phantom_files(1)[0]


def test_decode_png_512(benchmark: Any, content: bytes) -> None:
    """Decode PNG bytes to a slice."""
    assert benchmark(slices.decode, content, "phantom").pixels.shape == (512, 512)


def test_identity_512(benchmark: Any, content: bytes) -> None:
    """Hash the pixels, by which a slice is recognised."""
    pixels = slices.decode(content, "phantom").pixels
    assert len(benchmark(lambda: slices.Slice(pixels, "phantom").sha256)) == 64


@pytest.mark.parametrize("size", [96, 224, 380])
def test_preprocess_512(benchmark: Any, content: bytes, size: int) -> None:
    """Preprocess a slice to the network's input."""
    pixels = slices.decode(content, "phantom").pixels
    assert benchmark(Preprocess(size), pixels).shape == (size, size, 1)
