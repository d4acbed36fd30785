"""Files that others made: pydicom's test objects against a reader of its own, and pictures that are no CT slice.

pydicom's files come with its package. Pictures are those of the installed packages, and, where EDGE_CT_PICTURES names a
folder (Pillow's Tests/images, for example), those below it.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_ct.classifier import Classifier
from edge_ct.device_app.judging.judge import judge_source
from edge_ct.device_app.judging.sources import Source
from edge_ct.dicom import read_dataset
from edge_ct.errors import InputRejected
from edge_ct.imaging.frame_reader import FrameReader
from edge_ct.shipped_models import find_bundle

pydicom = pytest.importorskip("pydicom")
OBJECTS = Path(pydicom.__file__).parent / "data" / "test_files"
# Its header and its code stream differ about the sign of the values; pydicom follows the stream, and GDCM the header.
CONTRADICTORY = ("J2K_pixelrep_mismatch.dcm",)
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@pytest.fixture(scope="module", params=["accurate", "fast"])
def shipped(request: pytest.FixtureRequest) -> Classifier:
    return Classifier(find_bundle(request.param))


def objects() -> list[Path]:
    return sorted(path for path in OBJECTS.rglob("*") if path.is_file() and path.suffix != ".py")


def pictures() -> Iterator[Path]:
    folders = [Path(folder) for folder in sys.path if folder.endswith("site-packages")]
    if "EDGE_CT_PICTURES" in os.environ:
        folders.append(Path(os.environ["EDGE_CT_PICTURES"]))
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())


def windowed(dataset: Any, raw: np.ndarray) -> np.ndarray:
    """The lung window by PS3.3, C.11.2.1.2.1, rounding half up."""
    units = raw.astype(np.float64) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return np.floor(np.clip((units + 1350) * 255 / 1500, 0, 255) + 0.5).astype(np.uint8)


def read_by_gdcm(path: Path) -> np.ndarray | None:
    """Stored values of one frame; None for what GDCM does not read."""
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        return None
    image = reader.GetImage()
    pixel = image.GetPixelFormat()
    kind = np.dtype(f"{'i' if pixel.GetPixelRepresentation() else 'u'}{pixel.GetBitsAllocated() // 8}")
    content = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(content, kind).reshape(image.GetDimension(1), image.GetDimension(0))


def test_ct_objects_of_pydicom_have_the_greys_of_another_reader() -> None:
    compared = 0
    for path in objects():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with path.open("rb") as file:
                    dataset = read_dataset(file, path.name, pixels=False)
                with FrameReader(path, path.name) as frames:
                    pixels = frames.read(0)
                    count = frames.count
        except InputRejected:
            continue
        raw = read_by_gdcm(path) if count == 1 and path.name not in CONTRADICTORY else None
        if raw is None:
            continue
        inside = raw != dataset.PixelPaddingValue if "PixelPaddingValue" in dataset else np.ones(raw.shape, bool)
        assert np.array_equal(pixels[inside], windowed(dataset, raw)[inside]), path.name
        compared += 1
    assert compared >= 2  # The package has few CT images; more come with a download.


def test_no_object_of_pydicom_but_a_chest_slice_gets_an_answer(shipped: Classifier) -> None:
    """None of them is of the chest: there are heads, phantoms, other modalities and damaged objects."""
    answered, total = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in objects():
            rows = list(judge_source(shipped, Source(str(path))))
            total += 1
            answered += [row.result.source for row in rows if row.result.decision != "rejected"]
            assert all(row.result.reason for row in rows if row.result.decision == "rejected"), path.name
    assert total > 90
    assert answered == []


def test_pictures_of_other_packages_get_no_answer(shipped: Classifier) -> None:
    answered, total = [], 0
    for path in pictures():
        total += 1
        (row,) = judge_source(shipped, Source(str(path)))
        if row.result.decision != "rejected":
            answered.append(str(path))
    assert total >= 10
    assert answered == []
