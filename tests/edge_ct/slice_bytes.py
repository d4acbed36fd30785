"""Slice files of the tests, byte by byte: PNG chunks, a TIFF of one strip, and Pillow as the reader to compare with."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

from edge_ct import slices

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], len(PNG_SIGNATURE)
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        found.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def png_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    return PNG_SIGNATURE + b"".join(chunk(name, content) for name, content in parts)


def tiff_of(width: int, height: int, data: bytes, **tags: int) -> bytes:
    """A little-endian TIFF of one strip, after the TIFF 6.0 specification, section 2 and 3."""
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    values |= {int(name.removeprefix("t")): value for name, value in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
    directory = struct.pack("<H", len(values)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def pixels_of(data: bytes) -> np.ndarray:
    return slices.decode(data, "test").pixels


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))
