"""The compressed strips and tiles of a TIFF: libtiff does not tell every damage, so they are checked before it decodes.

Sources: TIFF 6.0, section 9 (PackBits); TIFF Technical Note 2 (JPEG); RFC 1950 (Deflate).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import code_streams
from .limits import MAX_PNG_EXCESS, MAX_SIDE, MAX_TIFF_READ

_JPEG, _PACKBITS, _DEFLATE = 7, 32773, (8, 32946)
_DAMAGED = "damaged TIFF (compressed data)"


@dataclass(frozen=True)
class Strips:
    """Where the strips or tiles of a TIFF are, and what they hold.

    Attributes:
        compression: Value of the tag Compression.
        begins: Offset of each strip or tile.
        lengths: Length in bytes of each strip or tile.
        width: Width in pixels of the image, or of a tile.
        height: Height in pixels of the image, or of a tile.
        rows: Number of rows of a strip or tile; the last strip of an image may have fewer.
        bits: Bits of a pixel in a strip or tile.
        jpeg_tables: Offset and length of the JPEG tables that all strips share; None if there are none.
    """

    compression: int
    begins: Sequence[int]
    lengths: Sequence[int]
    width: int
    height: int
    rows: int
    bits: int
    jpeg_tables: tuple[int, int] | None

    def check(self, data: bytes) -> None:
        """Raise ValueError if the compressed data of a strip or tile is damaged. data: the file."""
        view = memoryview(data)
        parts = [view[begin : begin + length] for begin, length in zip(self.begins, self.lengths, strict=False)]
        if sum(map(len, parts)) > MAX_TIFF_READ * len(data):
            # A decoder would read the same bytes again and again.
            raise ValueError("damaged TIFF (its strips or tiles overlap)")
        if self.compression in _DEFLATE:
            sides = min(self.width, MAX_SIDE) * min(self.height, MAX_SIDE)
            _check_deflated(parts, max(sides * self.bits // 8, 1))
        elif self.compression == _PACKBITS:
            for part, size in zip(parts, self._sizes(), strict=False):
                _check_packbits(bytes(part), size)
        elif self.compression == _JPEG:
            tables = None
            if self.jpeg_tables:
                begin, length = self.jpeg_tables
                tables = view[begin : begin + length]
            for part in parts:
                try:
                    code_streams.jpeg(part, tables=tables)
                except ValueError as error:
                    raise ValueError(str(error).replace("JPEG", "TIFF")) from error

    def _sizes(self) -> Iterator[int]:
        """Yield the number of bytes that each strip or tile holds, without end: planes repeat the strips."""
        row = (self.width * self.bits + 7) // 8
        while True:
            for first in range(0, max(self.height, 1), max(self.rows, 1)):
                yield row * min(self.rows, self.height - first)


def _check_packbits(data: bytes, expected: int) -> None:
    """Raise ValueError unless a strip unpacks to the expected number of bytes exactly."""
    position, left, end = 0, expected, len(data)
    while left > 0 and position < end:
        count = data[position]
        if count < 128:
            position += count + 2
            left -= count + 1
        else:
            position += 2 if count > 128 else 1
            left -= 257 - count if count > 128 else 0
    # Writers may fill a strip up to an even length.
    if left or not end - 1 <= position <= end:
        raise ValueError(_DAMAGED)


def _check_deflated(parts: Sequence[memoryview], expected: int) -> None:
    """Raise ValueError if a part is damaged: libtiff does not look at the checksums of Deflate.

    Args:
        parts: The content of each strip or tile.
        expected: Number of bytes of the image.
    """
    left = expected + MAX_PNG_EXCESS
    try:
        for part in parts:
            inflater, block = zlib.decompressobj(), part
            while len(block) and not inflater.eof:
                left -= len(inflater.decompress(block, 1 << 20))
                block = memoryview(inflater.unconsumed_tail)
                if left < 0:
                    raise ValueError("a TIFF with far more pixel data than its size needs")
            if not inflater.eof:
                raise ValueError(_DAMAGED)
    except zlib.error as error:
        raise ValueError(_DAMAGED) from error
