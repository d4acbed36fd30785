"""Images and DICOM objects, written by other libraries than the ones under test."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def grey() -> np.ndarray:
    """uint8 [40, 48]: noise that holds 0 and 255, so that no decoder can guess a pixel from its neighbours."""
    return np.random.default_rng(7).integers(0, 256, (40, 48), dtype=np.uint8)


@pytest.fixture
def ramp() -> np.ndarray:
    """uint8 [40, 48]: smooth, so that JPEG keeps it."""
    return (np.add.outer(np.arange(40), np.arange(48)) * 2).astype(np.uint8)


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Pillow as the encoder: an array or a Pillow image, a format, options -> bytes."""

    def encoded(image: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
        buffer = BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture
def write_ct() -> Callable[..., bytes]:
    """pydicom as the writer: stored pixels, slope, intercept, further attributes (None removes one) -> bytes."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    def written(
        stored: np.ndarray, slope: Any = 1, intercept: Any = -1024, syntax: str = ExplicitVRLittleEndian, **others: Any
    ) -> bytes:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.4"
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2"
        dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.3"
        dataset.PatientID = "patient-17"
        dataset.Modality = "CT"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.Rows, dataset.Columns = stored.shape[:2]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8 * stored.dtype.itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(stored.dtype.kind == "i")
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.PixelData = stored.tobytes()
        for name, value in others.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return written
