"""The objects that answer a series: a structured report, captures of the most suspicious slices, a segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from edge_ct import dicom
from edge_ct.bundle import Bundle

from ...judging import series
from ...judging.series import JudgedFrame, SeriesResult
from .secondary_capture import build_capture
from .segmentation import build_segmentation
from .structured_report import build_report


def build_answers(
    files: Mapping[str, Path],
    judged: Sequence[JudgedFrame],
    result: SeriesResult,
    bundle: Bundle,
    captures: int,
    read_pixels: Callable[[Path, int], np.ndarray],
    reading: str | None = None,
) -> Iterator[Any]:
    """Build the answers to a series.

    Args:
        files: Files of the series by SOP instance UID.
        judged: The frames of the series, at least one.
        result: The result of the series.
        bundle: The bundle that judged it.
        captures: Maximum number of captures.
        read_pixels: Decodes a frame, given its file and number: uint8 [h, w], lung window.
        reading: How reviewers have read the series, if they have; it counts before the result.

    Yields:
        pydicom datasets with file meta information: the report first, then the captures, then the segmentation of the
        opacities, if the bundle has a lesion map that shows some.
    """
    suspicious = series.most_suspicious(judged, captures)
    source = _read_header(files[(suspicious or judged)[0].attributes.instance])
    yield build_report(source, judged, result, suspicious, bundle, reading)
    for number, frame in enumerate(suspicious, 1):
        path = files[frame.attributes.instance]
        pixels = read_pixels(path, frame.attributes.frame)
        yield build_capture(_read_header(path), frame, pixels, result, bundle, number)
    if captures and any(frame.lesion_map is not None for frame in judged):
        headers = {instance: _read_header(files[instance]) for instance in {one.attributes.instance for one in judged}}
        segmentation = build_segmentation(headers, judged, result, bundle)
        if segmentation is not None:
            yield segmentation


def encode_dataset(dataset: Any) -> bytes:
    """Return a dataset as the content of a DICOM file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def preload_libraries() -> None:
    """Import the libraries that build answers: it takes two seconds on a small device, so not while a series waits."""
    import highdicom.sc
    import highdicom.seg
    import highdicom.sr
    from pydicom.sr.codedict import codes

    # The code tables are loaded at the first look-up.
    assert highdicom.seg and highdicom.sr and codes.DCM.ImagingMeasurementReport


def _read_header(path: Path) -> Any:
    with path.open("rb") as file:
        return dicom.read_dataset(file, "answer", pixels=False)
