"""Reading slices: the same grey bytes as Pillow, and one identity of the pixels in every container."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from edge_ct import slices
from edge_ct.errors import InputRejected

from .slice_bytes import opened, pixels_of, png_of

Encode = Callable[..., bytes]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("PNG", {"compress_level": 0}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
    ],
)
def test_lossless_grey_is_what_pillow_reads(grey: np.ndarray, encode: Encode, kind: str, options: dict) -> None:
    data = encode(grey, kind, **options)
    read = pixels_of(data)
    assert read.dtype == np.uint8
    assert np.array_equal(read, np.asarray(opened(data)))
    assert np.array_equal(read, grey)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"quality": 100}, {"optimize": True}])
def test_jpeg_grey_is_what_pillow_reads(ramp: np.ndarray, encode: Encode, options: dict) -> None:
    data = encode(ramp, "JPEG", **options)
    assert np.abs(pixels_of(data).astype(int) - np.asarray(opened(data), int)).max() <= 2


def test_jpeg_in_colour_is_the_luma_that_pillow_reads(ramp: np.ndarray, encode: Encode) -> None:
    data = encode(Image.merge("RGB", [Image.fromarray(plane) for plane in (ramp, ramp[::-1], ramp // 2)]), "JPEG")
    # Pillow's `draft` asks libjpeg for the luma channel itself, without a way through RGB.
    image = opened(data)
    image.draft("L", image.size)
    assert np.abs(pixels_of(data).astype(int) - np.asarray(image, int)).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_in_other_colour_modes_is_the_same_grey(grey: np.ndarray, encode: Encode, kind: str, mode: str) -> None:
    """Alpha is noise here: a decoder that blended or premultiplied it would show."""
    image, alpha = Image.fromarray(grey), Image.fromarray(np.roll(grey, 11, axis=1))
    if mode == "1":
        image = image.point(lambda value: 255 * (value > 127))
    expected = np.asarray(image)
    converted = {
        "RGB": lambda: Image.merge("RGB", [image] * 3),
        "RGBA": lambda: Image.merge("RGBA", [image] * 3 + [alpha]),
        "LA": lambda: Image.merge("LA", [image, alpha]),
        "P": lambda: image.convert("P"),
        "1": lambda: image.convert("1"),
    }[mode]()
    assert converted.mode == mode
    data = encode(converted, kind)
    assert opened(data).mode == mode
    try:
        read = pixels_of(data)
    except InputRejected:
        # libtiff multiplies alpha into the colours of such a file; to refuse it is as good as to undo that.
        assert (kind, mode) == ("TIFF", "RGBA")
        return
    assert np.array_equal(read, expected)


@pytest.mark.parametrize("transparent", [0, 5, 255])
def test_transparent_grey_level_of_a_png_stays_as_it_is(grey: np.ndarray, encode: Encode, transparent: int) -> None:
    assert np.array_equal(pixels_of(encode(grey, "PNG", transparency=transparent)), grey)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colour_is_rec_601_luma(encode: Encode, kind: str) -> None:
    colour = np.random.default_rng(2).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    # Half a level for rounding; libpng cuts off instead, and its weights have fifteen bits.
    assert np.abs(pixels_of(encode(colour, kind)) - luma).max() < 1.1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (b"gAMA", struct.pack(">I", 45_455)),
        (b"gAMA", struct.pack(">I", 100_000)),
        (b"sRGB", b"\0"),
        (b"cHRM", struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)),
    ],
)
def test_colour_of_a_png_is_rec_601_luma_whatever_colours_it_states(
    encode: Encode, name: bytes, content: bytes
) -> None:
    """As Pillow reads it: its own test pictures differed by up to 71 greys while a decoder heeded these chunks."""
    colour = np.random.default_rng(2).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    data = encode(colour, "PNG")
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    stated = data[:33] + chunk + data[33:]
    luma = np.asarray(Image.open(BytesIO(stated)).convert("L")).astype(int)
    assert np.abs(slices.decode(stated, "x").pixels.astype(int) - luma).max() <= 1


def test_sixteen_bit_colour_png(encode: Encode, grey: np.ndarray) -> None:
    wide = np.repeat(grey[:, :, None].astype(">u2") * 257, 3, axis=2)
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", 48, 40, 16, 2, 0, 0, 0)
    assert np.array_equal(pixels_of(png_of([(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])), grey)


@pytest.mark.parametrize(("bits", "step"), [(1, 255), (2, 85), (4, 17)])
def test_few_bit_grey_png_fills_the_range(bits: int, step: int) -> None:
    """A sample of b bits is scaled by 255 / (2^b - 1) (PNG specification, 13.12)."""
    levels = np.random.default_rng(3).integers(0, 2**bits, (32, 64))
    raw = np.unpackbits(levels.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - bits :].reshape(32, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in raw)
    header = struct.pack(">IIBBBBB", 64, 32, bits, 0, 0, 0, 0)
    data = png_of([(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])
    assert np.array_equal(pixels_of(data), levels * step)


def test_same_pixels_have_one_identity_in_every_container(
    grey: np.ndarray, encode: Encode, write_ct: Callable[..., bytes]
) -> None:
    containers = [
        encode(grey, "PNG"),
        encode(grey, "PNG", compress_level=0),
        encode(grey, "TIFF"),
        encode(grey, "TIFF", compression="tiff_lzw"),
        encode(np.repeat(grey[:, :, None], 3, axis=2), "PNG"),
        encode(grey.astype(np.uint16) * 256 + 9, "PNG"),
        # A DICOM object whose lung window maps each stored value to itself: -1350 HU + 1500 / 255 HU a step.
        write_ct(grey, slope="5.88235294117647", intercept="-1350"),
    ]
    assert len({slices.decode(data, "test").sha256 for data in containers}) == 1


def test_identity_is_of_pixels_and_shape(encode: Encode) -> None:
    flat = np.arange(64 * 32, dtype=np.int64).astype(np.uint8)
    tall, wide = flat.reshape(64, 32), flat.reshape(32, 64)
    changed = wide.copy()
    changed[31, 63] ^= 1
    assert len({slices.decode(encode(image, "PNG"), "x").sha256 for image in (tall, wide, changed)}) == 3


def test_two_different_slices_of_the_same_values_but_for_one_pixel_differ(encode: Encode, grey: np.ndarray) -> None:
    other = grey.copy()
    other[20, 20] ^= 1
    assert slices.decode(encode(grey, "PNG"), "a").sha256 != slices.decode(encode(other, "PNG"), "b").sha256


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_exif_orientation_is_applied(ramp: np.ndarray, encode: Encode, kind: str, orientation: int) -> None:
    """A photograph of a light box comes upright, as Pillow's `exif_transpose` has it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(ramp, kind, **({"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif}))
    upright = np.asarray(ImageOps.exif_transpose(opened(data)), int)
    assert upright.shape == ((48, 40) if orientation > 4 else (40, 48))
    read = pixels_of(data)
    assert read.shape == upright.shape
    assert np.abs(read - upright).max() <= (2 if kind == "JPEG" else 0)


def test_source_is_kept_for_people(tmp_path: Path, encode: Encode, grey: np.ndarray) -> None:
    path = tmp_path / "slice.png"
    path.write_bytes(encode(grey, "PNG"))
    read = slices.read(str(path))
    assert (read.source, read.dicom) == (str(path), None)
    assert np.array_equal(read.pixels, grey)
