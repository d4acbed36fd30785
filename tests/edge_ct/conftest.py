"""Images, written by another library than the ones under test, and folders of them."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_ct.phantom import make_slice


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


@pytest.fixture
def slices_folder(tmp_path: Path) -> Path:
    """Three files: a phantom, the same cut short, and a text with a picture's name."""
    folder = tmp_path / "slices"
    folder.mkdir()
    buffer = BytesIO()
    Image.fromarray(make_slice(5, 4, True, 96).image).save(buffer, "PNG")
    (folder / "a-good.png").write_bytes(buffer.getvalue())
    (folder / "b-cut.png").write_bytes(buffer.getvalue()[:-30])
    (folder / "c-text.png").write_text("not a picture")
    return folder
