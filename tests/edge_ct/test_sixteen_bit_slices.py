"""Grey slices of 16 bits: values in a window are read, and what a scanner stores is refused."""

from collections.abc import Callable

import numpy as np
import pytest

from edge_ct.errors import InputRejected
from edge_ct.phantom import make_slice

from .slice_bytes import pixels_of

Encode = Callable[..., bytes]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_by_the_high_byte(encode: Encode, kind: str) -> None:
    wide = np.random.default_rng(1).integers(0, 65536, (40, 48)).astype(np.uint16)
    assert np.array_equal(pixels_of(encode(wide, kind)), wide // 256)


def hounsfield(size: int = 96) -> np.ndarray:
    """int16: air, fat, tissue and bone with noise, in Hounsfield units."""
    grey = make_slice(1, 4, False, size).image
    return np.round(grey / 255 * 1500 - 1350 + np.random.default_rng(6).normal(0, 20, grey.shape)).astype(np.int16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("hot", [0, 5])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("offset", [1400, 20_000, 32_768, 65_536])
def test_twelve_bit_values_in_sixteen_are_refused(
    encode: Encode, kind: str, hot: int, padding: bool, offset: int
) -> None:
    """With a few hot pixels, an offset, without a sign, and with another value around the circle of the scanner."""
    values = (hounsfield().astype(int) + offset) % 65_536
    if padding:
        y, x = np.ogrid[-1:1:96j, -1:1:96j]
        values[y**2 + x**2 > 1] = 0
    values.flat[4000 : 4000 + hot] = 65_535 - np.arange(hot) * 9
    with pytest.raises(InputRejected, match="without a window"):
        pixels_of(encode(values.astype(np.uint16), kind))


@pytest.mark.parametrize("factor", [1, 2, 4, 10])
def test_scanner_values_that_were_multiplied_are_refused(encode: Encode, factor: int) -> None:
    """As 13 and 14 bits, and with a decimal."""
    values = np.clip(hounsfield().astype(int) + 1400, 0, 4095) * factor
    with pytest.raises(InputRejected, match="scanner values without a window"):
        pixels_of(encode(values.astype(np.uint16), "PNG"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("level", "width"), [(-600, 1500), (-500, 1400), (40, 350), (-600, 800)])
def test_sixteen_bit_values_in_a_window_are_read(encode: Encode, kind: str, level: int, width: int) -> None:
    """Lung and mediastinal windows, in which up to half of the pixels are black or white."""
    share = np.clip((hounsfield() - (level - width / 2)) / width, 0, 1)
    wide = np.round(share * 65_535).astype(np.uint16)
    assert np.array_equal(pixels_of(encode(wide, kind)), wide >> 8)
    assert np.array_equal(pixels_of(encode((wide >> 8) * np.uint16(257), kind)), wide >> 8)
