"""Files -> series: who votes, in which order, what comes out, and a DICOMDIR."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from edge_ct import slices
from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier
from edge_ct.device_app.judging import dicom_objects, series
from edge_ct.device_app.judging import judge as judging
from edge_ct.device_app.judging.judge import SliceJudgement
from edge_ct.device_app.judging.rollup import PatientSummary, Tally
from edge_ct.device_app.judging.series import SeriesResult
from edge_ct.device_app.judging.sources import Source
from edge_ct.device_app.pseudonym import pseudonym
from edge_ct.errors import InputRejected
from edge_ct.imaging.frame_reader import FrameReader
from edge_ct.imaging.slice_files import list_slices

from .conftest import ROOT, edited, enhanced, neck, to_bytes

MakeCT = Callable[..., bytes]
KEY = bytes(32)


@pytest.fixture
def classifier(bundle: Bundle) -> Classifier:
    return Classifier(bundle)


def write(folder: Path, objects: dict[str, bytes]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, data in objects.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in objects]


@dataclass
class Judged:
    """What `classify` makes of files: its slices, and the roll-ups of what is DICOM."""

    found: list[SliceJudgement]
    results: list[tuple[str, SeriesResult]]
    patients: list[PatientSummary]


def judge(classifier: Classifier, paths: list[Path]) -> Judged:
    tally = Tally(lambda: KEY)
    found = list(judging.judge_paths(classifier, map(str, paths)))
    for one in found:
        tally.add(one)
    return Judged(found, list(tally._concluded(classifier)), tally.all_patients(classifier.bundle))


def only(classifier: Classifier, paths: list[Path]) -> SeriesResult:
    """Of files that are one series."""
    ((_, result),) = judge(classifier, paths).results
    return result


def test_a_series_is_sorted_and_its_mean_decides(classifier: Classifier, make_ct: MakeCT, tmp_path: Path) -> None:
    order = [5, 1, 3, 0, 4, 2]
    paths = write(tmp_path, {f"{i}.dcm": make_ct(i) for i in order})
    ((group, result),) = judge(classifier, paths).results
    assert [row.along for row in result.rows] == [500, 495, 490, 485, 480, 475]
    expected = [classifier.classify(tmp_path / f"{i}.dcm").probability for i in range(6)]
    assert [row.probability for row in result.rows] == expected
    assert result.verdict is not None
    assert result.verdict.probability == pytest.approx(np.mean([p for p in expected if p is not None]), abs=1e-12)
    assert (result.thickness, result.gap, result.skipped, result.notes) == (5, 5, {}, ())
    assert group.patient == "id-1"


def test_neck_abdomen_localisers_and_derived_images_do_not_vote(
    classifier: Classifier, make_ct: MakeCT, tmp_path: Path
) -> None:
    gas = neck()
    gas[50:80, 40:60] = 20  # HU -1232: no lung is that empty
    paths = write(
        tmp_path,
        {
            "neck": make_ct(0, grey=neck()),
            "gas": make_ct(1, grey=gas),
            "lung": make_ct(2),
            "scout": make_ct(3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
            "mpr": make_ct(4, ImageType=["DERIVED", "SECONDARY", "MPR"]),
        },
    )
    result = only(classifier, paths)
    voting = [row for row in result.rows if row.probability is not None]
    assert [row.along for row in voting] == [490]
    assert result.verdict is not None
    assert result.verdict.slices == 1
    assert sum(result.skipped.values()) == 4
    assert {"too little lung in it", "a localiser"} <= result.skipped.keys()


def test_gas_is_no_lung() -> None:
    from edge_ct.imaging import lungs

    picture = neck(256)
    picture[90:170, 60:120] = picture[90:170, 140:200] = 40
    found = lungs.segment(picture)
    assert found.share >= series.LEAST_LUNG
    assert series.reason_without_lung(picture, found) == "gas in it, and no lung"
    picture[picture == 40] = 90  # HU -820
    assert series.reason_without_lung(picture, lungs.segment(picture)) is None


def test_lung_has_the_density_of_lung() -> None:
    """The outline of a chest whose lungs are filled with fat or fluid: the darkest parts of it are no lung."""
    from edge_ct.imaging import lungs
    from edge_ct.phantom import make_slice

    reasons = set()
    for patient in range(4):
        chest = make_slice(patient, 3, True, 256).image
        for filling in (80, 150, 170, 200):
            filled = np.where(chest < 150, filling, chest).astype(np.uint8)
            reason = series.reason_without_lung(filled, lungs.segment(filled))
            assert (reason is None) == (filling <= 150), (patient, filling)
            reasons.add(reason)
    assert "no lung in it: its darker parts are denser than lung" in reasons


def test_a_series_without_lung_is_rejected_with_a_reason(
    classifier: Classifier, make_ct: MakeCT, tmp_path: Path
) -> None:
    result = only(classifier, write(tmp_path, {f"{i}": make_ct(i, grey=neck()) for i in range(3)}))
    assert result.verdict is None
    assert result.decision == "rejected"
    assert result.reason == "no slice to judge among 3: 3 x too little lung in it"


def test_several_series_and_patients_are_kept_apart(classifier: Classifier, make_ct: MakeCT, tmp_path: Path) -> None:
    twin = edited(make_ct(5), PatientID="somebody else", SOPInstanceUID=f"{ROOT}.77")
    paths = write(
        tmp_path,
        {"a": make_ct(0), "b": make_ct(0, series=4), "c": make_ct(1), "d": make_ct(0, patient=2), "e": to_bytes(twin)},
    )
    found = judge(classifier, paths)
    assert [(group.patient, len(result.rows)) for group, result in found.results] == [
        ("id-1", 2),
        ("id-1", 1),
        ("id-2", 1),
        ("somebody else", 1),
    ]
    assert [(one.patient, len(one.series), one.slices) for one in found.patients] == [
        (pseudonym(KEY, "id-1"), 2, 3),
        (pseudonym(KEY, "id-2"), 1, 1),
        (pseudonym(KEY, "somebody else"), 1, 1),
    ]
    own = [one.result.probability for one in found.found[:3]]
    assert found.patients[0].probability == pytest.approx(np.mean([p for p in own if p is not None]), abs=1e-12)


def test_objects_that_name_nobody_are_a_patient_a_study(
    classifier: Classifier, make_ct: MakeCT, tmp_path: Path
) -> None:
    places = [(2, 3), (2, 4), (5, 3), (5, 4)]  # study, series
    unnamed = {f"{one}{two}": make_ct(2, study=one, series=two, PatientID="") for one, two in places}
    found = judge(classifier, write(tmp_path, unnamed)).patients
    assert [(one.patient, len(one.series), one.slices) for one in found] == [(None, 2, 2), (None, 2, 2)]


def test_a_copy_of_an_instance_votes_once(classifier: Classifier, make_ct: MakeCT, tmp_path: Path) -> None:
    found = judge(classifier, write(tmp_path, {"a": make_ct(1), "b": make_ct(1), "c": make_ct(2)}))
    assert len(found.found) == 3
    ((_, result),) = found.results
    assert len(result.rows) == found.patients[0].slices == 2


def test_an_instance_uid_with_other_pixels_is_no_copy(classifier: Classifier, make_ct: MakeCT, tmp_path: Path) -> None:
    """Three slices under one instance UID, one of them twice, and a slice of the neck, which does not vote, twice."""
    uid = f"{ROOT}.99"
    objects = {str(number): make_ct(number, SOPInstanceUID=uid) for number in (2, 3, 4)}
    objects["copy"] = objects["3"]
    objects["neck"] = objects["neck again"] = make_ct(0, SOPInstanceUID=uid, grey=neck())
    judged = judge(classifier, write(tmp_path, objects))
    ((_, result),) = judged.results
    assert result.verdict is not None
    assert (result.verdict.slices, len(result.rows)) == (3, 4)
    assert result.notes == ("4 slices share an instance UID with another",)
    assert judged.patients[0].notes == result.notes


@pytest.mark.parametrize("patient", ["", "id-1"])
def test_objects_without_uids_are_a_series_for_each_folder(
    classifier: Classifier, make_ct: MakeCT, tmp_path: Path, patient: str
) -> None:
    missing = {"StudyInstanceUID": None, "SeriesInstanceUID": None, "PatientID": patient}
    paths = []
    for folder, first in (("a", 1), ("b", 4)):
        objects = {str(number): make_ct(number, patient=first, **missing) for number in (2, 3)}
        paths += write(tmp_path / folder, objects)
    judged = judge(classifier, paths)
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert [group.folder for group, _ in judged.results] == folders
    assert [len(result.rows) for _, result in judged.results] == [2, 2]
    if patient:
        (only,) = judged.patients
        assert only.series == tuple(folders)
        return
    assert [(one.patient, one.series, one.slices) for one in judged.patients] == [
        (None, (folder,), 2) for folder in folders
    ]
    for summary in judged.patients:
        assert summary.notes == (
            "patient ID, study UID, series UID missing: the slices of each folder are taken as a series",
        )


def test_objects_without_study_and_patient_are_a_patient_for_each_series(
    classifier: Classifier, make_ct: MakeCT, tmp_path: Path
) -> None:
    objects = {str(series): make_ct(3, series=series, StudyInstanceUID=None, PatientID="") for series in (3, 4)}
    patients = judge(classifier, write(tmp_path, objects)).patients
    assert [one.series for one in patients] == [(f"{ROOT}.1.2.3",), (f"{ROOT}.1.2.4",)]
    assert patients[0].notes == ("patient ID, study UID missing: each series is taken as a patient",)


def test_bad_files_are_rows_beside_the_series(classifier: Classifier, make_ct: MakeCT, tmp_path: Path) -> None:
    whole = make_ct(1)
    paths = write(tmp_path, {"a": make_ct(0), "cut": whole[:-500], "noise": bytes(128) + b"DICM" + b"\xff" * 90})
    found = judge(classifier, [*paths, tmp_path / "gone.dcm"])
    assert [Path(one.file).name for one in found.found if not one.readable] == ["cut", "noise", "gone.dcm"]
    ((_, result),) = found.results
    assert [row.decision == "rejected" for row in result.rows] == [False, True]
    assert "truncated" in str(result.rows[1].reason)
    assert result.verdict is not None
    assert result.verdict.slices == 1


def test_notes(classifier: Classifier, make_ct: MakeCT, tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        {
            "a": make_ct(0, SliceThickness=8, PhotometricInterpretation="MONOCHROME1"),
            "b": make_ct(1, SliceThickness=8, ImagePositionPatient=[0, 0, 500]),
            "c": make_ct(2, SliceThickness=8, ImagePositionPatient=None),
        },
    )
    assert only(classifier, paths).notes == (
        "1 slice without a position",
        "1 slice at the position of another",
        "slices 8 mm thick",
        "MONOCHROME1",
    )


def test_monochrome1_is_display_alone(make_ct: MakeCT) -> None:
    """The stored values mean the same Hounsfield units; the window shows air dark in both."""
    two, one = (slices.decode(make_ct(3, PhotometricInterpretation=f"MONOCHROME{n}"), "x").pixels for n in (2, 1))
    assert np.array_equal(one, two)


# Enhanced CT.


@pytest.mark.parametrize("syntax", [None, "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"])
def test_enhanced_ct_is_a_series_of_frames(
    classifier: Classifier, make_ct: MakeCT, tmp_path: Path, syntax: str | None
) -> None:
    from edge_ct.phantom import make_slice

    frames = [make_slice(1, i, True, 128).image for i in (1, 3)] + [neck()]
    (path,) = write(tmp_path, {"enhanced.dcm": enhanced(frames, make_ct, syntax)})
    with FrameReader(path, "x") as reader:
        assert all(np.array_equal(reader.read(index), frame) for index, frame in enumerate(frames))
        assert np.array_equal(reader.read(0), frames[0])
    found = judge(classifier, [path])
    ((_, result),) = found.results
    assert [(row.frame, row.along) for row in result.rows] == [(1, 500), (2, 495), (3, 490)]
    assert [row.probability is not None for row in result.rows] == [True, True, False]
    assert result.thickness == 5
    assert [one.result.source for one in found.found] == [f"{path}#{number}" for number in (1, 2, 3)]
    assert [one.result.probability for one in found.found] == [row.probability for row in result.rows]
    own = [Classifier(classifier.bundle).judge_slice(slices.Slice(frame, "x")).result.probability for frame in frames]
    assert [row.probability for row in result.rows[:2]] == own[:2]


def test_enhanced_ct_larger_than_a_file_of_one_slice(
    classifier: Classifier, make_ct: MakeCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = enhanced([neck(), neck()], make_ct)
    (path,) = write(tmp_path, {"enhanced.dcm": data})
    monkeypatch.setattr(dicom_objects, "_WHOLE", 1000)
    monkeypatch.setattr(judging, "_MAX_MULTIFRAME_BYTES", len(data))
    assert [one.readable for one in judge(classifier, [path]).found] == [True, True]
    monkeypatch.setattr(judging, "_MAX_MULTIFRAME_BYTES", len(data) - 1)
    (one,) = judge(classifier, [path]).found
    assert not one.readable
    assert "the limit is" in str(one.result.reason)


def test_enhanced_ct_from_standard_input(classifier: Classifier, make_ct: MakeCT) -> None:
    found = list(judging.judge_source(classifier, Source("<stdin>", enhanced([neck(), neck()], make_ct))))
    assert [one.result.source for one in found] == ["<stdin>#1", "<stdin>#2"]


def test_enhanced_ct_whose_frames_end_early(classifier: Classifier, make_ct: MakeCT, tmp_path: Path) -> None:
    data = enhanced([neck()] * 3, make_ct)
    (path,) = write(tmp_path, {"a": data[: -128 * 128 * 2 + 8]})
    found = judge(classifier, [path])
    ((_, result),) = found.results
    assert [row.decision for row in result.rows] == [None, None, "rejected"]
    assert [one.readable for one in found.found] == [True, True, False]


def test_enhanced_ct_that_states_more_frames_than_it_has(
    classifier: Classifier, make_ct: MakeCT, tmp_path: Path
) -> None:
    """Frames that it neither describes nor holds are rejected; the others are read."""
    dataset = edited(enhanced([neck()] * 2, make_ct))
    dataset.NumberOfFrames = 4
    (path,) = write(tmp_path, {"a": to_bytes(dataset)})
    found = judge(classifier, [path])
    assert [one.readable for one in found.found] == [True, True, False, False]
    assert {one.result.reason for one in found.found[2:]} == {"DICOM without rescale to Hounsfield units"}


def test_warnings_of_libraries_reach_no_user(make_ct: MakeCT, tmp_path: Path) -> None:
    """pydicom warns of this object; its warnings quote values, among them names of patients."""
    for label, index in (("COVID", 0), ("non-COVID", 1)):
        dataset = edited(make_ct(index))
        dataset.NumberOfFrames = 0
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.dcm").write_bytes(to_bytes(dataset))
    command = [sys.executable, "-m", "edge_ct", "data", "check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "formats: 2 DICOM" in done.stdout
    assert "Warning" not in done.stderr
    assert "site-packages" not in done.stderr


def test_one_slice_a_file_elsewhere(make_ct: MakeCT) -> None:
    with pytest.raises(InputRejected, match="2 frames; one slice a file is read"):
        slices.decode(enhanced([neck()] * 2, make_ct), "x")


# DICOMDIR.


@pytest.fixture
def disc(make_ct: MakeCT, tmp_path: Path) -> Iterator[Path]:
    from pydicom.fileset import FileSet

    files = FileSet()
    for index in range(3):
        files.add(pydicom.dcmread(BytesIO(make_ct(index))))
    files.write(tmp_path / "disc")
    files._stage["t"].cleanup()  # its temporary folder, which pydicom leaves to the garbage collector
    yield tmp_path / "disc"


def test_dicomdir_lists_its_files(disc: Path, classifier: Classifier) -> None:
    found = dicom_objects.dicomdir_files(disc / "DICOMDIR")
    assert len(found) == 3
    assert all(path.is_file() for path in found)
    result = only(classifier, [disc / "DICOMDIR"])
    assert result.verdict is not None
    assert result.verdict.slices == 3
    assert disc / "DICOMDIR" not in list_slices(disc).paths


def test_classify_takes_a_dicomdir_and_passes_over_what_shows_no_lung(
    disc: Path, classifier: Classifier, make_ct: MakeCT, tmp_path: Path
) -> None:
    found = list(judging.judge_paths(classifier, [str(disc / "DICOMDIR")]))
    assert [one.result.decision != "rejected" for one in found] == [True] * 3
    assert sorted(one.result.source for one in found) == sorted(map(str, list_slices(disc).paths))
    paths = write(
        tmp_path / "more",
        {
            "a.dcm": make_ct(0, grey=neck()),
            "b.dcm": make_ct(1, ImageType=["DERIVED", "SECONDARY", "MPR"]),
            "c.dcm": make_ct(2),
        },
    )
    neck_, derived, lung = (one.result for one in judging.judge_paths(classifier, [str(tmp_path / "more")]))
    assert (neck_.decision, neck_.reason, neck_.probability) == ("rejected", "too little lung in it", None)
    assert derived.decision == "rejected"
    assert str(derived.reason).startswith("a derived image")
    assert lung.probability == classifier.classify(paths[2]).probability
    (piped,) = judging.judge_source(classifier, Source("<stdin>", paths[0].read_bytes()))
    assert piped.result.reason == "too little lung in it"


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize("bad", [["..", "..", "etc", "passwd"], ["a/../../b"], [""]])
def test_dicomdir_that_points_outside_is_refused(disc: Path, bad: list[str]) -> None:
    dataset = pydicom.dcmread(disc / "DICOMDIR")
    for record in dataset.DirectoryRecordSequence:
        if record.DirectoryRecordType == "IMAGE":
            record["ReferencedFileID"].value = bad
            break
    (disc / "DICOMDIR").chmod(0o600)
    with pydicom.config.disable_value_validation():
        dataset.save_as(disc / "DICOMDIR")
    with pytest.raises(InputRejected, match="outside"):
        dicom_objects.dicomdir_files(disc / "DICOMDIR")


@pytest.mark.real
def test_real_series(real_data: Path, classifier: Classifier) -> None:
    """25 slices from the shoulders to the hilum: those above the lungs do not vote."""
    paths = sorted((real_data / "dicom" / "thorax-ct-series").glob("*.dcm"))
    result = only(classifier, paths)
    heights = [row.along for row in result.rows if row.along is not None]
    assert heights == sorted(heights, reverse=True)
    assert len(heights) == 25
    votes = [row.along for row in result.rows if row.probability is not None and row.along is not None]
    assert max(votes) == 61.5  # above, at 67.5 and 70.5 mm, the tips are 2 and 3 % of the body
    assert min(votes) == -4.5
    assert len(votes) == 18
    assert (result.thickness, result.skipped) == (2, {"too little lung in it": 7})
