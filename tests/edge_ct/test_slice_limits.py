"""Limits of slices: sides and sizes are refused on the header, quickly and without memory."""

import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_ct import slices
from edge_ct.errors import InputRejected

from .slice_bytes import pixels_of, png_of, tiff_of

Encode = Callable[..., bytes]


def refused_quickly(data: bytes, message: str) -> None:
    """Refused within 0.5 s and without 8 MB of Python memory or of resident memory."""
    resident = Path("/proc/self/statm")
    before = int(resident.read_text().split()[1]) if resident.exists() else 0
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(InputRejected, match=message):
            pixels_of(data)
        assert time.perf_counter() - start < 0.5
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    if resident.exists():
        assert (int(resident.read_text().split()[1]) - before) * os.sysconf("SC_PAGESIZE") < 8 << 20


@pytest.mark.parametrize("side", [60_000, 4097, 2**31 - 1, 2**32 - 1])
def test_giant_png_is_refused_on_its_header(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = png_of([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")])
    refused_quickly(data, f"{side} x {side} px; the limit is 4096 x 4096")


def test_giant_jpeg_is_refused_on_its_header(ramp: np.ndarray, encode: Encode) -> None:
    data = bytearray(encode(ramp, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    refused_quickly(bytes(data), "60000 x 60000 px")


def test_giant_tiff_is_refused_on_its_header() -> None:
    refused_quickly(tiff_of(60_000, 60_000, bytes(1000)), "60000 x 60000 px")


@pytest.mark.parametrize("kind", [3, 4, 9])
def test_tiff_that_states_its_size_twice_cannot_pass_the_limit(kind: int) -> None:
    """libtiff takes the first of two equal tags, whatever integer type it has: the limit must look at the same."""
    side, strip = 5000, zlib.compress(bytes(5000 * 5000), 9)
    tags = [(256, kind, side), (256, 4, 64), (257, kind, side), (257, 4, 64), (258, 4, 8), (259, 4, 8)]
    tags += [(262, 4, 1), (273, 4, 8), (277, 4, 1), (278, 4, side), (279, 4, len(strip))]
    entries = b"".join(struct.pack("<HHII", tag, own, 1, value) for tag, own, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    with pytest.raises(InputRejected):
        pixels_of(b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory)


@pytest.mark.parametrize(("width", "height"), [(4097, 40), (40, 4097), (31, 40), (40, 31), (1, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_sides_outside_the_limits_are_refused(encode: Encode, width: int, height: int, kind: str) -> None:
    with pytest.raises(InputRejected, match=f"{width} x {height} px"):
        pixels_of(encode(np.zeros((height, width), np.uint8), kind))


@pytest.mark.parametrize(("width", "height"), [(4096, 32), (32, 4096), (32, 32)])
def test_sides_at_the_limits_are_read(encode: Encode, width: int, height: int) -> None:
    assert pixels_of(encode(np.zeros((height, width), np.uint8), "PNG")).shape == (height, width)


def test_file_over_64_mib_is_refused_unread(tmp_path: Path, encode: Encode, grey: np.ndarray) -> None:
    path = tmp_path / "sparse.png"
    path.write_bytes(encode(grey, "PNG"))
    os.truncate(path, 64 * 1024 * 1024 + 1)
    tracemalloc.start()
    try:
        with pytest.raises(InputRejected, match="the limit is 64 MiB"):
            slices.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_bytes_over_64_mib_are_refused() -> None:
    with pytest.raises(InputRejected, match="the limit is 64 MiB"):
        slices.decode(bytes(64 * 1024 * 1024 + 1), "memory")
