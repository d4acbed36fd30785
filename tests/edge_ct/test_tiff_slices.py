"""TIFF slices whose samples or colours are refused by name."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from edge_ct import slices
from edge_ct.errors import InputRejected

from .slice_bytes import opened, pixels_of, tiff_of

Encode = Callable[..., bytes]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_tiff_of_floats_or_wide_integers_is_refused(grey: np.ndarray, encode: Encode, dtype: type) -> None:
    with pytest.raises(InputRejected, match="8 or 16 bit unsigned"):
        pixels_of(encode(grey.astype(dtype), "TIFF"))


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_tiff_is_refused(grey: np.ndarray, bits: int) -> None:
    data = (grey.astype(f"<i{bits // 8}") - 100).astype(f"<i{bits // 8}").tobytes()
    with pytest.raises(InputRejected):
        pixels_of(tiff_of(48, 40, data, t258=bits, t339=2))


def test_tiff_with_16_bit_channels_in_planes_is_refused(grey: np.ndarray) -> None:
    """OpenCV reads the planes as interleaved samples."""
    plane = (grey.astype("<u2") * 257).tobytes()
    with pytest.raises(InputRejected, match="16-bit channels in separate planes; save it as grey"):
        pixels_of(tiff_of(grey.shape[1], grey.shape[0], plane * 3, t258=16, t262=2, t277=3, t284=2))


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_whose_zero_is_white_is_not_read_as_a_negative(grey: np.ndarray, bits: int) -> None:
    """PhotometricInterpretation 0, WhiteIsZero (TIFF 6.0, page 37): inverted, or refused; never judged as stored."""
    stored = grey if bits == 8 else grey.astype("<u2") * 257
    try:
        read = pixels_of(tiff_of(48, 40, stored.tobytes(), t258=bits, t262=0))
    except InputRejected:
        return
    assert np.array_equal(read, 255 - grey)


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_tiff_of_other_colours_is_refused_by_its_name(grey: np.ndarray, mode: str) -> None:
    buffer = BytesIO()
    if mode == "LAB":
        zeros = Image.fromarray(np.zeros_like(grey))
        picture = Image.merge("LAB", [Image.fromarray(grey), zeros, zeros])
    else:
        picture = Image.fromarray(np.dstack([grey] * 3)).convert(mode)
    picture.save(buffer, "TIFF")
    with pytest.raises(InputRejected, match="TIFF in CMYK or Lab colours; save it as grey"):
        slices.decode(buffer.getvalue(), "x")


def test_own_tiff_writer_agrees_with_pillow(grey: np.ndarray) -> None:
    assert np.array_equal(np.asarray(opened(tiff_of(48, 40, grey.tobytes()))), grey)
    assert np.array_equal(pixels_of(tiff_of(48, 40, grey.tobytes())), grey)
