"""The frames of a DICOM object, one by one, so that a damaged frame costs no other one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .. import dicom
from ..errors import InputRejected


class FrameReader:
    """Reads the frames of an object one by one: each is checked and decoded as if it were an object of its own.

    Attributes:
        count: Number of frames that the object states.
    """

    def __init__(self, data: Path | bytes, source: str) -> None:
        """Open an object; use it as a context manager, or close it.

        Args:
            data: The path of a file, or the content of one.
            source: The name under which errors report the object.

        Raises:
            InputRejected: As `dicom.read_pixels`, except that several frames are read.
        """
        self._source = source
        self._file = dicom.open_object(data)
        self._coded: Iterator[bytes] | None = None
        self._next = 0
        try:
            self._header = dicom.read_dataset(self._file, source, pixels=False)
            dicom.check_header(self._header, source)
            dicom.check_supported(self._header, source)
            self.count = dicom.frame_count(self._header)
            with dicom.reject_on_error(source):
                self._find_pixels()
                self._image = self._header.group_dataset(0x0028)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, index: int) -> np.ndarray:
        """Decode one frame.

        Args:
            index: Number of the frame, from 0. Compressed frames are found fastest in ascending order.

        Returns:
            uint8 [h, w] in the lung window.

        Raises:
            InputRejected: The frame is damaged, missing, or has no Hounsfield units. Other frames can still be read.
        """
        frame = self._checked(index)
        with dicom.reject_on_error(self._source):
            return dicom.window_frame(frame.pixel_array, self._header, index)

    def check_any(self) -> None:
        """Raise `InputRejected` if no frame passes the checks that are made before decoding."""
        for index in range(self.count):
            try:
                self._checked(index)
                return
            except InputRejected as error:
                last = error
        raise last

    def _find_pixels(self) -> None:
        """Find the value of the pixel data: its offset, its length in bytes if it is not compressed, and its VR."""
        syntax = self._header.file_meta.TransferSyntaxUID
        self._compressed, self._vr = syntax.is_encapsulated, "OB"
        if syntax.is_deflated:
            whole = dicom.read_dataset(self._file, self._source)
            self._file.close()
            self._file = BytesIO(whole.get("PixelData") or b"")
            self._offset, self._length = 0, self._file.seek(0, 2)
            return
        offset = dicom.read_structure(self._file, self._source).pixel_offset
        if offset is None:
            raise InputRejected(f"{self._source}: DICOM without pixel data")
        self._file.seek(offset - 8)
        head = self._file.read(8)
        self._vr = "OB" if self._compressed or head[:2] == b"OB" else "OW"
        (length,) = struct.unpack("<L" if syntax.is_little_endian else ">L", head[4:])
        self._offset, self._length = offset, min(length, self._file.seek(0, 2) - offset)

    def _checked(self, index: int) -> Any:
        """Return a dataset of one frame that has passed all checks before decoding."""
        from pydicom.dataset import Dataset

        dicom.check_rescale(self._header, index, self._source)
        with dicom.reject_on_error(self._source):
            frame = Dataset(self._image)
            frame.file_meta = self._header.file_meta
            frame.NumberOfFrames = 1
            frame.add_new(
                0x7FE00010, self._vr, self._compressed_frame(index) if self._compressed else self._frame(index)
            )
            dicom.check_pixels(frame, self._source)
            return frame

    def _frame(self, index: int) -> bytes:
        header = self._header
        bits = int(header.Rows) * int(header.Columns) * int(header.BitsAllocated)
        if bits % 8:
            raise InputRejected(f"{self._source}: frames of {bits} bits; frames of whole bytes are read")
        start = min(index * bits // 8, self._length)
        self._file.seek(self._offset + start)
        return self._file.read(min(bits // 8, self._length - start))

    def _compressed_frame(self, index: int) -> bytes:
        from pydicom.encaps import encapsulate, generate_frames

        if self._coded is None or index < self._next:
            self._file.seek(self._offset)
            table = [self._header.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
            self._coded = generate_frames(
                self._file, number_of_frames=self.count, extended_offsets=tuple(table) if all(table) else None
            )
            self._next = 0
        for frame in self._coded:
            self._next += 1
            if self._next > index:
                return encapsulate([frame])
        raise InputRejected(f"{self._source}: frame {index + 1} of {self.count} is missing")
