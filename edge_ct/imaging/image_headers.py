"""Image headers: format, size and completeness of a PNG, JPEG or TIFF, read before a decoder allocates memory.

Sources: PNG specification (W3C, third edition) section 5; ITU-T T.81 annex B; TIFF 6.0 section 2.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from .limits import MAX_PNG_CHUNKS, MAX_PNG_EXCESS, MAX_SIDE, MAX_TIFF_CHANNELS, MAX_TIFF_PAGES, MAX_TIFF_STRIPS

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Ancillary chunks that belong to the pixels of an image; all of them are small. Those that state colours and gamma are
# dropped: with them OpenCV's decoder weighs red, green and blue by other numbers than Rec. 601.
_PNG_KEPT = frozenset({b"tRNS", b"eXIf", b"sBIT"})
_MAX_KEPT_CHUNK = 65_536
# Deflate expands by less than this factor (zlib: 1032).
_MAX_DEFLATE_RATIO = 1040
_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}
# None, CCITT, LZW, JPEG, Deflate (two codes), PackBits.
_TIFF_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
# Separated inks (CMYK), CIE Lab, ICC Lab, ITU Lab.
_TIFF_OTHER_COLOURS = frozenset({5, 8, 9, 10})

# Offsets and lengths of strips, then of tiles.
_TIFF_SPANS = frozenset({273, 279, 324, 325})


@dataclass(frozen=True)
class Header:
    """What an image file states about itself.

    Attributes:
        channels: Number of channels including alpha; 3 for a PNG with a palette, 1 for a TIFF with one.
        bits: Bits of a sample.
        white_is_zero: True for a TIFF in which the value 0 is white.
        planes: True for a TIFF that stores its channels in separate planes.
        palette: True if the pixels are indices into a palette.
        other_colours: True for a TIFF in CMYK or Lab colours.
    """

    format: str
    width: int
    height: int
    channels: int
    bits: int
    white_is_zero: bool = False
    palette: bool = False
    planes: bool = False
    other_colours: bool = False


def parse(data: bytes) -> Header:
    """Read the header of an image, and check that the file is complete and cheap enough to decode.

    Raises:
        ValueError: The file is damaged, truncated or unsupported, or exceeds one of the `limits`. The message is a
            short reason.
    """
    if not data:
        raise ValueError("empty file")
    try:
        if data.startswith(PNG_SIGNATURE):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            from . import code_streams  # late: a cold `classify` of a PNG does not need it

            frame = code_streams.jpeg(data)
            if (pictures := code_streams.count_jpegs(data, frame)) > 1:
                raise ValueError(f"a JPEG of {pictures} pictures; save each as a file")
            return Header("JPEG", frame.width, frame.height, frame.components, frame.bits)
        if data[:4] in (b"II*\x00", b"MM\x00*"):
            return _tiff(data)
    except (struct.error, IndexError) as error:
        raise ValueError("truncated") from error
    raise ValueError("not a PNG, JPEG, TIFF or DICOM image")


def without_ancillary_chunks(data: bytes) -> bytes:
    """Drop the chunks of a parsed PNG that cannot change its pixels: a decoder would inflate and keep their content.

    Args:
        data: A PNG that `parse` has accepted, or a file of another format, which is returned unchanged.
    """
    if not data.startswith(PNG_SIGNATURE):
        return data
    spans: list[tuple[int, int]] = [(0, len(PNG_SIGNATURE))]
    position, name, end = len(PNG_SIGNATURE), b"", len(data)
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, position)
        after = position + 12 + length
        critical = not name[0] & 0x20
        if critical or (name in _PNG_KEPT and length <= _MAX_KEPT_CHUNK):
            if spans[-1][1] == position:
                spans[-1] = (spans[-1][0], after)
            else:
                spans.append((position, after))
        position = end = after
    if spans == [(0, end)]:
        return data
    return b"".join(data[first:last] for first, last in spans)


def _png(data: bytes) -> Header:
    """Walk the chunks to IEND; a decoder would fill what is missing with grey without a warning."""
    header, position, view = None, len(PNG_SIGNATURE), memoryview(data)
    pixels: list[tuple[int, int]] = []
    row_bytes = 0
    for _ in range(MAX_PNG_CHUNKS):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(view[position + 4 : end]) != checksum:
            raise ValueError(f"damaged PNG (checksum of {name.decode('latin-1')!r})")
        if header is None:
            if name != b"IHDR" or length != 13:
                raise ValueError("damaged PNG (no header)")
            width, height, bits, colour = struct.unpack_from(">IIBB", data, position + 8)
            samples = _PNG_CHANNELS.get(colour, 0)
            header = Header("PNG", width, height, 3 if colour == 3 else samples, bits, palette=colour == 3)
            # A filter byte for each row; an interlaced image has up to twice as many rows, of seven passes.
            row_bytes = ((width * samples * bits + 7) // 8 + 1) * height + 16 * (width + height)
        if name == b"IDAT":
            pixels.append((position + 8, end))
        if name == b"acTL" and (frames := struct.unpack_from(">I", data, position + 8)[0]) > 1:
            raise ValueError(f"an animated PNG of {frames} frames; save each as a file")
        if name == b"IEND":
            _check_inflated(view, pixels, row_bytes)
            return header
        position = end + 4
    raise ValueError(f"a PNG of over {MAX_PNG_CHUNKS} chunks")


def _check_inflated(view: memoryview, spans: list[tuple[int, int]], expected: int) -> None:
    """Raise ValueError if the pixel data of a PNG inflates to far more bytes than its rows need."""
    most = expected + MAX_PNG_EXCESS
    if sum(end - begin for begin, end in spans) * _MAX_DEFLATE_RATIO <= most:
        return
    inflater, inflated = zlib.decompressobj(), 0
    try:
        for begin, end in spans:
            block: bytes | memoryview = view[begin:end]
            while block and not inflater.eof:
                inflated += len(inflater.decompress(block, 1 << 20))
                block = inflater.unconsumed_tail
                if inflated > most:
                    raise ValueError("a PNG with far more pixel data than its size needs")
    except zlib.error as error:
        raise ValueError("damaged PNG (compressed data)") from error


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    tags: dict[int, int] = {}
    spans: dict[int, tuple[int, ...]] = {}
    spans_of_bytes: dict[int, tuple[int, int]] = {}
    seen: set[int] = set()
    for position in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI", data, position)
        if tag in seen:
            # libtiff takes the first value, other readers the last: the checked size might not be the decoded one.
            raise ValueError("damaged TIFF (a tag twice)")
        seen.add(tag)
        if kind in _TIFF_TYPES:
            letter = _TIFF_TYPES[kind]
            at = position + 8
            if values * struct.calcsize(letter) > 4:
                (at,) = struct.unpack_from(order + "I", data, at)
            (tags[tag],) = struct.unpack_from(order + letter, data, at)
            if tag in _TIFF_SPANS:
                if values > MAX_TIFF_STRIPS:
                    raise ValueError(f"a TIFF of over {MAX_TIFF_STRIPS} strips or tiles")
                spans[tag] = struct.unpack_from(f"{order}{values}{letter}", data, at)
        elif kind == 7 and values > 4:
            spans_of_bytes[tag] = (*struct.unpack_from(order + "I", data, position + 8), values)
    if 256 not in tags or 257 not in tags:
        raise ValueError("damaged TIFF (no size)")
    bits, photometric, channels = tags.get(258, 1), tags.get(262), tags.get(277, 1)
    if tags.get(259, 1) not in _TIFF_COMPRESSIONS:
        raise ValueError("a TIFF of an unsupported compression")
    if channels > MAX_TIFF_CHANNELS:
        raise ValueError(f"a TIFF of {channels} channels; at most {MAX_TIFF_CHANNELS} are read")
    if max(tags.get(322, 0), tags.get(323, 0)) > MAX_SIDE:
        raise ValueError(f"a TIFF with tiles over {MAX_SIDE} px")
    pages = _count_tiff_pages(data, order, directory)
    if pages > 1:
        number = pages if pages < MAX_TIFF_PAGES else f"{MAX_TIFF_PAGES} or more"
        raise ValueError(f"a TIFF of {number} pages; save each as a file")
    planes = channels > 1 and tags.get(284, 1) == 2
    tiled = 322 in tags and 323 in tags
    from .tiff_strips import Strips

    strips = Strips(
        compression=tags.get(259, 1),
        begins=spans.get(324 if tiled else 273, ()),
        lengths=spans.get(325 if tiled else 279, ()),
        width=tags[322 if tiled else 256],
        height=tags[323 if tiled else 257],
        rows=tags[323] if tiled else min(tags.get(278, tags[257]), tags[257]),
        bits=bits * (1 if planes else channels),
        jpeg_tables=spans_of_bytes.get(347),
    )
    strips.check(data)
    return Header(
        "TIFF",
        tags[256],
        tags[257],
        channels,
        bits,
        white_is_zero=photometric == 0,
        palette=photometric == 3,
        planes=planes,
        other_colours=photometric in _TIFF_OTHER_COLOURS,
    )


def _count_tiff_pages(data: bytes, order: str, directory: int) -> int:
    """Return the number of pages of a TIFF, at most `MAX_TIFF_PAGES`; thumbnails and masks are no pages.

    Args:
        data: The file.
        order: Byte order, for `struct`.
        directory: Offset of the first directory.
    """
    pages, seen = 1, {directory}
    while len(seen) < MAX_TIFF_PAGES:
        (entries,) = struct.unpack_from(order + "H", data, directory)
        end = directory + 2 + 12 * entries
        directory = struct.unpack_from(order + "I", data, end)[0] if end + 4 <= len(data) else 0
        if not directory:
            break
        if directory in seen:
            raise ValueError("damaged TIFF (its pages form a circle)")
        seen.add(directory)
        # Tags are in ascending order, and NewSubfileType, 254, is the lowest: bit 0 is a thumbnail, bit 2 a mask.
        tag, _, _, kind = struct.unpack_from(order + "HHII", data, directory + 2)
        pages += not (tag == 254 and kind & 5)
    return pages
