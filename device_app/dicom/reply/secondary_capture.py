"""A judged slice as Secondary Capture: its lung window pixel for pixel under the heat map, words burnt in below.

The picture keeps the rows and columns of its source, so that its orientation is the source's.
"""

from __future__ import annotations

import textwrap
from typing import Any

import cv2
import numpy as np

from edge_ct.bundle import Bundle

from ...heatmaps import heatmap
from ...judging.series import JudgedFrame, SeriesResult
from ..uids import derived
from .source_attributes import RESEARCH, equipment, name_patient, reference

SERIES_NUMBER = 9802
_LINE, _MARGIN = 16, 6


def draw(pixels: np.ndarray, heat: heatmap.Heat, lines: list[str]) -> np.ndarray:
    """RGB uint8 [h + text, w, 3]. pixels: uint8 [h, w].

    The first h rows are the slice; where there is no evidence they are grey and the slice's own bytes.
    """
    picture = heatmap.blend(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), heat)
    width = pixels.shape[1]
    wrapped = [part for line in lines for part in textwrap.wrap(line, max(16, width // 7)) or [""]]
    band = np.zeros((_LINE * len(wrapped) + 2 * _MARGIN, width, 3), np.uint8)
    for number, text in enumerate(wrapped):
        at = (_MARGIN, _MARGIN + _LINE * number + 12)
        colour = (80, 220, 255) if number == 0 else (255, 255, 255)
        cv2.putText(band, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
    return np.ascontiguousarray(np.concatenate([picture, band])[:, :, ::-1])


def build(
    source: Any, judged: JudgedFrame, pixels: np.ndarray, result: SeriesResult, bundle: Bundle, number: int
) -> Any:
    """The capture of one slice. source: the dataset of its object; number: of the capture in its series, from 1."""
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian

    row, facts = judged.row, judged.attributes
    seal = bundle.seal
    colours = f"Colour: evidence for COVID-19, log-odds 0 to {heatmap.FULL_SCALE:g} and over. Lung window."
    if judged.class_map is None:
        heat = heatmap.Heat(np.zeros((1, 1), np.float32), "")
        colours = "This network has no class map: the slice alone. Lung window."
    else:
        heat = heatmap.of_class_map(judged.class_map, bundle.manifest)
    place = "" if row.along is None else f" at {row.along:g} mm"
    lines = [
        f"RESEARCH USE ONLY, NOT FOR DIAGNOSIS. {bundle.manifest.name} ({seal[:12]})",
        f"Slice{place}: {row.decision}, P(COVID-19) = {_percent(row.probability)}",
        f"Series: {_series_line(result)}",
        colours,
    ]
    image = SCImage.from_ref_dataset(
        ref_dataset=reference(source),
        pixel_array=draw(pixels, heat, lines),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=series_uid(result, seal),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derived("capture", facts.series, facts.key, seal, _state(result)),
        instance_number=number,
        patient_orientation=_orientation(facts.orientation),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=f"edge-ct heat maps. {RESEARCH}",
        content_qualification="RESEARCH",
        **equipment(),
    )
    image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    image.BurnedInAnnotation = "YES"
    image.DerivationDescription = f"Lung window under a class map of {bundle.manifest.name}. {RESEARCH}"
    image.ImageComments = RESEARCH
    own = Dataset()
    own.ReferencedSOPClassUID, own.ReferencedSOPInstanceUID = facts.sop_class, facts.instance
    if facts.frame:
        own.ReferencedFrameNumber = facts.frame
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = (
        codes.DCM.SourceImageForImageProcessingOperation.value,
        "DCM",
        codes.DCM.SourceImageForImageProcessingOperation.meaning,
    )
    own.PurposeOfReferenceCodeSequence = Sequence([purpose])
    image.SourceImageSequence = Sequence([own])
    name_patient(image, source)
    return image


def series_uid(result: SeriesResult, seal: str) -> str:
    """Of the captures of a series by one bundle."""
    return derived("captures", result.study, result.series, seal)


def _state(result: SeriesResult) -> str:
    """A series that has grown is another result: its picture says another thing of the series."""
    return result.digest


def _series_line(result: SeriesResult) -> str:
    verdict = result.verdict
    if verdict is None:
        return result.decision
    return (
        f"{verdict.decision}, P = {_percent(verdict.probability)}, {verdict.positive_slices} of {verdict.slices} slices"
    )


def _percent(p: float | None) -> str:
    return "none" if p is None else f"{p:.1%}"


def _orientation(orientation: tuple[float, ...] | None) -> tuple[str, str] | None:
    """Patient directions of a row and of a column (PS3.3, C.7.6.1.1.1): L, P or F towards the greater coordinate."""
    if orientation is None:
        return None
    row, column = (_direction(orientation[at : at + 3]) for at in (0, 3))
    return row, column


def _direction(vector: tuple[float, ...]) -> str:
    letters = (("L", "R"), ("P", "A"), ("H", "F"))
    parts = sorted(zip((abs(value) for value in vector), letters, vector, strict=True), reverse=True)
    return "".join(pair[0] if value > 0 else pair[1] for size, pair, value in parts if size > 0.1)
