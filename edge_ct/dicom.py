"""DICOM objects -> lung-window grey pixels. Needs the `dicom` extra, and only when a DICOM file is met.

Rescale and window as in PS3.3, C.11.1 and C.11.2.1.2.1 (linear exact).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from .errors import EdgeCTError, InputRejected, missing_extra

LUNG_CENTRE_HU = -600.0
LUNG_WIDTH_HU = 1500.0


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
        missing_extra("dicom", "reading DICOM", error)
    try:
        dataset = pydicom.dcmread(BytesIO(data))
        _check(dataset, source)
        check_side(int(dataset.Columns), int(dataset.Rows), source)
        raw = dataset.pixel_array
        slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
        ids = DicomIds(
            *(
                str(dataset.get(name, ""))
                for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
            )
        )
    except EdgeCTError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged object provokes, RecursionError included
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputRejected(f"{source}: damaged or unsupported DICOM: {reason}") from error
    return lung_window(raw.astype(np.float64) * slope + intercept), ids


def lung_window(hounsfield: np.ndarray) -> np.ndarray:
    """Map Hounsfield units to uint8 in the lung window, rounding half up."""
    low = LUNG_CENTRE_HU - LUNG_WIDTH_HU / 2
    return np.floor(np.clip((hounsfield - low) * (255 / LUNG_WIDTH_HU), 0, 255) + 0.5).astype(np.uint8)


def _check(dataset: Any, source: str) -> None:
    modality = dataset.get("Modality", "")
    if modality != "CT":
        raise InputRejected(f"{source}: DICOM modality {modality or 'unknown'}; CT is read")
    if "LOCALIZER" in (dataset.get("ImageType") or []):
        raise InputRejected(f"{source}: a localiser, not an axial slice")
    if "PixelData" not in dataset:
        raise InputRejected(f"{source}: DICOM without pixel data")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise InputRejected(f"{source}: DICOM with {dataset.NumberOfFrames} frames; one slice a file is read")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise InputRejected(f"{source}: a colour DICOM; CT slices are grey")
    if "RescaleSlope" not in dataset or "RescaleIntercept" not in dataset:
        raise InputRejected(f"{source}: DICOM without rescale to Hounsfield units")
