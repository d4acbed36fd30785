"""Image headers: format, size and completeness of a PNG, JPEG or TIFF, read before any decoder allocates.

Sources: PNG specification (W3C, third edition) section 5; ITU-T T.81 annex B; TIFF 6.0 section 2.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}


@dataclass(frozen=True)
class Header:
    """What a file says of itself. channels counts alpha; a PNG palette counts as 3, a TIFF's as 1."""

    format: str
    width: int
    height: int
    channels: int
    bits: int
    white_is_zero: bool = False
    palette: bool = False


def parse(data: bytes) -> Header:
    """Read the header of an image and check that the file is complete. Raises ValueError with a short reason."""
    if not data:
        raise ValueError("empty file")
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data[:4] in (b"II*\x00", b"MM\x00*"):
            return _tiff(data)
    except (struct.error, IndexError) as error:
        raise ValueError("truncated") from error
    raise ValueError("not a PNG, JPEG, TIFF or DICOM image")


def _png(data: bytes) -> Header:
    """Walk the chunks to IEND; a decoder would fill what is missing with grey and say nothing."""
    header, position = None, len(_PNG)
    while True:
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(memoryview(data)[position + 4 : end]) != checksum:
            raise ValueError(f"damaged PNG (checksum of {name.decode('latin-1')!r})")
        if header is None:
            if name != b"IHDR" or length != 13:
                raise ValueError("damaged PNG (no header)")
            width, height, bits, colour = struct.unpack_from(">IIBB", data, position + 8)
            header = Header("PNG", width, height, _PNG_CHANNELS.get(colour, 0), bits, palette=colour == 3)
        if name == b"IEND":
            return header
        position = end + 4


def _jpeg(data: bytes) -> Header:
    header, position = None, 2
    while True:
        if data[position] != 0xFF:
            raise ValueError("damaged JPEG (marker expected)")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _STANDALONE:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in _START_OF_FRAME:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, position + 4)
            header = Header("JPEG", width, height, channels, bits)
        if marker == 0xDA:
            # Within the scan 0xFF is stuffed, so an end-of-image marker behind it is a real one.
            if header is None or data.rfind(b"\xff\xd9", position) < 0:
                raise ValueError("truncated JPEG")
            return header
        position += 2 + length


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    tags: dict[int, int] = {}
    seen: set[int] = set()
    for position in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI", data, position)
        if tag in seen:
            # libtiff takes the first, others the last: nobody could say which size was checked.
            raise ValueError("damaged TIFF (a tag twice)")
        seen.add(tag)
        if kind in _TIFF_TYPES:
            letter = _TIFF_TYPES[kind]
            at = position + 8
            if values * struct.calcsize(letter) > 4:
                (at,) = struct.unpack_from(order + "I", data, at)
            (tags[tag],) = struct.unpack_from(order + letter, data, at)
    if 256 not in tags or 257 not in tags:
        raise ValueError("damaged TIFF (no size)")
    bits, photometric = tags.get(258, 1), tags.get(262)
    return Header("TIFF", tags[256], tags[257], tags.get(277, 1), bits, photometric == 0, photometric == 3)
