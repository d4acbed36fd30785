"""Files that are no image, are truncated, or have single bytes changed: a whole slice or a refusal."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_ct import slices
from edge_ct.errors import InputRejected

from .slice_bytes import PNG_SIGNATURE, chunks, pixels_of, png_of

Encode = Callable[..., bytes]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"this is not a picture, whatever its name says", "not a PNG, JPEG, TIFF or DICOM"),
        (b"GIF89a" + bytes(100), "a GIF file, which is not read; save it as PNG"),
        (PNG_SIGNATURE, "truncated"),
        (b"\xff\xd8\xff", "truncated"),
        (b"II*\0", "truncated"),
        (bytes(200), "not a PNG, JPEG, TIFF or DICOM"),
    ],
)
def test_what_is_no_image_is_refused_by_name_and_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "slice.png"
    path.write_bytes(content)
    with pytest.raises(InputRejected, match=message) as caught:
        slices.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_truncation_of_a_png_is_refused(encode: Encode, grey: np.ndarray) -> None:
    data = encode(grey, "PNG")
    for length in range(len(data)):
        with pytest.raises(InputRejected):
            slices.decode(data[:length], "test")


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_every_truncation_of_a_jpeg_is_refused(encode: Encode, ramp: np.ndarray, options: dict) -> None:
    data = encode(ramp, "JPEG", **options)
    for length in range(len(data)):
        with pytest.raises(InputRejected):
            slices.decode(data[:length], "test")


def test_truncated_jpeg_is_not_saved_by_its_thumbnail(encode: Encode, ramp: np.ndarray) -> None:
    """A thumbnail in EXIF ends in an end-of-image marker of its own."""
    thumbnail = encode(ramp[::4, ::4], "JPEG")
    data = encode(ramp, "JPEG", exif=b"Exif\0\0" + thumbnail)
    assert data.count(b"\xff\xd9") == 2
    assert pixels_of(data).shape == ramp.shape
    with pytest.raises(InputRejected, match="truncated"):
        slices.decode(data[:-40], "test")


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}])
def test_truncated_tiff_is_refused_or_whole(encode: Encode, grey: np.ndarray, options: dict) -> None:
    """Only the offset of a second image, which nothing needs, may be cut off."""
    data = encode(grey, "TIFF", **options)
    for length in [*range(0, len(data) - 40, 7), *range(len(data) - 40, len(data))]:
        try:
            read = pixels_of(data[:length])
        except InputRejected:
            continue
        assert length >= len(data) - 4
        assert np.array_equal(read, grey)


@pytest.mark.parametrize("lost", ["first", "middle", "last", "all", "half"])
def test_png_whose_data_chunks_are_incomplete_is_refused(encode: Encode, grey: np.ndarray, lost: str) -> None:
    """Each chunk is whole and its checksum right, and the end is there: only the decoder can tell."""
    header, data, end = (chunks(encode(grey, "PNG"))[index] for index in (0, 1, -1))
    parts = [(b"IDAT", data[1][at : at + 300]) for at in range(0, len(data[1]), 300)]
    assert np.array_equal(pixels_of(png_of([header, *parts, end])), grey)
    kept = {
        "first": parts[1:],
        "middle": parts[:3] + parts[4:],
        "last": parts[:-1],
        "all": [],
        "half": [(b"IDAT", zlib.compress(zlib.decompress(data[1])[: 20 * 49]))],
    }[lost]
    with pytest.raises(InputRejected):
        pixels_of(png_of([header, *kept, end]))


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_byte_in_a_png_is_refused(encode: Encode, grey: np.ndarray, data: st.DataObject) -> None:
    whole = bytearray(encode(grey, "PNG", pnginfo=None))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    try:
        read = pixels_of(bytes(whole))
    except InputRejected:
        return
    assert np.array_equal(read, grey)


def test_flipped_byte_in_the_header_or_end_of_a_png_is_refused(encode: Encode, grey: np.ndarray) -> None:
    whole = encode(grey, "PNG")
    for position in [*range(60), *range(len(whole) - 20, len(whole))]:
        for bit in (1, 128):
            changed = bytearray(whole)
            changed[position] ^= bit
            with pytest.raises(InputRejected):
                slices.decode(bytes(changed), "test")


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=8))
@example(0, b"\xff\xd8\xff")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_overwritten_bytes_give_a_slice_or_a_refusal(
    encode: Encode, ramp: np.ndarray, kind: str, position: int, junk: bytes
) -> None:
    """JPEG and TIFF have no checksums; whatever comes must at least keep the limits."""
    data = bytearray(encode(ramp, kind))
    position %= len(data)
    data[position : position + len(junk)] = junk
    try:
        read = pixels_of(bytes(data))
    except InputRejected:
        return
    assert read.dtype == np.uint8
    assert read.ndim == 2
    assert 32 <= min(read.shape) <= max(read.shape) <= 4096
