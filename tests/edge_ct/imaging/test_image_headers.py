"""Image headers: what Pillow says, and a ValueError, never anything else, for what is damaged."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_ct.imaging import image_headers

Encode = Callable[..., bytes]
SUPPRESSED = [HealthCheck.function_scoped_fixture]
STARTS = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"", b"\xff\xd8\xff\xc0\x00\x11\x08"]
CHANNELS = {"1": 1, "L": 1, "I;16": 1, "P": 3, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}


def samples(encode: Encode) -> list[bytes]:
    grey = np.random.default_rng(3).integers(0, 256, (33, 47), dtype=np.uint8)
    colour = np.stack([grey, grey.T[:33, :33].repeat(2, axis=1)[:, :47], 255 - grey], axis=2)
    return [
        encode(grey, "PNG"),
        encode(colour, "PNG"),
        encode(grey, "JPEG"),
        encode(colour, "JPEG", progressive=True),
        encode(grey, "TIFF"),
        encode(colour, "TIFF", compression="tiff_lzw"),
    ]


def parsed_or_refused(data: bytes) -> image_headers.Header | None:
    """The one way to fail is ValueError with a short, single-line reason."""
    try:
        return image_headers.parse(data)
    except ValueError as error:
        assert type(error) is ValueError
        assert 0 < len(str(error)) < 100
        assert "\n" not in str(error)
        return None


def big_endian_tiff(width: int, height: int, kind: int) -> bytes:
    """Uncompressed grey; sizes as SHORT (3) or LONG (4), left-justified in their fields as TIFF 6.0 has it."""
    data = bytes(width * height)

    def entry(tag: int, own: int, value: int) -> bytes:
        return struct.pack(">HHI", tag, own, 1) + struct.pack(">H2x" if own == 3 else ">I", value)

    tags = [(256, kind, width), (257, kind, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, height), (279, 4, len(data))]
    directory = struct.pack(">H", len(tags)) + b"".join(entry(*tag) for tag in tags) + bytes(4)
    return b"MM\0*" + struct.pack(">I", 8 + len(data)) + data + directory


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize(("width", "height"), [(47, 33), (1, 1), (300, 5)])
def test_png_as_pillow_has_it(encode: Encode, mode: str, width: int, height: int) -> None:
    data = encode(Image.new(mode, (width, height)), "PNG")
    image, header = Image.open(BytesIO(data)), image_headers.parse(data)
    assert (header.format, header.width, header.height) == (image.format, *image.size)
    assert header.channels == CHANNELS[mode]
    assert header.bits == {"1": 1, "I;16": 16, "P": 1}.get(mode, 8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_palettes_as_pillow_has_them(encode: Encode, kind: str, mode: str) -> None:
    data = encode(Image.new(mode, (47, 33)), kind)
    assert image_headers.parse(data).palette == (Image.open(BytesIO(data)).mode == "P")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(500)}, {"comment": b"\xff\xd9"}]
)
def test_jpeg_as_pillow_has_it(encode: Encode, mode: str, options: dict) -> None:
    data = encode(Image.new(mode, (47, 33)), "JPEG", **options)
    assert (b"\xff\xc2" in data) == ("progressive" in options)
    image = Image.open(BytesIO(data))
    assert image_headers.parse(data) == image_headers.Header("JPEG", *image.size, len(image.getbands()), 8)


def test_jpeg_with_fill_bytes_before_a_marker(encode: Encode) -> None:
    """Any marker may be preceded by any number of fill bytes X'FF' (T.81, B.1.1.2)."""
    data = encode(Image.new("L", (47, 33)), "JPEG")
    padded = data[:2] + b"\xff\xff\xff" + data[2:]
    assert Image.open(BytesIO(padded)).size == (47, 33)
    assert image_headers.parse(padded) == image_headers.parse(data)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}])
def test_little_endian_tiff_as_pillow_has_it(encode: Encode, mode: str, options: dict) -> None:
    data = encode(Image.new(mode, (47, 33)), "TIFF", **options)
    assert data[:2] == b"II"
    image = Image.open(BytesIO(data))
    found = image_headers.parse(data)
    assert (found.format, found.width, found.height) == ("TIFF", *image.size)
    assert (found.channels, found.bits) == (CHANNELS[mode], image.tag_v2.get(258, (1,))[0])


@pytest.mark.parametrize("kind", [3, 4])
def test_big_endian_tiff_as_pillow_has_it(kind: int) -> None:
    data = big_endian_tiff(300, 41, kind)
    assert Image.open(BytesIO(data)).size == (300, 41)
    assert image_headers.parse(data) == image_headers.Header("TIFF", 300, 41, 1, 8)


def test_big_endian_tiff_written_by_pillow(encode: Encode) -> None:
    data = encode(Image.new("I;16B", (47, 33)), "TIFF")
    assert data[:2] == b"MM"
    assert image_headers.parse(data) == image_headers.Header("TIFF", 47, 33, 1, 16)


@given(st.sampled_from(STARTS), st.binary(max_size=300))
@example(b"", b"")
@example(b"\xff\xd8\xff", b"\xff" * 100)
@example(b"\xff\xd8\xff", b"\xda\x00\x02\xff\xd9")
@example(b"\xff\xd8", b"\xff\xe0\x00\x00" * 20)
@example(b"II*\0", b"\xff\xff\xff\xff" + bytes(100))
@example(b"II*\0", b"\x08\0\0\0\xff\xff" + bytes(100))
@settings(max_examples=400, deadline=None)
def test_arbitrary_bytes_only_raise_value_error(start: bytes, rest: bytes) -> None:
    parsed_or_refused(start + rest)


@given(st.integers(0, 5), st.integers(0, 10_000), st.binary(max_size=12), st.integers(0, 12))
@settings(max_examples=500, deadline=None, suppress_health_check=SUPPRESSED)
def test_mutated_images_only_raise_value_error(
    encode: Encode, which: int, position: int, junk: bytes, removed: int
) -> None:
    data = samples(encode)[which]
    # Mutations near the start hit structure; those further on, mostly pixels.
    position %= len(data)
    parsed_or_refused(data[:position] + junk + data[position + removed :])


@given(st.integers(0, 5), st.integers(0, 120), st.integers(0, 255))
@settings(max_examples=500, deadline=None, suppress_health_check=SUPPRESSED)
def test_changed_bytes_of_the_head_only_raise_value_error(encode: Encode, which: int, position: int, byte: int) -> None:
    data = bytearray(samples(encode)[which])
    data[position] = byte
    parsed_or_refused(bytes(data))


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_tiff_directories_of_arbitrary_bytes_only_raise_value_error(directory: bytes) -> None:
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        parsed_or_refused(mark + struct.pack(order + "I", 8) + directory)


def test_png_walk_is_linear_in_the_number_of_chunks() -> None:
    """A file of the permitted 64 MiB holds five million empty chunks; a twentieth of that must take no time."""
    empty = struct.pack(">I", 0) + b"eMPt" + struct.pack(">I", zlib.crc32(b"eMPt"))
    head = b"IHDR" + struct.pack(">IIBBBBB", 40, 40, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + empty * 20_000
    with pytest.raises(ValueError, match="truncated"):
        image_headers.parse(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"GIF89a", "not a PNG, JPEG, TIFF or DICOM image"),
        (b"BM", "not a PNG, JPEG, TIFF or DICOM image"),
        (b"II+\0" + bytes(60), "not a PNG, JPEG, TIFF or DICOM image"),  # BigTIFF
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff\xe0\x00\x10", "truncated"),
        (b"\xff\xd8\xff\xda\x00\x02\xff\xd9", "truncated JPEG"),
        (b"\xff\xd8\xff\xe0\x00\x02junk", "marker expected"),
        (b"II*\0\x08\0\0\0\0\0", "no size"),
        (b"II*\0\xff\0\0\0", "truncated"),
    ],
)
def test_reason_is_named(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_headers.parse(data)


def test_png_that_does_not_start_with_its_header_is_refused() -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    for data in (chunk(b"IEND", b""), chunk(b"gAMA", bytes(4)), chunk(b"IHDR", bytes(12))):
        with pytest.raises(ValueError, match="no header"):
            image_headers.parse(b"\x89PNG\r\n\x1a\n" + data)


def test_png_checksum_is_checked(encode: Encode) -> None:
    data = bytearray(encode(Image.new("L", (40, 40)), "PNG"))
    data[16 + 3] ^= 1  # the last byte of the width
    with pytest.raises(ValueError, match="checksum of 'IHDR'"):
        image_headers.parse(bytes(data))
