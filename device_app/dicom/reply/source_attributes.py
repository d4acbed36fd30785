"""Attributes that an answer copies from the series that it answers, so that it is filed with it: patient and study."""

from __future__ import annotations

from typing import Any

from edge_ct import __version__

MANUFACTURER = "edge-ct"
RESEARCH = "Research use only. Not for diagnosis."
# Attributes of the Patient and General Study modules (PS3.3, C.7.1.1 and C.7.2.1) that an answer needs.
_COPIED = (
    "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "StudyDate",
    "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "StudyDescription", "FrameOfReferenceUID",
    "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality",
)  # fmt: skip
_REQUIRED = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_SEXES = ("M", "F", "O", "")
_RAISE = 2  # pydicom.config.RAISE


def copy_source_attributes(source: Any) -> Any:
    """Return a small dataset with the copied attributes; a value that is invalid for its type becomes empty.

    The patient's name is left out, because highdicom warns about unusual names and quotes them in the warning.
    `copy_patient_name` adds the name to the finished object.
    """
    from pydicom.dataset import Dataset
    from pydicom.valuerep import validate_value

    copied = Dataset()
    for name in _COPIED:
        if name in source:
            element = source[name]
            try:
                validate_value(element.VR, element.value, _RAISE)
                setattr(copied, name, element.value)  # `Dataset.add` would share the element with the source.
            except ValueError:
                setattr(copied, name, "")
    for name in _REQUIRED:
        if not copied.get(name):
            setattr(copied, name, "")
    copied.PatientName = ""
    if copied.PatientSex not in _SEXES:
        copied.PatientSex = ""
    return copied


def copy_patient_name(answer: Any, source: Any) -> None:
    """Copy the patient's name into a finished answer, unless the name is invalid."""
    from pydicom.valuerep import validate_value

    name = source.get("PatientName") or ""
    try:
        validate_value("PN", name, _RAISE)
    except ValueError:
        return
    answer.PatientName = name


def equipment_arguments() -> dict[str, Any]:
    """Return the equipment that made an answer (PS3.3, C.7.5.1), as arguments of highdicom's constructors."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MANUFACTURER,
        "software_versions": __version__,
        "device_serial_number": "0",
    }
