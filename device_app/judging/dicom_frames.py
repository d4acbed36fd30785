"""Attributes of each frame of a DICOM object, and why a frame is skipped."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from edge_ct.dicom import attribute, frame_count, quoted

# |cosine| between the slice's normal and the body's axis: a gantry is tilted by 30 degrees at most.
_MIN_AXIAL_COSINE = 0.86
_CHEST = ("CHEST", "THORAX", "LUNG", "THX", "TORAX", "BODY")
_OTHER_BODY_PARTS = (
    "HEAD", "BRAIN", "SKULL", "NECK", "CSPINE", "LSPINE", "SSPINE", "ABDOMEN", "PELVIS", "HIP", "KNEE", "LEG", "FOOT",
    "ANKLE", "ARM", "ELBOW", "HAND", "WRIST", "JAW", "ORBIT", "SINUS", "EAR", "COLON", "LIVER", "KIDNEY", "EXTREMITY",
    "FEMUR", "TIBIA", "MAXILLA", "MANDIBLE", "PHANTOM",
)  # fmt: skip


class FrameAttributes(msgspec.Struct, frozen=True):
    """Attributes of one frame that judging depends on (PS3.3, C.7.6.2.1.1).

    Attributes:
        frame: Number of the frame, from 1, in a multi-frame object; 0 in a single-frame object.
        patient: PatientID as the object states it.
        position: ImagePositionPatient in mm, patient coordinates.
        orientation: ImageOrientationPatient, patient coordinates.
        thickness: SliceThickness in mm.
        spacing: PixelSpacing in mm.
        expected: Number of instances in the series, if the sender states it.
    """

    sop_class: str
    instance: str
    frame: int
    study: str
    series: str
    patient: str
    modality: str
    image_type: tuple[str, ...]
    body_part: str
    number: int | None
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    thickness: float | None
    spacing: tuple[float, ...] | None
    lossy: bool
    photometric: str
    expected: int | None

    @property
    def along(self) -> float | None:
        """Position on the body axis in mm; None if the object states none."""
        return None if self.position is None else self.position[2]

    @property
    def key(self) -> str:
        """Identifier of the slice, unique in its series."""
        return f"{self.instance}#{self.frame}" if self.frame else self.instance


def read_frame_attributes(dataset: Any) -> list[FrameAttributes]:
    """Read the attributes of each frame of a parsed object, without its pixel data. Senseless values become None."""
    count = frame_count(dataset)
    common: dict[str, Any] = {
        "sop_class": str(dataset.get("SOPClassUID") or ""),
        "instance": str(dataset.get("SOPInstanceUID") or ""),
        "study": str(dataset.get("StudyInstanceUID") or ""),
        "series": str(dataset.get("SeriesInstanceUID") or ""),
        "patient": str(dataset.get("PatientID") or ""),
        "modality": str(dataset.get("Modality") or ""),
        "number": _integer_or_none(dataset.get("InstanceNumber")),
        "lossy": str(dataset.get("LossyImageCompression") or "") == "01",
        "photometric": str(dataset.get("PhotometricInterpretation") or ""),
        "expected": _integer_or_none(dataset.get("NumberOfSeriesRelatedInstances")),
    }

    def frame_at(index: int) -> FrameAttributes:
        kind = attribute(dataset, index, "CTImageFrameTypeSequence", "FrameType") or dataset.get("ImageType")
        return FrameAttributes(
            frame=index + 1 if count > 1 else 0,
            image_type=tuple(str(value) for value in (kind or ())),
            body_part=_body_part(dataset, index),
            position=_floats(attribute(dataset, index, "PlanePositionSequence", "ImagePositionPatient"), 3),
            orientation=_floats(attribute(dataset, index, "PlaneOrientationSequence", "ImageOrientationPatient"), 6),
            thickness=_positive_or_none(attribute(dataset, index, "PixelMeasuresSequence", "SliceThickness")),
            spacing=_floats(attribute(dataset, index, "PixelMeasuresSequence", "PixelSpacing"), 2),
            **common,
        )

    return [frame_at(index) for index in range(count)]


def reason_to_skip(attributes: FrameAttributes) -> str | None:
    """Return why the header rules a frame out; None for an axial CT slice that may show a chest."""
    if attributes.modality != "CT":
        return f"modality {quoted(attributes.modality) or 'unknown'}, not CT"
    if "LOCALIZER" in attributes.image_type:
        return "a localiser"
    if attributes.image_type[:1] == ("DERIVED",) and not (
        attributes.lossy and attributes.image_type[1:2] == ("PRIMARY",)
    ):
        return f"a derived image ({quoted('/'.join(attributes.image_type))}), not an original slice"
    if attributes.orientation is not None and not _is_axial(attributes.orientation):
        return "not an axial slice"
    words = attributes.body_part.upper()
    if not any(name in words for name in _CHEST) and any(
        name in words.replace("_", " ").split() for name in _OTHER_BODY_PARTS
    ):
        return f"body part {quoted(attributes.body_part)}, not the chest"
    return None


def acquisition_order(attributes: FrameAttributes) -> tuple[Any, ...]:
    """Sort key: position from head to feet, then the scanner's numbers; frames without a position come last."""
    along = attributes.along
    number = attributes.number if attributes.number is not None else 0
    return (along is None, -(along or 0.0), number, attributes.frame, attributes.instance)


def _is_axial(orientation: tuple[float, ...]) -> bool:
    (a, b, _), (d, e, _) = orientation[:3], orientation[3:]
    return abs(a * e - b * d) >= _MIN_AXIAL_COSINE


def _body_part(dataset: Any, index: int) -> str:
    anatomy = attribute(dataset, index, "FrameAnatomySequence", "AnatomicRegionSequence")
    if anatomy:
        return str(anatomy[0].get("CodeMeaning") or "")
    return str(dataset.get("BodyPartExamined") or "")


def _floats(values: Any, count: int) -> tuple[float, ...] | None:
    try:
        floats = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return floats if len(floats) == count and all(map(math.isfinite, floats)) else None


def _positive_or_none(value: Any) -> float | None:
    numbers = _floats([value], 1)
    return numbers[0] if numbers and numbers[0] > 0 else None


def _integer_or_none(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
