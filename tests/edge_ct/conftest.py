"""Images, written by another library than the ones under test."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def grey() -> np.ndarray:
    """uint8 [40, 48]: noise that holds 0 and 255, so that no decoder can guess a pixel from its neighbours."""
    return np.random.default_rng(7).integers(0, 256, (40, 48), dtype=np.uint8)


@pytest.fixture
def ramp() -> np.ndarray:
    """uint8 [40, 48]: smooth, so that JPEG keeps it."""
    return (np.add.outer(np.arange(40), np.arange(48)) * 2).astype(np.uint8)


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Pillow as the encoder: an array or a Pillow image, a format, options -> bytes."""

    def encoded(image: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
        buffer = BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
        return buffer.getvalue()

    return encoded
