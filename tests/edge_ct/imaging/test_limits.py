"""Small files that would take gigabytes or minutes: each is refused by its structure, before a decoder sees it."""

import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from edge_ct import slices
from edge_ct.errors import InputRejected
from edge_ct.imaging import code_streams, image_headers

from ... import hostile

JPEG_EXTENDED, JPEG_LOSSLESS, MPEG = (f"1.2.840.10008.1.2.4.{number}" for number in (51, 70, 100))
SECOND_FRAME = b"\xff\xc0\0\x0b\x08\0\x40\0\x40\x01\x01\x11\0"
SMALL_BLOCKS = hostile.jpeg_segment(0x53, bytes([0, 0, 5, 0, 0, 0, 1]))


def j2k(side: int = 64, **options: Any) -> bytes:
    return hostile.compressed(hostile.j2k(side, **options), side=side)


def unknown_items() -> bytes:
    """The items of a standard sequence whose representation is given as unknown."""
    return hostile.empty_items().replace(b"\xe1\x7f\x01\x10SQ", b"\x00\x52\x30\x92UN")


def disguised_deflated() -> bytes:
    """A deflated object whose transfer syntax has a space before it, which a parser strips."""
    uid = b"1.2.840.10008.1.2.1.99"
    return hostile.deflated_items().replace(b"UI\x16\0" + uid, b"UI\x18\0 " + uid + b"\0")


def implicit_in_explicit() -> bytes:
    """Elements without representations under an explicit syntax; the length of one looks like a representation."""
    data = hostile.saved(hostile.ct(hostile.phantom(0)))
    (length,) = struct.unpack_from("<I", data, 140)
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * (0x0C5458 // 8)
    first = struct.pack("<HHL", 0x0008, 0x0008, 0)
    return data[: 144 + length] + first + struct.pack("<HHL", 0x0040, 0x0275, len(items)) + items


def explicit_in_implicit() -> bytes:
    """Explicit elements under the implicit syntax: read without representations, they are a value of 20 kB."""
    data = hostile.saved(hostile.ct(hostile.phantom(0)))
    (length,) = struct.unpack_from("<I", data, 140)
    meta = data[: 144 + length].replace(b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x12\x001.2.840.10008.1.2\0")
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 2500
    element = struct.pack("<HH2sHL", 0x7FE1, 0x1001, b"SQ", 0, len(items)) + items
    return meta + struct.pack("<HH2sH", 0x0008, 0x0008, b"CS", 0) + element * 40


def big_endian_without_syntax() -> bytes:
    items = struct.pack(">HHL", 0xFFFE, 0xE000, 0) * 100_000
    element = struct.pack(">HH2sHL", 0x7FE1, 0x1001, b"SQ", 0, len(items))
    return bytes(128) + b"DICM" + struct.pack(">HH2sH", 0x0008, 0x0008, b"CS", 0) + element + items


def restyled_tile() -> bytes:
    """A JPEG 2000 whose tile part has another coding style, of very small precincts, than its main header."""
    style = hostile.jpeg_segment(0x52, struct.pack(">BBHB", 1, 0, 1, 0) + bytes([5, 4, 4, 0, 1]) + b"\x11" * 6)
    stream = hostile.j2k(4096).replace(struct.pack(">HHI", 10, 0, 22), struct.pack(">HHI", 10, 0, 22 + len(style)))
    return hostile.compressed(stream.replace(b"\xff\x93", style + b"\xff\x93"), side=4096)


def overlapping_tiff(compression: int) -> bytes:
    """A TIFF of 4,000 strips that are all the same megabyte, which takes long to unpack to one row, or to nothing."""
    if compression == 8:
        empty = b"\0\0\0\xff\xff"  # a stored block of Deflate
        data = b"\x78\x9c" + empty * 200_000 + b"\1\0\0\xff\xff" + struct.pack(">I", zlib.adler32(b""))
    else:
        data = bytes([128]) * (1 << 20) + bytes([63]) + bytes(64)
    count = 4000
    begins, lengths = 8 + len(data), 8 + len(data) + 4 * count
    values = {256: 64, 257: count, 258: 8, 259: compression, 262: 1, 277: 1, 278: 1}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items()]
    entries += [struct.pack("<HHII", 273, 4, count, begins), struct.pack("<HHII", 279, 4, count, lengths)]
    directory = struct.pack("<H", len(entries)) + b"".join(sorted(entries, key=lambda e: e[:2][::-1])) + bytes(4)
    offsets = struct.pack("<I", 8) * count + struct.pack("<I", len(data)) * count
    return b"II*\0" + struct.pack("<I", 8 + len(data) + 8 * count) + data + offsets + directory


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "png-excess": (hostile.excess_rows, "far more pixel data"),
    "png-chunks": (lambda: hostile.png(hostile.png_chunk(b"eMPt", b"") * 70_000), "over 65536 chunks"),
    "jpeg-scans": (hostile.jpeg_of_scans, "over 100 scans"),
    "jpeg-kind": (lambda: hostile.jpeg_of_scans(1).replace(b"\xff\xc2", b"\xff\xcb"), "unsupported"),
    "jpeg-frames": (lambda: hostile.jpeg_of_scans(1).replace(b"\xff\xc2", SECOND_FRAME + b"\xff\xc2"), "two frames"),
    "tiff-tiles": (lambda: hostile.tiff(t322=1 << 16, t323=1 << 14), "tiles"),
    "tiff-channels": (lambda: hostile.tiff(t277=60_000), "channels"),
    "tiff-compression": (lambda: hostile.tiff(t259=50_001), "unsupported compression"),
    "j2k-components": (lambda: j2k(components=500), "500 components"),
    "j2k-two-components": (lambda: j2k(components=2), "2 components"),
    "j2k-tiles": (lambda: j2k(4096, tile=1), "tiles"),
    "j2k-layers": (lambda: j2k(layers=65_535), "layers"),
    "j2k-precincts": (lambda: j2k(4096, precinct=1), "precincts"),
    "j2k-blocks": (lambda: j2k(4096, block=0), "code blocks"),
    "j2k-component-style": (lambda: j2k(4096, parts=SMALL_BLOCKS), "code blocks"),
    "j2k-boxed": (lambda: hostile.compressed(hostile.boxed(hostile.j2k())), "not a raw JPEG 2000"),
    "j2k-size": (lambda: hostile.compressed(hostile.j2k(12_000)), "12000 x 12000 px in an object of 64 x 64"),
    "dicom-jpeg-scans": (lambda: hostile.compressed(hostile.jpeg_of_scans(side=64), JPEG_EXTENDED), "over 100 scans"),
    "dicom-unknown-stream": (lambda: hostile.compressed(b"\0\1\2\3" * 8, JPEG_LOSSLESS), "not a JPEG"),
    "dicom-unknown-syntax": (lambda: hostile.compressed(hostile.j2k(), MPEG), "transfer syntax"),
    "dicom-rle-segments": (lambda: hostile.compressed(b"\x0f\0\0\0" + bytes(60), hostile.RLE), "segments"),
    "dicom-items": (hostile.empty_items, "over 65,536 items"),
    "dicom-items-unknown": (unknown_items, "over 65,536 items"),
    "dicom-items-deflated": (hostile.deflated_items, "over 65,536 items"),
    "dicom-elements": (hostile.many_elements, "over 524,288 elements"),
    "dicom-deflated-disguised": (disguised_deflated, "over 65,536 items"),
    "dicom-implicit-in-explicit": (implicit_in_explicit, "over 65,536 items"),
    "dicom-explicit-in-implicit": (explicit_in_implicit, "over 65,536 items"),
    "dicom-big-endian": (big_endian_without_syntax, "over 65,536 items"),
    "j2k-tile-style": (restyled_tile, "precincts"),
    "tiff-deflate-overlap": (lambda: overlapping_tiff(8), "overlap"),
    "tiff-packbits-overlap": (lambda: overlapping_tiff(32773), "overlap"),
    "dicom-value": (hostile.long_value, "256 KiB"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_refused_by_its_structure(name: str) -> None:
    build, message = BOMBS[name]
    data = build()
    assert len(data) < 12 << 20
    slices.decode(hostile.saved(hostile.ct(hostile.phantom(0))), "warm")  # pydicom's import is not measured
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(InputRejected, match=message) as caught:
            slices.decode(data, "bomb")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 10
    assert "\n" not in str(caught.value)


def test_text_chunks_are_dropped_before_decoding() -> None:
    data = hostile.text_chunks()
    kept = image_headers.without_ancillary_chunks(data)
    assert (len(data) > 1 << 20, len(kept) < 1000) == (True, True)
    assert np.array_equal(slices.decode(data, "x").pixels, np.zeros((64, 64), np.uint8))


def test_chunks_that_change_pixels_are_kept() -> None:
    image, info = Image.fromarray(hostile.phantom(1)), PngImagePlugin.PngInfo()
    info.add_text("Comment", "text")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    image.save(buffer, "PNG", pnginfo=info, exif=exif, transparency=5)
    kept = image_headers.without_ancillary_chunks(buffer.getvalue())
    assert b"tEXt" not in kept
    assert (b"eXIf" in kept, b"tRNS" in kept) == (True, True)
    assert np.array_equal(
        slices.decode(buffer.getvalue(), "x").pixels, np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    )


def test_sound_files_of_every_kind_are_read() -> None:
    for data in hostile.sound_files():
        assert slices.decode(data, "x").pixels.shape == (64, 64)


@pytest.mark.parametrize("side", [512, 1024, 4096])
def test_usual_jpeg_2000_is_within_the_limits(side: int) -> None:
    """64 x 64 and 32 x 32 code blocks, five levels, tiles of 256, precincts of 128."""
    for options in ({}, {"block": 3}, {"tile": 256}, {"precinct": 7}, {"layers": 20}):
        frame = code_streams.jpeg_2000(hostile.j2k(side, **options))
        assert (frame.width, frame.height, frame.components, frame.bits) == (side, side, 1, 16)


def test_flipped_bits_in_run_lengths_are_refused_or_read() -> None:
    """One of the decoders panics over some of them, which is no Exception."""
    refused = 0
    for data in hostile.flipped_rle(200):
        try:
            slices.decode(data, "x")
        except InputRejected as error:
            refused += 1
            assert "damaged or unsupported DICOM" in str(error)
    assert refused > 5
