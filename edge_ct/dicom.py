"""DICOM objects -> lung-window grey pixels. Needs the `dicom` extra, and only when a DICOM file is met.

Rescale and window as in PS3.3, C.11.1 and C.11.2.1.2.1 (linear exact).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from .errors import EdgeCTError, InputRejected, MissingExtra

LUNG_CENTRE_HU = -600.0
LUNG_WIDTH_HU = 1500.0
MAX_INFLATED = 64 << 20


@dataclass(frozen=True)
class DicomIds:
    """Identifiers of one DICOM object, as the file states them."""

    patient: str
    study: str
    series: str
    instance: str


def read_pixels(data: bytes, source: str, check_side: Callable[[int, int, str], None]) -> tuple[np.ndarray, DicomIds]:
    """Return uint8 [h, w] in the lung window (-600 / 1500 HU), and the object's identifiers.

    Raises `InputRejected` for another modality than CT, localisers, several frames, or values that are not Hounsfield
    units; `MissingExtra` without pydicom.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtra(f"reading DICOM needs {error.name}: pip install 'edge-ct[dicom]'") from error
    try:
        _refuse_bomb(data, source)
        dataset = pydicom.dcmread(BytesIO(data))
        _check(dataset, source)
        check_side(int(dataset.Columns), int(dataset.Rows), source)
        raw = dataset.pixel_array
        slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
        if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
            raise InputRejected(f"{source}: DICOM rescale {slope:g}, {intercept:g} gives no Hounsfield units")
        ids = DicomIds(
            *(
                str(dataset.get(name, ""))
                for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
            )
        )
    except EdgeCTError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged object provokes, RecursionError included
        reason = _quoted(error) or type(error).__name__
        raise InputRejected(f"{source}: damaged or unsupported DICOM: {reason}") from error
    return lung_window(raw.astype(np.float64) * slope + intercept), ids


def lung_window(hounsfield: np.ndarray) -> np.ndarray:
    """Map Hounsfield units to uint8 in the lung window, rounding half up."""
    low = LUNG_CENTRE_HU - LUNG_WIDTH_HU / 2
    return np.floor(np.clip((hounsfield - low) * (255 / LUNG_WIDTH_HU), 0, 255) + 0.5).astype(np.uint8)


def _quoted(text: object) -> str:
    """Text of a file for a message: one line, printable, short."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)[:200]).split())[:100]


def _refuse_bomb(data: bytes, source: str) -> None:
    """Deflated objects are inflated whole by pydicom; refuse one that would not fit."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    (length,) = struct.unpack_from("<I", data, 140)
    if DeflatedExplicitVRLittleEndian.encode() not in data[132 : 144 + length]:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(data[144 + length :], MAX_INFLATED)
    if inflater.unconsumed_tail:
        raise InputRejected(f"{source}: deflated DICOM of over {MAX_INFLATED >> 20} MiB")


def _check(dataset: Any, source: str) -> None:
    modality = dataset.get("Modality", "")
    if modality != "CT":
        raise InputRejected(f"{source}: DICOM modality {_quoted(modality) or 'unknown'}; CT is read")
    if "LOCALIZER" in (dataset.get("ImageType") or []):
        raise InputRejected(f"{source}: a localiser, not an axial slice")
    if "PixelData" not in dataset:
        raise InputRejected(f"{source}: DICOM without pixel data")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise InputRejected(f"{source}: DICOM with {dataset.NumberOfFrames} frames; one slice a file is read")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise InputRejected(f"{source}: a colour DICOM; CT slices are grey")
    if not str(dataset.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
        raise InputRejected(f"{source}: a DICOM that is not monochrome; CT slices are grey")
    if dataset.get("RescaleType", "HU") not in ("HU", "", None):
        raise InputRejected(f"{source}: DICOM rescale to {_quoted(dataset.RescaleType)}, not to Hounsfield units")
    if "RescaleSlope" not in dataset or "RescaleIntercept" not in dataset:
        raise InputRejected(f"{source}: DICOM without rescale to Hounsfield units")
