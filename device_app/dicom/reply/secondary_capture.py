"""A judged slice as Secondary Capture: the slice in the lung window under its heat map, with text burned in below.

The picture keeps the rows and columns of its source, so that it has the same patient orientation.
"""

from __future__ import annotations

import textwrap
from typing import Any

import cv2
import numpy as np

from edge_ct.bundle import Bundle
from edge_ct.reporting.counts import count_of

from ...heatmaps import heatmap
from ...judging.dicom_frames import FrameAttributes
from ...judging.series import JudgedFrame, SeriesResult
from ..uids import derive_uid
from .source_attributes import RESEARCH, copy_patient_name, copy_source_attributes, equipment_arguments

SERIES_NUMBER = 9802
_LINE, _MARGIN = 16, 6


def draw_capture(pixels: np.ndarray, heat: heatmap.Heat, lines: list[str]) -> np.ndarray:
    """Draw a capture.

    Args:
        pixels: The slice, uint8 [h, w].
        heat: Its heat map.
        lines: The text below the slice; the first line is highlighted.

    Returns:
        RGB uint8 [h + text height, w, 3]. Where there is no evidence, the first h rows are the grey slice itself.
    """
    picture = heatmap.blend_heat(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), heat)
    width = pixels.shape[1]
    wrapped = [part for line in lines for part in textwrap.wrap(line, max(16, width // 7)) or [""]]
    band = np.zeros((_LINE * len(wrapped) + 2 * _MARGIN, width, 3), np.uint8)
    for number, text in enumerate(wrapped):
        at = (_MARGIN, _MARGIN + _LINE * number + 12)
        colour = (80, 220, 255) if number == 0 else (255, 255, 255)
        cv2.putText(band, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
    return np.ascontiguousarray(np.concatenate([picture, band])[:, :, ::-1])


def build_capture(
    source: Any, judged: JudgedFrame, pixels: np.ndarray, result: SeriesResult, bundle: Bundle, number: int
) -> Any:
    """Build the capture of one slice.

    Args:
        source: The dataset of the object that the slice belongs to.
        judged: The slice.
        pixels: Its pixels, uint8 [h, w] in the lung window.
        result: The result of its series.
        bundle: The bundle that judged it.
        number: Number of the capture in its series, from 1.
    """
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    attributes, seal = judged.attributes, bundle.seal
    heat = _heat(judged, bundle, pixels.shape)
    image = SCImage.from_ref_dataset(
        ref_dataset=copy_source_attributes(source),
        pixel_array=draw_capture(pixels, heat, _lines(judged, result, bundle, heat.method)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=series_uid(result, seal),
        series_number=SERIES_NUMBER,
        # A series that has grown has another result, so its captures show another text: they get other UIDs.
        sop_instance_uid=derive_uid("capture", attributes.series, attributes.key, seal, result.digest),
        instance_number=number,
        patient_orientation=_patient_orientation(attributes.orientation),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=f"edge-ct heat maps. {RESEARCH}",
        content_qualification="RESEARCH",
        **equipment_arguments(),
    )
    image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    image.BurnedInAnnotation = "YES"
    overlay = f" with the {heat.method} of {bundle.manifest.name} as overlay" if heat.method else ""
    image.DerivationDescription = f"Lung window{overlay}. {RESEARCH}"
    image.ImageComments = RESEARCH
    image.SourceImageSequence = [_source_image(attributes)]
    copy_patient_name(image, source)
    return image


def series_uid(result: SeriesResult, seal: str) -> str:
    """Return the UID of the series that holds the captures of a series by one bundle."""
    return derive_uid("captures", result.study, result.series, seal)


def _heat(judged: JudgedFrame, bundle: Bundle, shape: tuple[int, ...]) -> heatmap.Heat:
    heat = heatmap.heat_of_maps(judged.class_map, judged.lesion_map, bundle.manifest, judged.region, shape)
    return heatmap.Heat(np.zeros((1, 1), np.float32), "") if heat is None else heat


def _lines(judged: JudgedFrame, result: SeriesResult, bundle: Bundle, method: str) -> list[str]:
    """Return the text that is burned in below the slice."""
    row, seal = judged.row, bundle.seal
    evidence = heatmap.describe_evidence(method)
    legend = f"Colour: evidence for {evidence}, log-odds from 0 to {heatmap.FULL_SCALE:g} or more. Lung window."
    if not method:
        legend = "This network has no map; only the slice is shown. Lung window."
    position = "" if row.along is None else f" at {row.along:g} mm"
    return [
        f"RESEARCH USE ONLY, NOT FOR DIAGNOSIS. {bundle.manifest.name} ({seal[:12]})",
        f"Slice{position}: {row.decision}, P(COVID-19) = {_percent(row.probability)}",
        f"Series: {_series_text(result)}",
        legend,
    ]


def _series_text(result: SeriesResult) -> str:
    verdict = result.verdict
    if verdict is None:
        return result.decision
    return (
        f"{verdict.decision}, mean P(COVID-19) = {_percent(verdict.probability)}, "
        f"{verdict.positive_slices} of {count_of(verdict.slices, 'slice')} positive"
    )


def _percent(probability: float | None) -> str:
    return "not available" if probability is None else f"{probability:.1%}"


def _source_image(attributes: FrameAttributes) -> Any:
    """Return a reference to the frame that a capture shows."""
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = attributes.sop_class, attributes.instance
    if attributes.frame:
        reference.ReferencedFrameNumber = attributes.frame
    concept = codes.DCM.SourceImageForImageProcessingOperation
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = concept.value, "DCM", concept.meaning
    reference.PurposeOfReferenceCodeSequence = [purpose]
    return reference


def _patient_orientation(orientation: tuple[float, ...] | None) -> tuple[str, str] | None:
    """Return the patient directions of a row and of a column (PS3.3, C.7.6.1.1.1), such as L and P."""
    if orientation is None:
        return None
    row, column = (_direction(orientation[at : at + 3]) for at in (0, 3))
    return row, column


def _direction(vector: tuple[float, ...]) -> str:
    letters = (("L", "R"), ("P", "A"), ("H", "F"))
    parts = sorted(zip((abs(value) for value in vector), letters, vector, strict=True), reverse=True)
    return "".join(pair[0] if value > 0 else pair[1] for size, pair, value in parts if size > 0.1)
