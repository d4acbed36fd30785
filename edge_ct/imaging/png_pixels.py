"""Inflating the pixels of a PNG before OpenCV decodes it, which saves half of the time of reading a slice.

The zlib that OpenCV brings along inflates slowly. ISA-L (the package `isal`, for x86-64 and 64-bit Arm) inflates the
pixels here, and OpenCV gets the same PNG with its pixels stored uncompressed: it undoes the filters and converts the
pixels as before, so the decoded bytes are the same. Grey slices as OpenCV itself writes them, in which every row is
stored as differences from the pixel to the left, need no decoder then.

Whatever is unusual (interlacing, damage, too much or too little data, very large pictures) is left to OpenCV, and
so is everything where `isal` is not installed.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np

from .image_headers import PNG_SIGNATURE, Header

# Bytes of inflated rows: twice a colour slice of 1,024 x 1,024 px. Larger pictures would take more memory in this way
# than a worker may have.
_MAX_BYTES = 8 << 20
_STORED_BLOCK = 65_535  # bytes of an uncompressed block, RFC 1951, section 3.2.4
_HEADER_END = len(PNG_SIGNATURE) + 25
_INTERLACE = _HEADER_END - 5  # offset of the interlace method
_BLOCK = 16  # columns that are added up together
_LEFT = 1  # filter type `Sub`: each byte is stored as its difference from the byte one pixel to the left


class _Pixels(NamedTuple):
    """The pixel data of a PNG.

    Attributes:
        begin: Offset of the first chunk with pixel data.
        end: Offset behind the last one.
        rows: The inflated rows, each with its filter type in front.
        checksum: Adler-32 of the rows as the file states it, 4 bytes.
    """

    begin: int
    end: int
    rows: bytes
    checksum: bytes


def prepare(data: bytes, header: Header) -> np.ndarray | bytes:
    """Decode a PNG, or make it faster to decode.

    Args:
        data: A PNG that `image_headers.parse` has accepted and `without_ancillary_chunks` returned.
        header: Its header.

    Returns:
        The pixels, uint8 [h, w], of a PNG of 8-bit greys in rows of differences; else a PNG of the same pixels, for
        OpenCV to decode.
    """
    isal = _isal()
    pixels = None if isal is None else _inflate(isal, data, header)
    if pixels is None:
        return data
    # Any other chunk, such as transparency or an orientation, may change the pixels.
    plain = pixels.begin == _HEADER_END and data[pixels.end + 4 : pixels.end + 8] == b"IEND"
    if plain and (header.channels, header.bits, header.palette) == (1, 8, False):
        rows = np.frombuffer(pixels.rows, np.uint8).reshape(header.height, header.width + 1)
        if (rows[:, 0] == _LEFT).all():
            return _running_sums(rows[:, 1:])
    return _stored(isal, data, pixels)


def _running_sums(rows: np.ndarray) -> np.ndarray:
    """Add up each row from the left, modulo 256: uint8 [h, w] -> uint8 [h, w].

    Whole columns are added, which become rows for this purpose: NumPy adds many bytes of a row at a time. Blocks of
    columns are added up first, all blocks at once, and then the last sums of the blocks before. `np.cumsum`, which adds
    byte by byte, takes five times as long.
    """
    columns: np.ndarray = cv2.transpose(rows)
    width, height = columns.shape
    whole = width - width % _BLOCK
    blocks = columns[:whole].reshape(-1, _BLOCK, height)
    for place in range(1, _BLOCK):
        blocks[:, place] += blocks[:, place - 1]
    for before, block in pairwise(blocks):
        block += before[-1]
    for column in range(max(whole, 1), width):
        columns[column] += columns[column - 1]
    return cv2.transpose(columns)


def _isal() -> Any:
    """Return the module that inflates; None where it is not installed."""
    try:
        from isal import isal_zlib  # late: `edge-ct classify` of another format does not need it
    except ImportError:
        return None
    return isal_zlib


def _inflate(isal: Any, data: bytes, header: Header) -> _Pixels | None:
    """Inflate the pixel data; None if it is unusual."""
    samples = 1 if header.palette else header.channels
    expected = ((header.width * samples * header.bits + 7) // 8 + 1) * header.height
    if data[_INTERLACE] or expected > _MAX_BYTES:
        return None
    begin = end = 0
    parts: list[bytes] = []
    position, name = len(PNG_SIGNATURE), b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, position)
        following = position + 12 + length
        if name == b"IDAT":
            if parts and position != end:
                return None
            begin = begin or position
            end = following
            parts.append(data[position + 8 : position + 8 + length])
        position = following
    inflater = isal.decompressobj()
    try:
        # One byte more than expected shows that there is too much.
        rows = inflater.decompress(b"".join(parts), expected + 1)
    except isal.error:
        return None
    if len(rows) != expected or not inflater.eof or inflater.unused_data:
        return None
    return _Pixels(begin, end, rows, b"".join(parts[-2:])[-4:])


def _stored(isal: Any, data: bytes, pixels: _Pixels) -> bytes:
    """Return the PNG with its pixel data in uncompressed blocks."""
    blocks = [b"IDAT\x78\x01"]
    for start in range(0, len(pixels.rows), _STORED_BLOCK):
        block = pixels.rows[start : start + _STORED_BLOCK]
        last = start + _STORED_BLOCK >= len(pixels.rows)
        blocks += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    chunk = b"".join([*blocks, pixels.checksum])
    ends = struct.pack(">I", len(chunk) - 4), struct.pack(">I", isal.crc32(chunk))
    return b"".join([data[: pixels.begin], ends[0], chunk, ends[1], data[pixels.end :]])
