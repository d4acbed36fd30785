"""PNGs that are inflated before OpenCV decodes them: the same pixels as from OpenCV alone, for every kind of PNG."""

import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_ct import slices
from edge_ct.errors import InputRejected
from edge_ct.imaging import image_headers, png_pixels
from edge_ct.phantom import make_slice

isal_zlib = pytest.importorskip("isal.isal_zlib", reason="isal is not installed (32-bit Arm has no wheel)")
Encode = Callable[..., bytes]
GREY = make_slice(3, 4, True, 96).image
COLOUR = np.stack([GREY, np.roll(GREY, 3, 0), 255 - GREY], axis=2)
FLAGS = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(rows: bytes, *, before: bytes = b"", parts: int = 1, between: bytes = b"", after: bytes = b"") -> bytes:
    """A grey PNG of 96 x 96 px with these filtered rows."""
    compressed = zlib.compress(rows) + after
    size = -(-len(compressed) // parts)
    split = [compressed[start : start + size] for start in range(0, len(compressed), size)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 96, 8, 0, 0, 0, 0))
    return (
        image_headers.PNG_SIGNATURE
        + header
        + before
        + between.join(chunk(b"IDAT", part) for part in split)
        + chunk(b"IEND", b"")
    )


def filtered(kind: int) -> bytes:
    """The rows of `GREY` under a filter of the PNG specification, section 9."""
    pixels = np.pad(GREY.astype(int), ((1, 0), (1, 0)))
    left, up, corner = pixels[1:, :-1], pixels[:-1, 1:], pixels[:-1, :-1]
    near = left + up - corner
    a, b, c = abs(near - left), abs(near - up), abs(near - corner)
    paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
    guess = [0 * left, left, up, (left + up) // 2, paeth][kind]
    rows = np.pad(((GREY - guess) % 256).astype(np.uint8), ((0, 0), (1, 0)))
    rows[:, 0] = kind
    return rows.tobytes()


def by_opencv(data: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS)


def prepared(data: bytes) -> np.ndarray | bytes:
    return png_pixels.prepare(image_headers.without_ancillary_chunks(data), image_headers.parse(data))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_keeps_its_pixels(mode: str, encode: Encode) -> None:
    if mode == "I;16":
        data = encode(GREY.astype(np.uint16) * 257 + 3, "PNG")
    else:
        data = encode(Image.fromarray(COLOUR).convert(mode), "PNG")
    new = prepared(data)
    assert isinstance(new, bytes)
    assert new != data
    assert np.array_equal(by_opencv(new), by_opencv(data))
    small = [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_REDUCED_COLOR_8) for one in (new, data)]
    assert np.array_equal(*small)


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("parts", [1, 7])
def test_each_filter_is_undone(kind: int, parts: int) -> None:
    data = png(filtered(kind), parts=parts)
    new = prepared(data)
    assert isinstance(new, np.ndarray) == (kind == 1)
    pixels = new if isinstance(new, np.ndarray) else by_opencv(new)
    assert np.array_equal(pixels, GREY)
    assert np.array_equal(slices.decode(data, "slice").pixels, GREY)


def test_rows_of_several_filters_are_undone() -> None:
    rows = np.stack([np.frombuffer(filtered(kind), np.uint8).reshape(96, 97) for kind in range(5)])
    mixed = np.concatenate([rows[place % 5, [place]] for place in range(96)])
    assert np.array_equal(slices.decode(png(mixed.tobytes()), "slice").pixels, GREY)


def test_a_large_stored_png_has_several_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    data = cv2.imencode(".png", image)[1].tobytes()
    new = prepared(data)
    assert isinstance(new, bytes)
    assert len(new) > 300 * 901
    assert np.array_equal(by_opencv(new), by_opencv(data))


def test_a_stated_gamma_changes_no_grey() -> None:
    data = png(filtered(1), before=chunk(b"gAMA", struct.pack(">I", 100_000)))
    assert np.array_equal(prepared(data), GREY)


def test_a_chunk_that_may_change_pixels_leaves_them_to_opencv() -> None:
    data = png(filtered(1), before=chunk(b"tRNS", b"\0\7"))
    new = prepared(data)
    assert isinstance(new, bytes)
    assert np.array_equal(by_opencv(new), by_opencv(data))


@pytest.mark.parametrize(
    "data",
    [
        png(filtered(1)[:-1]),
        png(filtered(1) + b"\0"),
        png(filtered(1), after=b"more"),
        png(filtered(1), parts=2, between=chunk(b"tRNS", b"\0\7")),
    ],
    ids=["too little", "too much", "bytes after the end", "a chunk between the parts"],
)
def test_the_unusual_is_left_to_opencv(data: bytes) -> None:
    kept = image_headers.without_ancillary_chunks(data)
    assert png_pixels.prepare(kept, image_headers.parse(data)) is kept


def test_damaged_data_is_left_to_opencv() -> None:
    data = bytearray(png(filtered(1)))
    compressed = bytearray(zlib.compress(filtered(1)))
    compressed[-2] ^= 1  # the checksum of the pixels
    start = data.index(b"IDAT") - 4
    data[start:] = chunk(b"IDAT", bytes(compressed)) + chunk(b"IEND", b"")
    assert png_pixels.prepare(bytes(data), image_headers.parse(bytes(data))) == bytes(data)


def test_interlaced_and_large_pictures_are_left_to_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    interlaced = bytearray(png(filtered(1)))
    interlaced[28] = 1
    interlaced[8:33] = chunk(b"IHDR", bytes(interlaced[16:29]))
    header = image_headers.parse(bytes(interlaced))
    assert png_pixels.prepare(bytes(interlaced), header) == bytes(interlaced)
    monkeypatch.setattr(png_pixels, "_MAX_BYTES", 96 * 97 - 1)
    data = png(filtered(1))
    assert png_pixels.prepare(data, image_headers.parse(data)) == data


def test_without_isal_opencv_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_pixels, "_isal", lambda: None)
    data = png(filtered(4))
    assert prepared(data) == data
    assert np.array_equal(slices.decode(data, "slice").pixels, GREY)


def test_a_filter_that_does_not_exist_is_damage() -> None:
    rows = np.frombuffer(filtered(1), np.uint8).reshape(96, 97).copy()
    rows[40, 0] = 9
    with pytest.raises(InputRejected, match="damaged"):
        slices.decode(png(rows.tobytes()), "slice")
