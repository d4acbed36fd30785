"""DICOM objects -> grey pixels in the lung window. Needs the `dicom` extra, which is imported when DICOM is met.

Rescale and window follow PS3.3, C.11.1 and C.11.2.1.2.1 (linear exact). MONOCHROME1 says how stored values are
displayed and not what they mean: Hounsfield units come out the same, and air is dark in the lung window either way.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import EdgeCTError, InputRejected, MissingExtra
from .imaging import code_streams
from .imaging.dicom_structure import Structure
from .imaging.limits import MAX_DICOM_PIXELS, check_sides, reason_for
from .imaging.slice_files import has_preamble
from .system.files import open_regular

LUNG_CENTRE_HU = -600.0
LUNG_WIDTH_HU = 1500.0
MAX_INFLATED = 64 << 20
MAX_FRAMES = 4096


@dataclass(frozen=True)
class DicomIds:
    """Identifiers of one DICOM object, as the file states them."""

    patient: str
    study: str
    series: str
    instance: str


def read_pixels(data: bytes, source: str) -> tuple[np.ndarray, DicomIds]:
    """Decode a DICOM object of one frame.

    Args:
        data: The content of the file.
        source: The name under which errors report the object.

    Returns:
        uint8 [h, w] in the lung window (-600 / 1500 HU), and the identifiers of the object.

    Raises:
        InputRejected: The object is not CT, a localiser, multi-frame, or has no Hounsfield units.
        MissingExtra: pydicom is not installed.
    """
    dataset = read_dataset(data, source)
    return frame_pixels(dataset, source), ids_of(dataset)


def frame_pixels(dataset: Any, source: str) -> np.ndarray:
    """Decode a parsed object of one frame, as `read_pixels` does: uint8 [h, w]."""
    with reject_on_error(source):
        check_header(dataset, source)
        if frame_count(dataset) != 1:
            raise InputRejected(f"{source}: DICOM with {dataset.NumberOfFrames} frames; one slice a file is read")
        check_rescale(dataset, 0, source)
        check_pixels(dataset, source)
        return window_frame(dataset.pixel_array, dataset, 0)


def window_frame(raw: np.ndarray, dataset: Any, index: int) -> np.ndarray:
    """Map the stored values of one frame, numbered from 0, to uint8 [h, w] in the lung window."""
    raw = raw.reshape(raw.shape[-2:])
    return window_stored_values(raw, _slope(dataset, index), _intercept(dataset, index), _padding(dataset))


def open_object(data: Path | bytes) -> BinaryIO:
    """Open an object that is a file or is held in memory."""
    return BytesIO(data) if isinstance(data, bytes) else open_regular(data)


def read_dataset(data: bytes | BinaryIO, source: str, pixels: bool = True) -> Any:
    """Parse an object; nothing is decoded or judged yet.

    Args:
        data: The content of a file, or an open file.
        source: The name under which errors report the object.
        pixels: False leaves the pixel data unread.

    Raises:
        InputRejected: The object is damaged, or its structure exceeds one of the `limits`.
        MissingExtra: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtra(f"reading DICOM needs {error.name}: pip install 'edge-ct[dicom]'") from error
    with reject_on_error(source):
        file = BytesIO(data) if isinstance(data, bytes) else data
        read_structure(file, source)
        whole = has_preamble(file.read(132))
        file.seek(0)
        dataset = pydicom.dcmread(file, stop_before_pixels=not pixels, force=not whole)
        if not whole and "TransferSyntaxUID" not in dataset.file_meta:
            from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

            implicit, _ = dataset.original_encoding
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return dataset


def read_structure(file: BinaryIO, source: str) -> Structure:
    """Walk the structure of an object. Raises `InputRejected` if it exceeds one of the `limits`."""
    try:
        return Structure(file, MAX_INFLATED)
    except ValueError as error:
        raise InputRejected(f"{source}: {error}") from error


@contextmanager
def reject_on_error(source: str) -> Iterator[None]:
    """Turn every exception that a damaged object provokes in pydicom or a decoder into `InputRejected`."""
    try:
        yield
    except (EdgeCTError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # A decoder in Rust raises a BaseException when it panics.
        raise InputRejected(f"{source}: damaged or unsupported DICOM{_detail(error)}") from error


def _detail(error: BaseException) -> str:
    """Return what is known about an error that pydicom or a decoder raised, in plain words."""
    if isinstance(error, MemoryError | RecursionError):
        return f": {reason_for(error)}"
    missing = re.search(r"has no attribute '([A-Z]\w{1,63})'", str(error)[:500])
    if isinstance(error, AttributeError) and missing:
        return f": {missing[1]} is missing"
    if type(error).__name__ == "InvalidDicomError":
        return ": not a DICOM file"
    return ""


def ids_of(dataset: Any) -> DicomIds:
    """Return the identifiers of an object; those that it does not state are empty."""
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return DicomIds(*(str(dataset.get(name) or "") for name in names))


def frame_count(dataset: Any) -> int:
    """Return the number of frames that an object states."""
    return int(dataset.get("NumberOfFrames") or 1)


def check_frame_count(dataset: Any, source: str) -> None:
    """Raise `InputRejected` if the stated number of frames is outside 1..`MAX_FRAMES`."""
    count = frame_count(dataset)
    if not 1 <= count <= MAX_FRAMES:
        raise InputRejected(f"{source}: DICOM with {count} frames; 1 to {MAX_FRAMES} are read")


def attribute(dataset: Any, index: int, group: str, name: str, default: Any = None) -> Any:
    """Return an attribute of one frame (PS3.3, C.7.6.16).

    The functional groups of the frame come first, then the shared ones, then the object itself.

    Args:
        dataset: The parsed object.
        index: Number of the frame, from 0.
        group: Keyword of the functional group's sequence.
        name: Keyword of the attribute.
        default: Returned if the object does not state the attribute.
    """
    for functional in (dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")):
        place = index if functional and len(functional) > 1 else 0
        if functional and place < len(functional):  # Objects may state more frames than they describe.
            item = functional[place]
            if item.get(group) and name in item[group][0]:
                return item[group][0].get(name)
    return dataset.get(name, default)


def window_stored_values(
    raw: np.ndarray, slope: float, intercept: float, padding: tuple[int, int] | None = None
) -> np.ndarray:
    """Map stored values to uint8 in the lung window, by a table of all possible values of at most 16 bits.

    Args:
        raw: Stored values, [h, w].
        slope: Rescale slope.
        intercept: Rescale intercept, in HU.
        padding: First and last stored value that stand for padding and not for tissue; they become black, as air.
    """
    if raw.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int16)):
        grey = lung_window(raw.astype(np.float64) * slope + intercept)
        return grey if padding is None else np.where((raw >= padding[0]) & (raw <= padding[1]), np.uint8(0), grey)
    table = _window_table(slope, intercept, raw.dtype == np.int16, padding)
    return np.asarray(table[raw if raw.dtype == np.uint8 else np.ascontiguousarray(raw).view(np.uint16)])


@lru_cache(maxsize=8)
def _window_table(slope: float, intercept: float, signed: bool, padding: tuple[int, int] | None) -> np.ndarray:
    values = np.arange(1 << 16, dtype=np.uint16)
    stored = (values.view(np.int16) if signed else values).astype(np.int32)
    table = lung_window(stored.astype(np.float64) * slope + intercept)
    if padding is not None:
        table[(stored >= padding[0]) & (stored <= padding[1])] = 0
    return table


def _padding(dataset: Any) -> tuple[int, int] | None:
    """Return the range of padding values of an object, PS3.3 C.7.5.1.1.2; None where it states none."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    first, last = sorted((int(value), int(value if limit is None else limit)))
    return first, last


def lung_window(hounsfield: np.ndarray) -> np.ndarray:
    """Map Hounsfield units to uint8 in the lung window, rounding half up."""
    low = LUNG_CENTRE_HU - LUNG_WIDTH_HU / 2
    return np.floor(np.clip((hounsfield - low) * (255 / LUNG_WIDTH_HU), 0, 255) + 0.5).astype(np.uint8)


def check_header(dataset: Any, source: str) -> None:
    """Raise `InputRejected` if the header of an object is not that of CT slices; `check_rescale` checks units."""
    with reject_on_error(source):
        modality = dataset.get("Modality", "")
        if modality != "CT":
            raise InputRejected(f"{source}: DICOM modality {quoted(modality) or 'unknown'}; CT is read")
        if "LOCALIZER" in (dataset.get("ImageType") or []):
            raise InputRejected(f"{source}: a localiser, not an axial slice")
        check_sides(int(dataset.Columns), int(dataset.Rows), source)
        check_frame_count(dataset, source)
        if int(dataset.Columns) * int(dataset.Rows) * frame_count(dataset) > MAX_DICOM_PIXELS:
            raise InputRejected(f"{source}: DICOM of over {MAX_DICOM_PIXELS >> 20:,} megapixels in all its frames")
        if int(dataset.get("SamplesPerPixel") or 1) != 1:
            raise InputRejected(f"{source}: a colour DICOM; CT slices are grey")
        if not str(dataset.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
            raise InputRejected(f"{source}: a DICOM that is not monochrome; CT slices are grey")


def check_rescale(dataset: Any, index: int, source: str) -> None:
    """Raise `InputRejected` if a frame, numbered from 0, is not rescaled to Hounsfield units."""
    with reject_on_error(source):
        kind = attribute(dataset, index, _TRANSFORM, "RescaleType", "HU")
        if kind not in ("HU", "", None):
            raise InputRejected(f"{source}: DICOM rescale to {quoted(kind)}, not to Hounsfield units")
        if any(attribute(dataset, index, _TRANSFORM, name) is None for name in ("RescaleSlope", "RescaleIntercept")):
            raise InputRejected(f"{source}: DICOM without rescale to Hounsfield units")
        slope, intercept = _slope(dataset, index), _intercept(dataset, index)
        if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
            raise InputRejected(f"{source}: DICOM rescale {slope:g}, {intercept:g} gives no Hounsfield units")


def check_pixels(dataset: Any, source: str) -> None:
    """Raise `InputRejected` if the pixel data is missing, truncated, or not compressed as the header says."""
    if "PixelData" not in dataset:
        raise InputRejected(f"{source}: DICOM without pixel data")
    with reject_on_error(source):
        check_supported(dataset, source)
        count = frame_count(dataset)
        if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            wanted = int(dataset.Rows) * int(dataset.Columns) * count * int(dataset.BitsAllocated) // 8
            if len(dataset.PixelData) < wanted:
                have = len(dataset.PixelData)
                raise InputRejected(f"{source}: truncated DICOM: {have} of {wanted} bytes of pixel data")
            return
        from pydicom.encaps import generate_frames

        for frame in generate_frames(dataset.PixelData, number_of_frames=count):
            _check_code_stream(frame, dataset, source)


def check_supported(dataset: Any, source: str) -> None:
    """Raise `InputRejected` if the pixel data of an object is in a transfer syntax that is not decoded here."""
    syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    if syntax not in _NATIVE | _JPEG | _JPEG_2000 | _RLE:
        raise InputRejected(f"{source}: damaged or unsupported DICOM: transfer syntax {quoted(syntax) or 'missing'}")


def _check_code_stream(frame: bytes, dataset: Any, source: str) -> None:
    """Raise `InputRejected` if a compressed frame is not an image of the size and kind that the header states."""
    rows, columns, syntax = int(dataset.Rows), int(dataset.Columns), str(dataset.file_meta.TransferSyntaxUID)
    try:
        if syntax in _RLE:
            code_streams.rle(frame, int(dataset.BitsAllocated) // 8)
            return
        if syntax in _JPEG_2000:
            coded = code_streams.jpeg_2000(frame)
        elif frame[:2] == b"\xff\xd8":
            coded = code_streams.jpeg(frame, dicom=True)
        else:
            raise ValueError("not a JPEG code stream")
    except (ValueError, struct.error, IndexError) as error:
        reason = str(error) if type(error) is ValueError else "truncated"
        raise InputRejected(f"{source}: damaged or unsupported DICOM: compressed frame: {reason}") from error
    if coded.components != 1:
        raise InputRejected(f"{source}: compressed frame of {coded.components} components; CT slices are grey")
    if (coded.height, coded.width) != (rows, columns):
        raise InputRejected(
            f"{source}: compressed frame of {coded.width} x {coded.height} px in an object of {columns} x {rows} px"
        )


# Transfer syntaxes (PS3.6, table A-1) by what decodes them.
_NATIVE = frozenset(f"1.2.840.10008.1.2{suffix}" for suffix in ("", ".1", ".2", ".1.99"))
_JPEG = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81))
_JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))
_RLE = frozenset({"1.2.840.10008.1.2.5"})
_TRANSFORM = "PixelValueTransformationSequence"


def _slope(dataset: Any, index: int) -> float:
    return float(attribute(dataset, index, _TRANSFORM, "RescaleSlope"))


def _intercept(dataset: Any, index: int) -> float:
    return float(attribute(dataset, index, _TRANSFORM, "RescaleIntercept"))


def quoted(text: object) -> str:
    """Make text of a file fit for a message: one line, printable, at most 100 characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)[:200]).split())[:100]
