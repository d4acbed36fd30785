"""What a DICOM object says of each of its frames, and why a frame is not one to judge."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from edge_ct.dicom import attribute, frame_count, quoted

# |cosine| between the slice's normal and the body's axis: a gantry is tilted by 30 degrees at most.
_AXIAL = 0.86
_CHEST = ("CHEST", "THORAX", "LUNG", "THX", "TORAX", "BODY")
_ELSEWHERE = (
    "HEAD", "BRAIN", "SKULL", "NECK", "CSPINE", "LSPINE", "SSPINE", "ABDOMEN", "PELVIS", "HIP", "KNEE", "LEG", "FOOT",
    "ANKLE", "ARM", "ELBOW", "HAND", "WRIST", "JAW", "ORBIT", "SINUS", "EAR", "COLON", "LIVER", "KIDNEY", "EXTREMITY",
    "FEMUR", "TIBIA", "MAXILLA", "MANDIBLE", "PHANTOM",
)  # fmt: skip


class Facts(msgspec.Struct, frozen=True):
    """One frame. Lengths in mm, positions and orientations in the patient's coordinates (PS3.3, C.7.6.2.1.1).

    frame: from 1 in a multi-frame object, 0 of a single-frame one. patient: PatientID as the object states it.
    along: position along the body's axis, None where the object gives none. expected: instances that the series has,
    where the sender says so.
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
        return None if self.position is None else self.position[2]

    @property
    def key(self) -> str:
        """Of a slice, unique in a series."""
        return f"{self.instance}#{self.frame}" if self.frame else self.instance


def read(dataset: Any) -> list[Facts]:
    """The facts of each frame of a parsed object; pixel data is not needed. Values that make no sense become None."""
    count = frame_count(dataset)
    common: dict[str, Any] = {
        "sop_class": str(dataset.get("SOPClassUID") or ""),
        "instance": str(dataset.get("SOPInstanceUID") or ""),
        "study": str(dataset.get("StudyInstanceUID") or ""),
        "series": str(dataset.get("SeriesInstanceUID") or ""),
        "patient": str(dataset.get("PatientID") or ""),
        "modality": str(dataset.get("Modality") or ""),
        "number": _whole(dataset.get("InstanceNumber")),
        "lossy": str(dataset.get("LossyImageCompression") or "") == "01",
        "photometric": str(dataset.get("PhotometricInterpretation") or ""),
        "expected": _whole(dataset.get("NumberOfSeriesRelatedInstances")),
    }

    def of(index: int) -> Facts:
        kind = attribute(dataset, index, "CTImageFrameTypeSequence", "FrameType") or dataset.get("ImageType")
        return Facts(
            frame=index + 1 if count > 1 else 0,
            image_type=tuple(str(value) for value in (kind or ())),
            body_part=_body_part(dataset, index),
            position=_floats(attribute(dataset, index, "PlanePositionSequence", "ImagePositionPatient"), 3),
            orientation=_floats(attribute(dataset, index, "PlaneOrientationSequence", "ImageOrientationPatient"), 6),
            thickness=_positive(attribute(dataset, index, "PixelMeasuresSequence", "SliceThickness")),
            spacing=_floats(attribute(dataset, index, "PixelMeasuresSequence", "PixelSpacing"), 2),
            **common,
        )

    return [of(index) for index in range(count)]


def why_skipped(facts: Facts) -> str | None:
    """Why a frame is not judged, by its header alone; None for an axial CT slice that may be of a chest."""
    if facts.modality != "CT":
        return f"modality {quoted(facts.modality) or 'unknown'}, not CT"
    if "LOCALIZER" in facts.image_type:
        return "a localiser"
    if facts.image_type[:1] == ("DERIVED",) and not (facts.lossy and facts.image_type[1:2] == ("PRIMARY",)):
        return f"a derived image ({quoted('/'.join(facts.image_type))}), not a slice as it was acquired"
    if facts.orientation is not None and not _axial(facts.orientation):
        return "not an axial slice"
    words = facts.body_part.upper()
    if not any(name in words for name in _CHEST) and any(
        name in words.replace("_", " ").split() for name in _ELSEWHERE
    ):
        return f"body part {quoted(facts.body_part)}, not the chest"
    return None


def order(facts: Facts) -> tuple[Any, ...]:
    """By position from head to feet, then as the scanner counted; those without a position last."""
    along = facts.along
    number = facts.number if facts.number is not None else 0
    return (along is None, -(along or 0.0), number, facts.frame, facts.instance)


def _axial(orientation: tuple[float, ...]) -> bool:
    (a, b, _), (d, e, _) = orientation[:3], orientation[3:]
    return abs(a * e - b * d) >= _AXIAL


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


def _positive(value: Any) -> float | None:
    one = _floats([value], 1)
    return one[0] if one and one[0] > 0 else None


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
