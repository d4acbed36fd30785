"""PS3.15's Basic Profile: nothing of what named the patient is left, and what the slice shows is."""

import secrets
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary

from edge_ct import cli, slices
from edge_ct.device_app.dicom.deidentify import deidentify
from edge_ct.errors import InputRejected

from .conftest import edited, to_bytes

pytest.importorskip("dicomanonymizer")

MakeCT = Callable[..., bytes]
KEY = b"k" * 32
# Of the profile's table (PS3.15, E.1-1), read by hand: attributes that must be gone, emptied or another.
NAMING = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "PatientAddress", "PatientTelephoneNumbers",
    "PatientMotherBirthName", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "InstitutionName",
    "InstitutionAddress", "StationName", "AccessionNumber", "StudyDate", "StudyTime", "SeriesDate", "ContentDate",
    "StudyDescription", "SeriesDescription", "StudyID", "DeviceSerialNumber", "ProtocolName", "PatientComments",
    "AdditionalPatientHistory", "EthnicGroup", "Occupation", "ImageComments", "RequestingPhysician",
)  # fmt: skip


def named(make_ct: MakeCT) -> tuple[Any, dict[str, str]]:
    """An object with a secret in every naming attribute, in nested ones, private ones and in the preamble."""
    dataset = pydicom.dcmread(BytesIO(make_ct(3)))
    told = {}
    for name in NAMING:
        vr = dataset[name].VR if name in dataset else pydicom.datadict.dictionary_VR(name)
        value = {"DA": "19590403", "TM": "081733", "SH": secrets.token_hex(7)}.get(vr, secrets.token_hex(12))
        setattr(dataset, name, value)
        told[name] = value
    inner = pydicom.Dataset()
    inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5.6.7.8.9"
    inner.PatientName = told["nested"] = secrets.token_hex(12)
    dataset.SourceImageSequence = [inner]
    block = dataset.private_block(0x0013, "SOMEBODY", create=True)
    told["private"] = secrets.token_hex(12)
    block.add_new(0x10, "LO", told["private"])
    told["unknown"] = secrets.token_hex(12)
    dataset.add_new((0x0018, 0x9FF0), "LO", told["unknown"])
    told["uid"] = "1.2.3.4.5.6.7.8.9"
    dataset.preamble = b"MM\x00*" + told["nested"].encode().ljust(124, b"\x00")
    return dataset, told


def test_nothing_that_names_is_left(make_ct: MakeCT) -> None:
    dataset, told = named(make_ct)
    made = deidentify(to_bytes(dataset), "x", KEY)
    # Dates and times are short enough to be there by chance; every other secret is looked for in all bytes.
    left = [name for name, value in told.items() if value.encode() in made and value not in ("19590403", "081733")]
    assert left == []
    after = pydicom.dcmread(BytesIO(made))
    assert [name for name in NAMING if name in after and str(after[name].value) == told[name]] == []
    assert not [element for element in after.iterall() if element.tag.is_private]
    assert {f"{tag:08x}" for tag in after.keys() if tag not in DicomDictionary} == set()  # noqa: SIM118
    for uid in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert after[uid].value != dataset[uid].value
        assert after[uid].value.startswith("2.25.")
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID


def test_what_it_says_of_itself_and_what_is_kept(make_ct: MakeCT) -> None:
    before = make_ct(3)
    made = deidentify(before, "x", KEY)
    after = pydicom.dcmread(BytesIO(made))
    assert after.PatientIdentityRemoved == "YES"
    (code,) = after.DeidentificationMethodCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
    assert np.array_equal(slices.decode(made, "x").pixels, slices.decode(before, "x").pixels)
    assert (after.SliceThickness, list(after.ImagePositionPatient), after.Modality) == (5, [-100, -100, 485], "CT")


def test_stable_within_a_device_and_different_between(make_ct: MakeCT) -> None:
    def ids(index: int, key: bytes) -> tuple[str, str, str]:
        after = pydicom.dcmread(BytesIO(deidentify(make_ct(index), "x", key)))
        return after.PatientID, after.SeriesInstanceUID, after.SOPInstanceUID

    one, again, other, elsewhere = ids(1, KEY), ids(1, KEY), ids(2, KEY), ids(1, b"j" * 32)
    assert one == again
    assert one[:2] == other[:2]
    assert one[2] != other[2]
    assert not set(one) & set(elsewhere)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"BurnedInAnnotation": "YES"}, "burned-in"), ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "not a CT image")],
)
def test_what_is_refused(make_ct: MakeCT, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputRejected, match=message):
        deidentify(to_bytes(edited(make_ct(), **changes)), "x", KEY)


def test_command(make_ct: MakeCT, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, out, state = tmp_path / "study", tmp_path / "out", tmp_path / "state"
    study.mkdir()
    for index in range(2):
        (study / f"{index}.dcm").write_bytes(make_ct(index))
    (study / "bad.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    arguments = ["export", str(study), "--deidentify", "--out", str(out), "--state", str(state)]
    assert cli.run(arguments) == 3
    assert "2 objects written" in "".join(capsys.readouterr())
    assert len(list(out.rglob("*.dcm"))) == 2
    assert cli.run(["export", str(study), "--out", str(out)]) == 2
    assert cli.run(arguments) == 1
    assert "already exists" in capsys.readouterr().err


@pytest.mark.real
def test_real_object(real_data: Path) -> None:
    path = sorted((real_data / "dicom" / "thorax-ct-series").glob("*.dcm"))[0]
    before = pydicom.dcmread(path)
    made = deidentify(path.read_bytes(), "x", KEY)
    for name in (
        "PatientID",
        "AccessionNumber",
        "StudyInstanceUID",
        "SOPInstanceUID",
        "SeriesDescription",
        "StudyDate",
    ):
        assert str(before[name].value).encode() not in made
