"""What a result takes over from its source, so that it is filed with it: patient and study, and nothing else."""

from __future__ import annotations

from typing import Any

from edge_ct import __version__

MANUFACTURER = "edge-ct"
RESEARCH = "Research use only. Not for diagnosis."
# The patient and the general study module (PS3.3, C.7.1.1 and C.7.2.1), as far as results need them.
_TAKEN = (
    "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "StudyDate",
    "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "StudyDescription", "FrameOfReferenceUID",
    "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality",
)  # fmt: skip
_REQUIRED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
             "AccessionNumber", "ReferringPhysicianName")  # fmt: skip
_SEXES = ("M", "F", "O", "")


def reference(source: Any) -> Any:
    """A small dataset with what is taken over; a value that its own type does not allow becomes empty.

    The patient's name is left out: highdicom warns of names that it does not like, and quotes them. `name_patient` puts
    it into the finished object.
    """
    from pydicom.dataset import Dataset
    from pydicom.valuerep import validate_value

    taken = Dataset()
    for name in _TAKEN:
        if name in source:
            element = source[name]
            try:
                validate_value(element.VR, element.value, 2)  # pydicom.config.RAISE
                setattr(taken, name, element.value)  # `add` would share the element with the source
            except ValueError:
                setattr(taken, name, "")
    for name in _REQUIRED:
        if not taken.get(name):
            setattr(taken, name, "")
    taken.PatientName = ""
    if taken.PatientSex not in _SEXES:
        taken.PatientSex = ""
    return taken


def name_patient(made: Any, source: Any) -> None:
    """Give a finished object the name of its source's patient."""
    from pydicom.valuerep import validate_value

    name = source.get("PatientName") or ""
    try:
        validate_value("PN", name, 2)
    except ValueError:
        return
    made.PatientName = name


def equipment() -> dict[str, Any]:
    """Who made an object (PS3.3, C.7.5.1), as arguments of highdicom's constructors."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MANUFACTURER,
        "software_versions": __version__,
        "device_serial_number": "0",
    }
