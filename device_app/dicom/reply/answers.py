"""What is sent back for a series: the report, then captures of the slices that tell most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from edge_ct import dicom
from edge_ct.bundle import Bundle

from ...judging import series
from ...judging.series import JudgedFrame, SeriesResult
from . import secondary_capture, structured_report


def build(
    files: Mapping[str, Path], judged: Sequence[JudgedFrame], result: SeriesResult, bundle: Bundle, captures: int
) -> Iterator[Any]:
    """Datasets with file meta information, one by one. files: of the series' objects, by instance UID."""
    telling = series.most_suspicious(judged, captures)
    first = files[(telling or judged)[0].attributes.instance]
    source = _header(first)
    yield structured_report.build(source, judged, result, telling, bundle)
    for number, one in enumerate(telling, 1):
        path = files[one.attributes.instance]
        frames = dicom.read_frames(path, "capture")
        pixels = next(islice(frames, max(one.attributes.frame - 1, 0), None))
        frames.close()
        yield secondary_capture.build(source if path == first else _header(path), one, pixels, result, bundle, number)


def encode(made: Any) -> bytes:
    """A dataset as the bytes of a DICOM file."""
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def warm_up() -> None:
    """Import what building needs: two seconds on a small machine, better before a series waits for it."""
    import highdicom.sc
    import highdicom.sr
    from pydicom.sr.codedict import codes

    assert highdicom.sr and codes.DCM.ImagingMeasurementReport  # its tables are read when first asked


def _header(path: Path) -> Any:
    with path.open("rb") as file:
        return dicom.read_dataset(file, "capture", pixels=False)
