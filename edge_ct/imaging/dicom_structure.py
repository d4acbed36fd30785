"""Walk the structure of a DICOM object without building it: a parser would allocate a kilobyte for an item of 8 bytes.

Source: DICOM PS3.5, section 7. Where writers break the rules, the walk follows pydicom, which parses the object next.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, BinaryIO

from .limits import (
    MAX_DICOM_DEPTH,
    MAX_DICOM_ELEMENTS,
    MAX_DICOM_FRAGMENTS,
    MAX_DICOM_ITEMS,
    MAX_DICOM_VALUE,
)
from .slice_files import has_preamble

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_SYNTAX = 0x00020010
_META, _COMMAND = 0x0002, 0x0000  # groups before the object, read one after the other
_SHORT_LENGTH = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)  # value representations whose length has two bytes
_LONG_LENGTH = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
# Values that stay bytes or a single text when they are read; all others are split into lists.
_BULK = frozenset(b"OB OD OF OL OV OW UN UT ST LT".split())
_DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"


class Structure:
    """The walk over one object.

    Attributes:
        syntax: The transfer syntax UID; "" if the object states none.
        pixel_offset: Offset in bytes of the value of the pixel data; None if there is none, or in a deflated object.
    """

    def __init__(self, file: BinaryIO, max_inflated: int) -> None:
        """Walk an object from its preamble on and leave the file at its beginning.

        Raises:
            ValueError: The object exceeds one of the limits; the message is a short reason.
        """
        self.syntax = ""
        self.pixel_offset: int | None = None
        self._file, self._elements, self._items = file, 0, 0
        self._size = file.seek(0, 2)
        try:
            file.seek(0)
            head = file.read(132)
            file.seek(132 if has_preamble(head) else 0)
            self._walk(False, "<", 1, None, only=_META)
            self._walk(True, "<", 1, None, only=_COMMAND)
            implicit, order = self._encoding()
            if self.syntax == _DEFLATED:
                self._file = _inflated(file, max_inflated)
                self._size = self._file.seek(0, 2)
                self._file.seek(0)
            self._walk(implicit, order, 1, None)
        except (struct.error, EOFError):
            pass  # A truncated object: the parser meets its end too, and says what is missing.
        finally:
            file.seek(0)
        if self._file is not file:
            self.pixel_offset = None

    def _encoding(self) -> tuple[bool, str]:
        """Return whether the elements have no value representation, and the byte order."""
        if self.syntax:
            return self.syntax == _IMPLICIT, ">" if self.syntax == _BIG_ENDIAN else "<"
        head = self._file.read(6)
        self._file.seek(-len(head), 1)
        implicit = head[4:6] not in _SHORT_LENGTH | _LONG_LENGTH
        # A group of big-endian order, read in the other order, is 0x0400 or more.
        return implicit, ">" if not implicit and len(head) == 6 and head[1] >= 4 else "<"

    def _looks_implicit(self, assumed: bool, depth: int, only: int | None) -> bool:
        """Return whether elements have no value representation, by the first of them, whatever the syntax states.

        Args:
            assumed: What the transfer syntax, or the sequence around the elements, states.
            depth: Number of sequences around the elements, and 1.
            only: The group to which the walk is limited.
        """
        if assumed and depth > 1:
            return True
        head = self._file.read(6)
        self._file.seek(-len(head), 1)
        if len(head) < 6 or (only is not None and struct.unpack_from("<H", head)[0] != only):
            return assumed
        return not (0x40 < head[4] < 0x5B and 0x40 < head[5] < 0x5B)

    def _walk(self, implicit: bool, order: str, depth: int, end: int | None, only: int | None = None) -> None:
        """Walk the elements up to `end`, or to the delimiter of an item of undefined length.

        Args:
            implicit: True if the elements have no value representation.
            order: Byte order, as `struct` writes it.
            depth: Number of sequences around the elements, and 1.
            end: Offset of the end; None for undefined.
            only: Walk the elements of this group, up to the first one of another group; None walks all.
        """
        file = self._file
        implicit = self._looks_implicit(implicit, depth, only)
        unpack = struct.Struct(f"{order}HH2sH").unpack
        unpack_implicit = struct.Struct(f"{order}HHL").unpack
        unpack_length = struct.Struct(f"{order}L").unpack
        while end is None or file.tell() < end:
            head = file.read(8)
            if len(head) < 8:
                return
            group, element, representation, length = unpack(head)
            if only is not None and group != only:
                file.seek(-8, 1)
                return
            if implicit or (representation not in _SHORT_LENGTH and not b"AA" <= representation <= b"ZZ"):
                group, element, length = unpack_implicit(head)
                representation = b""
            elif representation in _LONG_LENGTH:
                (length,) = unpack_length(file.read(4))
            tag = group << 16 | element
            if tag == _ITEM_END:
                return
            self._elements += 1
            if self._elements > MAX_DICOM_ELEMENTS:
                raise ValueError(f"a DICOM of over {MAX_DICOM_ELEMENTS:,} elements")
            if tag == _SYNTAX and only == _META:
                self.syntax = file.read(length).decode("ascii", "replace").rstrip("\0 ").strip()
                continue
            if tag == _PIXEL_DATA and depth == 1:
                self.pixel_offset = file.tell()
            if _is_sequence(tag, representation, length):
                # A sequence of unknown representation is encoded without representations (PS3.5, 6.2.2).
                self._walk_items(implicit or representation in (b"UN", b""), order, depth, length)
            elif length == _UNDEFINED:
                self._walk_fragments(order)
            elif self.pixel_offset is None and length > self._size - file.tell():
                # A reader would allocate what the length states.
                raise ValueError("damaged DICOM: a value is longer than the file")
            else:
                representation = representation or _dictionary(tag)
                if length > MAX_DICOM_VALUE and representation not in _BULK and tag != _PIXEL_DATA:
                    raise ValueError(f"a DICOM with a value of over {MAX_DICOM_VALUE >> 10} KiB that is not bulk data")
                file.seek(length, 1)

    def _walk_items(self, implicit: bool, order: str, depth: int, length: int) -> None:
        if depth >= MAX_DICOM_DEPTH:
            raise ValueError(f"damaged or unsupported DICOM: sequences nested over {MAX_DICOM_DEPTH} deep")
        file = self._file
        end = None if length == _UNDEFINED else file.tell() + length
        while end is None or file.tell() < end:
            head = file.read(8)
            if len(head) < 8:
                return
            group, element, size = struct.unpack(f"{order}HHL", head)
            if group << 16 | element == _SEQUENCE_END:
                return
            self._items += 1
            if self._items > MAX_DICOM_ITEMS:
                raise ValueError(f"a DICOM of over {MAX_DICOM_ITEMS:,} items")
            self._walk(implicit, order, depth + 1, None if size == _UNDEFINED else file.tell() + size)

    def _walk_fragments(self, order: str) -> None:
        file = self._file
        for _ in range(MAX_DICOM_FRAGMENTS):
            head = file.read(8)
            if len(head) < 8:
                return
            group, element, size = struct.unpack(f"{order}HHL", head)
            if group << 16 | element != _ITEM:
                return
            file.seek(size, 1)
        raise ValueError(f"a DICOM of over {MAX_DICOM_FRAGMENTS:,} fragments of pixel data")


def _is_sequence(tag: int, representation: bytes, length: int) -> bool:
    if representation == b"SQ":
        return True
    if representation in (b"UN", b""):
        return _dictionary(tag) == b"SQ" or (length == _UNDEFINED and tag != _PIXEL_DATA)
    return False


def _dictionary(tag: int) -> bytes:
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag).split(" ")[0].encode()
    except KeyError:
        return b"UN"


def _inflated(file: BinaryIO, limit: int) -> BinaryIO:
    """Inflate the rest of a deflated object."""
    from io import BytesIO

    inflater: Any = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(file.read(), limit)
    except zlib.error as error:
        raise ValueError("damaged DICOM (compressed data)") from error
    if inflater.unconsumed_tail:
        raise ValueError(f"deflated DICOM of over {limit >> 20} MiB")
    return BytesIO(content)
