"""DICOM objects -> lung-window grey pixels. Needs the `dicom` extra, and only when a DICOM file is met.

Rescale and window as in PS3.3, C.11.1 and C.11.2.1.2.1 (linear exact). MONOCHROME1 says how to display stored values,
not what they mean: Hounsfield units come out the same, and the window of this file shows air dark either way.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import EdgeCTError, InputRejected, MissingExtra
from .imaging.limits import check_sides

LUNG_CENTRE_HU = -600.0
LUNG_WIDTH_HU = 1500.0
MAX_INFLATED = 64 << 20
MAX_DEPTH = 32  # of sequences in sequences; Enhanced CT needs five
MAX_FRAMES = 4096


@dataclass(frozen=True)
class DicomIds:
    """Identifiers of one DICOM object, as the file states them."""

    patient: str
    study: str
    series: str
    instance: str


def read_pixels(data: bytes, source: str) -> tuple[np.ndarray, DicomIds]:
    """Return uint8 [h, w] in the lung window (-600 / 1500 HU), and the object's identifiers.

    Raises `InputRejected` for another modality than CT, localisers, several frames, or values that are not Hounsfield
    units; `MissingExtra` without pydicom.
    """
    dataset = read_dataset(data, source)
    return frame_pixels(dataset, source), ids_of(dataset)


def frame_pixels(dataset: Any, source: str) -> np.ndarray:
    """As `read_pixels`, of a parsed object of one frame: uint8 [h, w]."""
    with reject_on_error(source):
        check_header(dataset, source)
        if frame_count(dataset) != 1:
            raise InputRejected(f"{source}: DICOM with {dataset.NumberOfFrames} frames; one slice a file is read")
        check_pixels(dataset, source)
        raw = dataset.pixel_array
        return window_stored_values(raw.reshape(raw.shape[-2:]), _slope(dataset, 0), _intercept(dataset, 0))


def open_object(data: Path | bytes) -> BinaryIO:
    """A file, or one that is held in memory."""
    return BytesIO(data) if isinstance(data, bytes) else data.open("rb")


def read_frames(data: Path | bytes, source: str) -> Generator[np.ndarray, None, None]:
    """The frames of an object, one by one and each read when it is asked for: uint8 [h, w] in the lung window.

    Raises as `read_pixels`, but takes several frames; a damaged one ends the iteration with `InputRejected`.
    """
    from pydicom.pixels.utils import iter_pixels

    with open_object(data) as file:
        header = read_dataset(file, source, pixels=False)
        check_header(header, source)
        with reject_on_error(source):
            for index, raw in enumerate(iter_pixels(file, raw=True)):
                yield window_stored_values(raw, _slope(header, index), _intercept(header, index))


def read_dataset(data: bytes | Any, source: str, pixels: bool = True) -> Any:
    """Parse an object, of bytes or a file; nothing is decoded or judged yet. pixels: False leaves pixel data unread.

    Raises `InputRejected` for what is damaged, inflates too far or nests sequences deeper than `MAX_DEPTH`;
    `MissingExtra` without pydicom.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtra(f"reading DICOM needs {error.name}: pip install 'edge-ct[dicom]'") from error
    with reject_on_error(source):
        if isinstance(data, bytes):
            head, file = data, BytesIO(data)
        else:
            head, file = data.read(1024), data
            data.seek(0)
        _refuse_bomb(head, file, source)
        dataset = pydicom.dcmread(file, stop_before_pixels=not pixels)
        _refuse_depth(dataset, source)
        return dataset


@contextmanager
def reject_on_error(source: str) -> Iterator[None]:
    """Turn whatever pydicom raises over a damaged object into `InputRejected`."""
    try:
        yield
    except EdgeCTError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged object provokes, RecursionError included
        reason = quoted(error) or type(error).__name__
        raise InputRejected(f"{source}: damaged or unsupported DICOM: {reason}") from error


def ids_of(dataset: Any) -> DicomIds:
    """The identifiers of an object; empty where it has none."""
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return DicomIds(*(str(dataset.get(name) or "") for name in names))


def frame_count(dataset: Any) -> int:
    """How many frames an object says it has."""
    return int(dataset.get("NumberOfFrames") or 1)


def check_frame_count(dataset: Any, source: str) -> None:
    """Raise `InputRejected` where an object says that it has no frame, or more than anybody scans."""
    count = frame_count(dataset)
    if not 1 <= count <= MAX_FRAMES:
        raise InputRejected(f"{source}: DICOM with {count} frames; 1 to {MAX_FRAMES} are read")


def attribute(dataset: Any, index: int, group: str, name: str, default: Any = None) -> Any:
    """An attribute of one frame: of its functional groups, of the shared ones (PS3.3, C.7.6.16), else of the object."""
    for functional in (dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")):
        if functional:
            item = functional[index if len(functional) > 1 else 0]
            if item.get(group) and name in item[group][0]:
                return item[group][0].get(name)
    return dataset.get(name, default)


def window_stored_values(raw: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Stored values of at most 16 bits -> uint8 in the lung window: each value that there can be is computed once."""
    if raw.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int16)):
        return lung_window(raw.astype(np.float64) * slope + intercept)
    table = _window_table(slope, intercept, raw.dtype == np.int16)
    return np.asarray(table[raw if raw.dtype == np.uint8 else np.ascontiguousarray(raw).view(np.uint16)])


@lru_cache(maxsize=8)
def _window_table(slope: float, intercept: float, signed: bool) -> np.ndarray:
    values = np.arange(1 << 16, dtype=np.uint16)
    return lung_window((values.view(np.int16) if signed else values).astype(np.float64) * slope + intercept)


def lung_window(hounsfield: np.ndarray) -> np.ndarray:
    """Map Hounsfield units to uint8 in the lung window, rounding half up."""
    low = LUNG_CENTRE_HU - LUNG_WIDTH_HU / 2
    return np.floor(np.clip((hounsfield - low) * (255 / LUNG_WIDTH_HU), 0, 255) + 0.5).astype(np.uint8)


def check_header(dataset: Any, source: str) -> None:
    """Raise `InputRejected` where an object's header says that it is no CT slice in Hounsfield units."""
    with reject_on_error(source):
        modality = dataset.get("Modality", "")
        if modality != "CT":
            raise InputRejected(f"{source}: DICOM modality {quoted(modality) or 'unknown'}; CT is read")
        if "LOCALIZER" in (dataset.get("ImageType") or []):
            raise InputRejected(f"{source}: a localiser, not an axial slice")
        check_sides(int(dataset.Columns), int(dataset.Rows), source)
        check_frame_count(dataset, source)
        if int(dataset.get("SamplesPerPixel") or 1) != 1:
            raise InputRejected(f"{source}: a colour DICOM; CT slices are grey")
        if not str(dataset.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
            raise InputRejected(f"{source}: a DICOM that is not monochrome; CT slices are grey")
        kind = attribute(dataset, 0, _TRANSFORM, "RescaleType", "HU")
        if kind not in ("HU", "", None):
            raise InputRejected(f"{source}: DICOM rescale to {quoted(kind)}, not to Hounsfield units")
        if any(attribute(dataset, 0, _TRANSFORM, name) is None for name in ("RescaleSlope", "RescaleIntercept")):
            raise InputRejected(f"{source}: DICOM without rescale to Hounsfield units")
        slope, intercept = _slope(dataset, 0), _intercept(dataset, 0)
        if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
            raise InputRejected(f"{source}: DICOM rescale {slope:g}, {intercept:g} gives no Hounsfield units")


def check_pixels(dataset: Any, source: str) -> None:
    """Raise `InputRejected` where the pixel data is missing, cut short, or compressed of another size than stated."""
    if "PixelData" not in dataset:
        raise InputRejected(f"{source}: DICOM without pixel data")
    with reject_on_error(source):
        rows, columns, count = int(dataset.Rows), int(dataset.Columns), frame_count(dataset)
        syntax = dataset.file_meta.TransferSyntaxUID
        if not syntax.is_encapsulated:
            wanted = rows * columns * count * int(dataset.BitsAllocated) // 8
            if len(dataset.PixelData) < wanted:
                have = len(dataset.PixelData)
                raise InputRejected(f"{source}: truncated DICOM: {have} of {wanted} bytes of pixel data")
            return
        from pydicom.encaps import generate_frames

        for frame in generate_frames(dataset.PixelData, number_of_frames=count):
            sides = _coded_sides(frame)
            if sides not in (None, (rows, columns)):
                raise InputRejected(f"{source}: compressed frame of {sides} px in an object of {(rows, columns)}")


_TRANSFORM = "PixelValueTransformationSequence"


def _slope(dataset: Any, index: int) -> float:
    return float(attribute(dataset, index, _TRANSFORM, "RescaleSlope"))


def _intercept(dataset: Any, index: int) -> float:
    return float(attribute(dataset, index, _TRANSFORM, "RescaleIntercept"))


def quoted(text: object) -> str:
    """Text of a file for a message: one line, printable, short."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)[:200]).split())[:100]


def _coded_sides(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 codestream states; None for others. Decoders allocate by it."""
    if frame[:4] == b"\xff\x4f\xff\x51":  # SOC, SIZ: T.800, A.5.1
        width, height, left, top = struct.unpack(">4I", frame[8:24])
        return height - top, width - left
    if frame[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):  # SOF of T.87, of T.81
            rows, columns = struct.unpack(">HH", frame[at + 5 : at + 9])
            return rows, columns
        at += 1 if marker == 0xFF else 2 + struct.unpack(">H", frame[at + 2 : at + 4])[0]
    return None


def _refuse_bomb(head: bytes, file: Any, source: str) -> None:
    """Deflated objects are inflated whole by pydicom; refuse one that would not fit."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    (length,) = struct.unpack_from("<I", head, 140)
    if DeflatedExplicitVRLittleEndian.encode() not in head[132 : 144 + length]:
        return
    file.seek(144 + length)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(file.read(), MAX_INFLATED)
    file.seek(0)
    if inflater.unconsumed_tail:
        raise InputRejected(f"{source}: deflated DICOM of over {MAX_INFLATED >> 20} MiB")


def _refuse_depth(dataset: Any, source: str) -> None:
    """Sequences of a stated length are parsed when they are looked at, by recursion in whoever looks."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    waiting = [(dataset, 1)]
    while waiting:
        level, depth = waiting.pop()
        for tag in list(level.keys()):  # a dataset itself would give elements, all of them converted
            vr = level.get_item(tag).VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
            if vr != "SQ":
                continue
            if depth >= MAX_DEPTH:
                raise InputRejected(f"{source}: damaged or unsupported DICOM: sequences nested over {MAX_DEPTH} deep")
            waiting.extend((item, depth + 1) for item in level[tag].value)
