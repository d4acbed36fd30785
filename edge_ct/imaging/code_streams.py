"""Compressed code streams: what a decoder would allocate for them, read from their headers alone.

Sources: ITU-T T.81 annex B (JPEG), T.87 annex C (JPEG-LS), T.800 annex A (JPEG 2000); DICOM PS3.5 annex G (RLE).
Every function raises ValueError with a short reason.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .huffman_zeros import ZeroRuns
from .limits import (
    MAX_J2K_BLOCKS,
    MAX_J2K_LAYERS,
    MAX_J2K_PRECINCTS,
    MAX_J2K_TILE_PARTS,
    MAX_J2K_TILES,
    MAX_JPEG_COMPONENTS,
    MAX_JPEG_SCANS,
)

_BASELINE = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})  # sequential and progressive DCT
_LOSSLESS = frozenset({0xC3})
_JPEG_LS = frozenset({0xF7})
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | _JPEG_LS
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
# Within a scan 0xFF is followed by 0 (a stuffed byte) or by a restart marker, unless another segment begins.
_NEXT_SEGMENT = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
# In JPEG-LS the byte behind 0xFF has its highest bit clear, so that more than 0 can follow (T.87, A.1).
_NEXT_SEGMENT_LS = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")


@dataclass(frozen=True)
class Frame:
    """What a code stream states about its image.

    Attributes:
        width: In pixels.
        height: In pixels.
        components: Number of components.
        bits: Precision of a sample.
        end: Offset behind the end marker of a JPEG; 0 for other streams.
    """

    width: int
    height: int
    components: int
    bits: int
    end: int = 0


def jpeg(data: bytes | memoryview, dicom: bool = False, tables: bytes | memoryview | None = None) -> Frame:
    """Walk all segments of a JPEG to its end.

    Args:
        data: The stream.
        dicom: True reads lossless JPEG and JPEG-LS as well.
        tables: A stream of tables that the stream builds on, as a TIFF has for all its strips.

    Raises:
        ValueError: The stream is truncated, of an unsupported kind, has two frames or components that differ in number,
            more scans than `MAX_JPEG_SCANS`, or lost data to a run of zeros.
    """
    frame, process, scans, position = None, 0, 0, 2
    pattern = _NEXT_SEGMENT
    zero_runs = ZeroRuns()
    for begin, length in _tables(tables) if tables else ():
        zero_runs.define(tables or b"", begin, length)
    while True:
        if data[position] != 0xFF:
            raise ValueError("damaged JPEG (marker expected)")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xD9:
            if frame is None or not scans:
                raise ValueError("truncated JPEG")
            return replace(frame, end=position + 2)
        if marker in _STANDALONE:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in _START_OF_FRAME:
            if frame is not None:
                raise ValueError("damaged JPEG (two frames)")
            if marker not in (_BASELINE | _LOSSLESS | _JPEG_LS if dicom else _BASELINE):
                raise ValueError("a JPEG of an unsupported kind")
            bits, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
            if not 1 <= components <= MAX_JPEG_COMPONENTS:
                raise ValueError(f"a JPEG of {components} components; at most {MAX_JPEG_COMPONENTS} are read")
            frame, process = Frame(width, height, components, bits), marker
            if marker in _JPEG_LS:
                pattern = _NEXT_SEGMENT_LS
        segment = position + 4
        position += 2 + length
        if marker == 0xC4:
            zero_runs.define(data, segment, length - 2)
        if marker == 0xDA:
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise ValueError(f"a JPEG of over {MAX_JPEG_SCANS} scans")
            following = pattern.search(data, position)
            if frame is None or following is None:
                raise ValueError("truncated JPEG")
            zero_runs.check_scan(data, segment, position, following.start(), process)
            position = following.start()


def count_jpegs(data: bytes, first: Frame) -> int:
    """Return how many pictures of the size of the first one a JPEG file holds, as those of stereo cameras do.

    Args:
        data: The file.
        first: What `jpeg` found at its beginning.
    """
    count, end = 1, first.end
    while (begin := data.find(b"\xff\xd8\xff", end)) >= 0:
        try:
            following = jpeg(memoryview(data)[begin:])
        except (ValueError, struct.error, IndexError):
            break
        # A smaller one is a preview, or a map of the light that a phone has stored.
        count += (following.width, following.height) == (first.width, first.height)
        end = begin + following.end
    return count


def _tables(data: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """Yield offset and length of the content of each DHT segment in a stream of tables."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xD9:
        (length,) = struct.unpack_from(">H", data, position + 2)
        if data[position + 1] == 0xC4:
            yield position + 4, length - 2
        position += 2 + length


def jpeg_2000(data: bytes | memoryview) -> Frame:
    """Read the headers of a raw JPEG 2000 code stream and of its tile parts (T.800, A.4 to A.6).

    Raises:
        ValueError: The stream is damaged, or its tiles, layers, precincts or code blocks exceed the limits.
    """
    if bytes(data[:4]) != b"\xff\x4f\xff\x51":
        raise ValueError("not a raw JPEG 2000 code stream")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(
        ">8IH", data, 8
    )
    width, height = right - left, bottom - top
    if width <= 0 or height <= 0 or not tile_width or not tile_height or tile_left > left or tile_top > top:
        raise ValueError("damaged JPEG 2000 (no size)")
    parts = [struct.unpack_from(">3B", data, 42 + 3 * number) for number in range(min(components, 4))]
    if any((horizontal, vertical) != (1, 1) for _, horizontal, vertical in parts):
        raise ValueError("a JPEG 2000 with subsampled components")
    across = -(-(right - tile_left) // tile_width) - (left - tile_left) // tile_width
    down = -(-(bottom - tile_top) // tile_height) - (top - tile_top) // tile_height
    if across * down > MAX_J2K_TILES:
        raise ValueError(f"a JPEG 2000 of {across * down} tiles; at most {MAX_J2K_TILES} are read")
    sides = (min(tile_width, width), min(tile_height, height))
    tiles = across * down
    styles, position = _check_coding_styles(data, 4 + struct.unpack_from(">H", data, 4)[0], components, sides, tiles)
    if not styles:
        raise ValueError("damaged JPEG 2000 (no coding style)")
    # The header of a tile part may replace the coding style of its tile.
    for _ in range(MAX_J2K_TILE_PARTS):
        if position + 12 > len(data) or bytes(data[position : position + 2]) != b"\xff\x90":
            break
        (length,) = struct.unpack_from(">I", data, position + 6)
        _check_coding_styles(data, position + 12, components, sides, tiles)
        if not length:  # The last tile part reaches to the end.
            break
        if length < 14:
            raise ValueError("damaged JPEG 2000 (tile part)")
        position += length
    else:
        raise ValueError(f"a JPEG 2000 of over {MAX_J2K_TILE_PARTS:,} tile parts")
    bits = (parts[0][0] & 0x7F) + 1
    return Frame(width, height, components, bits)


def _check_coding_styles(
    data: bytes | memoryview, position: int, components: int, sides: tuple[int, int], tiles: int
) -> tuple[int, int]:
    """Check the coding styles of the header that begins at `position`: the main one, or that of a tile part.

    Returns:
        The number of its COD segments, and the offset of its end.
    """
    styles = 0
    while True:
        marker, length = struct.unpack_from(">HH", data, position)
        if marker in (0xFF90, 0xFF93, 0xFFD9):  # tile part, data, end: the header is over
            return styles, position
        if marker in (0xFF52, 0xFF53):  # COD, COC
            _check_coding_style(data, position + 4, marker, components, sides, tiles)
            styles += marker == 0xFF52
        position += 2 + length


def _check_coding_style(
    data: bytes | memoryview, position: int, marker: int, components: int, sides: tuple[int, int], tiles: int
) -> None:
    """Check the COD or COC segment whose content begins at `position`. sides: of a tile, in pixels."""
    if marker == 0xFF52:
        style, _, layers, _ = struct.unpack_from(">BBHB", data, position)
        position += 5
        if not 1 <= layers <= MAX_J2K_LAYERS:
            raise ValueError(f"a JPEG 2000 of {layers} layers; at most {MAX_J2K_LAYERS} are read")
    else:
        position += 1 if components < 257 else 2
        style = data[position]
        position += 1
    levels, block_width, block_height = data[position], (data[position + 1] & 15) + 2, (data[position + 2] & 15) + 2
    if levels > 32 or block_width + block_height > 12:
        raise ValueError("damaged JPEG 2000 (coding style)")
    precincts = blocks = 0
    for resolution in range(levels + 1):
        packed = data[position + 5 + resolution] if style & 1 else 0xFF
        width, height = (max(1, -(-side // (1 << (levels - resolution)))) for side in sides)
        # One more than the division gives: precincts and blocks lie on a grid that a tile need not begin on.
        precincts += (width // (1 << (packed & 15)) + 2) * (height // (1 << (packed >> 4)) + 2)
        reduced = 1 if resolution else 0  # a precinct of a higher resolution is split into bands of half the size
        small = (min(block_width, (packed & 15) - reduced), min(block_height, (packed >> 4) - reduced))
        if min(small) < 0:
            raise ValueError("damaged JPEG 2000 (precincts)")
        blocks += (width // (1 << small[0]) + 2) * (height // (1 << small[1]) + 2)
    if precincts * tiles > MAX_J2K_PRECINCTS or blocks * tiles > MAX_J2K_BLOCKS:
        raise ValueError("a JPEG 2000 of too many precincts or code blocks")


def rle(data: bytes | memoryview, samples: int) -> None:
    """Check the header of an RLE frame. samples: bytes of a pixel, each of which has a segment of its own."""
    count, *offsets = struct.unpack_from("<16I", data, 0)
    used = offsets[:count] if count <= 15 else []
    if count != samples or used[:1] != [64] or any(a >= b for a, b in zip(used, [*used[1:], len(data)], strict=True)):
        raise ValueError("damaged RLE (segments)")
