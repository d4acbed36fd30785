"""Reports and captures: read by other parsers, and pixels that match the source's."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pydicom
import pytest

from edge_ct import slices
from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier
from edge_ct.device_app.dicom.reply.answers import build_answers, encode_dataset
from edge_ct.device_app.dicom.reply.secondary_capture import _patient_orientation, draw_capture
from edge_ct.device_app.dicom.uids import derive_uid, is_uid
from edge_ct.device_app.heatmaps import heatmap
from edge_ct.device_app.judging import dicom_objects, series
from edge_ct.imaging.frame_reader import FrameReader
from edge_ct.imaging.lung_box import Box
from edge_ct.lesions import LesionAreas
from edge_ct.phantom import make_slice

from .conftest import NAME, ROOT, Concluded, conclude, enhanced, neck

MakeCT = Callable[..., bytes]
DCMTK = shutil.which("dsrdump")


def read_pixels(path: Path, frame: int) -> np.ndarray:
    with FrameReader(path, "x") as frames:
        return frames.read(max(frame - 1, 0))


@pytest.fixture
def judged(bundle: Bundle, make_ct: MakeCT, tmp_path: Path) -> Concluded:
    """Five slices that vote, and one of the neck; PatientName is in Latin-1."""
    for index in range(6):
        data = make_ct(index, **({"grey": neck()} if index == 0 else {}))
        (tmp_path / f"{index}.dcm").write_bytes(data)
    return conclude(bundle, sorted(tmp_path.glob("*.dcm")))


@pytest.fixture
def made(judged: Concluded, bundle: Bundle) -> list[Any]:
    """The report and three captures, as a receiver reads them."""
    built = build_answers(judged.files, judged.judged, judged.result, bundle, 3, read_pixels)
    return [pydicom.dcmread(BytesIO(encode_dataset(one))) for one in built]


def texts(dataset: Any) -> dict[str, list[str]]:
    """Every text, number, code and UID of a report by its name."""
    found: dict[str, list[str]] = {}

    def walk(item: Any) -> None:
        if "ConceptNameCodeSequence" in item:
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            if "TextValue" in item:
                found.setdefault(name, []).append(item.TextValue)
            if "MeasuredValueSequence" in item:
                found.setdefault(name, []).append(str(item.MeasuredValueSequence[0].NumericValue))
            if "ConceptCodeSequence" in item:
                found.setdefault(name, []).append(item.ConceptCodeSequence[0].CodeValue)
        for child in item.get("ContentSequence", []):
            walk(child)

    walk(dataset)
    return found


def test_report_says_what_was_found_by_what(made: list[Any], judged: Concluded, bundle: Bundle) -> None:
    report, result = made[0], judged.result
    assert result.verdict is not None
    said = texts(report)
    seal = bundle.seal
    assert said["Algorithm Name"][0] == bundle.manifest.name
    assert f"bundle SHA-256 {seal}" in said["Algorithm Parameters"]
    assert said["Decision"][0] == result.decision
    probability = "Calibrated probability of COVID-19 by the model"
    assert float(said[probability][0]) == pytest.approx(result.verdict.probability, abs=5e-5)
    assert float(said["Slices judged"][0]) == 5
    assert said["Model bundle"] == [f"SHA-256 {seal}"]
    assert said["Notice"][0].startswith("RESEARCH USE ONLY")
    assert said["Slices not judged"] == ["Not judged: 1 x too little lung in it"]
    assert "diagnos" not in " ".join(text for name, own in said.items() if name != "Notice" for text in own).replace(
        bundle.manifest.intended_use, ""
    )
    assert (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )


def test_a_reading_comes_before_the_decision(judged: Concluded, bundle: Bundle, made: list[Any]) -> None:
    built = build_answers(
        judged.files, judged.judged, judged.result, bundle, 0, read_pixels, "Uncertain, read by Dr Lima"
    )
    report = pydicom.dcmread(BytesIO(encode_dataset(next(built))))
    said = texts(report)
    assert said["Reading by a reviewer"] == ["Uncertain, read by Dr Lima"]
    assert list(said).index("Reading by a reviewer") < list(said).index("Notice")
    assert report.SOPInstanceUID != made[0].SOPInstanceUID
    assert report.SeriesInstanceUID == made[0].SeriesInstanceUID
    assert "Reading by a reviewer" not in texts(made[0])


def test_answers_are_filed_with_their_source(made: list[Any]) -> None:
    for one in made:
        assert one.StudyInstanceUID == f"{ROOT}.1.2"
        assert (str(one.PatientName), one.PatientID, one.PatientBirthDate, one.PatientSex) == (
            NAME,
            "id-1",
            "19500102",
            "F",
        )
        assert (one.AccessionNumber, one.StudyDate) == ("A1", "20260102")
        assert one.SeriesInstanceUID != f"{ROOT}.1.2.3"
        assert "Research use only" in one.SeriesDescription
        assert all(is_uid(uid) for uid in (one.SOPInstanceUID, one.SeriesInstanceUID))
    assert len({one.SOPInstanceUID for one in made}) == 4
    assert len({one.SeriesInstanceUID for one in made}) == 2


def test_references_are_to_the_slices_that_vote(made: list[Any], judged: Concluded) -> None:
    (evidence,) = made[0].CurrentRequestedProcedureEvidenceSequence
    (listed,) = evidence.ReferencedSeriesSequence
    voting = {row.instance for row in judged.result.rows if row.probability is not None}
    assert {one.ReferencedSOPInstanceUID for one in listed.ReferencedSOPSequence} == voting
    assert listed.SeriesInstanceUID == f"{ROOT}.1.2.3"
    best = sorted(judged.result.rows, key=lambda row: -(row.probability or 0))[:3]
    sources = [one.SourceImageSequence[0].ReferencedSOPInstanceUID for one in made[1:]]
    assert set(sources) == {row.instance for row in best}


def test_uids_are_stable_and_follow_from_what_was_judged(made: list[Any], judged: Concluded, bundle: Bundle) -> None:
    again = build_answers(judged.files, judged.judged, judged.result, bundle, 3, read_pixels)
    assert [one.SOPInstanceUID for one in again] == [one.SOPInstanceUID for one in made]
    fewer = judged.judged[:-1]
    result = series.conclude(Classifier(bundle).manifest, fewer)
    other = list(build_answers(judged.files, fewer, result, bundle, 3, read_pixels))
    assert {one.SOPInstanceUID for one in other}.isdisjoint({one.SOPInstanceUID for one in made})
    assert other[0].SeriesInstanceUID == made[0].SeriesInstanceUID


def test_highdicom_parses_the_report(made: list[Any]) -> None:
    from highdicom.sr import ComprehensiveSR, MeasurementReport

    parsed = ComprehensiveSR.from_dataset(made[0])
    content = parsed.content
    assert isinstance(content, MeasurementReport)
    groups = content.get_image_measurement_groups()
    assert len(groups) == 4
    assert groups[0].tracking_identifier == "series"
    assert [len(group.get_measurements()) for group in groups] == [3, 2, 2, 2]
    assert [len(group.source_images) for group in groups] == [5, 1, 1, 1]
    assert all(len(group.get_qualitative_evaluations()) == 1 for group in groups)


@pytest.mark.skipif(not DCMTK, reason="dcmtk is not installed")
def test_dcmtk_dumps_without_a_warning(made: list[Any], tmp_path: Path) -> None:
    for number, one in enumerate(made):
        one.save_as(tmp_path / f"{number}.out")
        command = ["dsrdump", "+Pl"] if number == 0 else ["dcmdump"]
        done = subprocess.run([*command, tmp_path / f"{number}.out"], capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert done.stderr == ""
        assert "RESEARCH USE ONLY" in done.stdout or number > 0


def test_window_and_orientation_are_the_sources(made: list[Any], judged: Concluded, bundle: Bundle) -> None:
    """Pixel for pixel: where there is no evidence the capture is the source in its lung window, rows as they were."""
    by_instance = {one.attributes.instance: one for one in judged.judged}
    for one in made[1:]:
        instance = one.SourceImageSequence[0].ReferencedSOPInstanceUID
        source = slices.read(judged.files[instance]).pixels
        height, width = source.shape
        picture = one.pixel_array
        assert picture.shape[1:] == (width, 3)
        assert picture.shape[0] > height
        own = by_instance[instance].class_map
        assert own is not None
        grey = np.repeat(source[:, :, np.newaxis], 3, axis=2)
        blended = heatmap.blend_heat(grey, heatmap.heat_of_maps(own, None, bundle.manifest, None, grey.shape[:2]))
        assert np.array_equal(picture[:height], blended[:, :, ::-1])
        assert one.PatientOrientation == ["L", "P"]
        assert (one.BurnedInAnnotation, one.PhotometricInterpretation) == ("YES", "RGB")
        # The words below: something is written, and its first line is not grey.
        assert picture[height:].max() > 200


def test_no_evidence_leaves_the_slice_and_evidence_colours_its_place() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (90, 120), dtype=np.uint8)
    cold = np.full((3, 4), -2, np.float32)
    picture = draw_capture(pixels, heatmap.Heat(cold, ""), ["RESEARCH USE ONLY"])
    assert all(np.array_equal(picture[:90, :, channel], pixels) for channel in range(3))
    hot = cold.copy()
    hot[0, 3] = 9  # above on the right, in the picture and on the slice
    changed = np.any(draw_capture(pixels, heatmap.Heat(hot, ""), ["x"])[:90] != picture[:90], axis=2)
    assert changed[:15, 105:].mean() > 0.9
    assert not changed[45:, :].any()
    assert not changed[:, :60].any()


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        ((1, 0, 0, 0, 1, 0), ("L", "P")),
        ((-1, 0, 0, 0, -1, 0), ("R", "A")),
        ((1, 0, 0, 0, 0.94, -0.34), ("L", "PF")),
    ],
)
def test_patient_orientation(orientation: tuple[float, ...], expected: tuple[str, str]) -> None:
    assert _patient_orientation(orientation) == expected


def test_names_that_are_no_names_are_not_in_warnings(
    bundle: Bundle, make_ct: MakeCT, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "a.dcm").write_bytes(make_ct(3, PatientName="Nomedepaciente", PatientSex="X", StudyTime="99"))
    one = conclude(bundle, [tmp_path / "a.dcm"])
    report = next(build_answers(one.files, one.judged, one.result, bundle, 0, read_pixels))
    assert str(report.PatientName) == "Nomedepaciente"
    assert report.PatientSex == ""
    assert not [warning for warning in recwarn if "Nomede" in str(warning.message)]


def test_uids() -> None:
    one = derive_uid("a", "b")
    assert one == derive_uid("a", "b")
    assert len({one, derive_uid("a"), derive_uid("ab"), derive_uid("b", "a")}) == 4
    assert is_uid(one)
    assert one.startswith("2.25.")
    number = int(one[5:])
    assert number < 1 << 128
    assert number >> 76 & 0xF == 8  # version
    assert number >> 62 & 3 == 2  # variant
    for text in ("", "1", "1..2", "1.02", "1.2.x", "a^b", "1." + "2" * 63, "1.2\n", "1.٣"):
        assert not is_uid(text)


def with_lesions(judged: Concluded, bundle: Bundle, instances: int = 3) -> Concluded:
    """The series as a bundle with a lesion map judges it: opacities at the upper left of the first slices that vote."""
    frames, left = [], instances
    for one in judged.judged:
        if one.row.probability is None:
            frames.append(one)
            continue
        lesion_map = np.full((8, 8), -6, np.float32)
        if left:
            lesion_map[1:3, 2:4] = 6
            left -= 1
        row = msgspec.structs.replace(one.row, areas=LesionAreas(0.04 if lesion_map.max() > 0 else 0.0, 0.2))
        frames.append(replace(one, lesion_map=lesion_map, region=Box(0, 128, 0, 128), row=row))
    return Concluded(series.conclude(bundle.manifest, frames), frames, judged.files)


def test_report_states_the_share_of_the_lungs_with_its_unit(judged: Concluded, bundle: Bundle) -> None:
    one = with_lesions(judged, bundle)
    assert one.result.lesion_share == pytest.approx(3 * 0.04 / (5 * 0.2))
    report = next(build_answers(one.files, one.judged, one.result, bundle, 1, read_pixels))
    said = texts(pydicom.dcmread(BytesIO(encode_dataset(report))))
    name = "Opacities as a fraction of the lung area"
    assert [float(value) for value in said[name]] in ([12.0, 20.0], [12.0, 0.0])  # the series, then the captured slice
    units = {
        item.ConceptNameCodeSequence[0].CodeMeaning: item.MeasuredValueSequence[0]
        .MeasurementUnitsCodeSequence[0]
        .CodeValue
        for item in items(report)
        if "MeasuredValueSequence" in item
    }
    assert units[name] == "%"
    assert "about 12 % of the lungs" in said["Error of the fraction of the lung area"][0]


def items(dataset: Any) -> list[Any]:
    """Every content item of a report."""
    return [item for child in dataset.get("ContentSequence", []) for item in (child, *items(child))]


@pytest.fixture
def segmentation(judged: Concluded, bundle: Bundle) -> Any:
    one = with_lesions(judged, bundle)
    *_, last = build_answers(one.files, one.judged, one.result, bundle, 1, read_pixels)
    return pydicom.dcmread(BytesIO(encode_dataset(last)))


def test_segmentation_outlines_the_opacities_of_its_source(segmentation: Any, judged: Concluded) -> None:
    seg = segmentation
    assert (seg.SOPClassUID, seg.Modality, seg.SegmentationType) == ("1.2.840.10008.5.1.4.1.1.66.4", "SEG", "BINARY")
    assert (seg.Rows, seg.Columns, seg.NumberOfFrames) == (128, 128, 3)
    (reference,) = seg.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == f"{ROOT}.1.2.3"
    voting = [row.instance for row in judged.result.rows if row.probability is not None][:3]
    positions = []
    for frame, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        rows, columns = np.nonzero(frame)
        # Cells 1 and 2 of 8 down, 2 and 3 across, 16 px each; the border lies where the map crosses 0 between cells.
        assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (16, 48, 32, 64)
        assert set(np.unique(frame)) == {0, 1}
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        positions.append((source.ReferencedSOPInstanceUID, group.PlanePositionSequence[0].ImagePositionPatient[2]))
    assert sorted(positions) == sorted(
        (instance, pydicom.dcmread(judged.files[instance]).ImagePositionPatient[2]) for instance in voting
    )


def test_highdicom_reads_the_segmentation(segmentation: Any) -> None:
    from highdicom.seg import Segmentation

    seg = Segmentation.from_dataset(segmentation)
    assert list(seg.segment_numbers) == [1]
    assert seg.get_segment_description(1).segment_label == "Pulmonary opacities"
    volume = seg.get_volume()
    assert volume.spatial_shape == (3, 128, 128) and volume.spacing == pytest.approx((5, 1.5, 1.5))
    assert int(volume.array.sum()) == int(segmentation.pixel_array.sum())
    assert volume.array.mean() == pytest.approx(32 * 32 / 128**2, rel=0.1)  # corners are rounded


DCIODVFY = shutil.which("dciodvfy")


@pytest.mark.skipif(not DCIODVFY, reason="dicom3tools is not installed")
def test_dciodvfy_finds_no_error_in_the_segmentation(segmentation: Any, tmp_path: Path) -> None:
    segmentation.save_as(tmp_path / "seg.dcm")
    done = subprocess.run(["dciodvfy", tmp_path / "seg.dcm"], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


def test_no_segmentation_without_opacities_or_without_a_place(judged: Concluded, bundle: Bundle) -> None:
    """A series without lesions, and one whose slices do not state where they lie, are answered without one."""

    def kinds(one: Concluded, captures: int = 1) -> list[str]:
        return [
            made.Modality for made in build_answers(one.files, one.judged, one.result, bundle, captures, read_pixels)
        ]

    assert kinds(with_lesions(judged, bundle)) == ["SR", "OT", "SEG"]
    assert kinds(with_lesions(judged, bundle), captures=0) == ["SR"]
    assert kinds(with_lesions(judged, bundle, instances=0)) == ["SR", "OT"]
    one = with_lesions(judged, bundle)
    frames = [replace(f, attributes=msgspec.structs.replace(f.attributes, spacing=None)) for f in one.judged]
    assert kinds(Concluded(one.result, frames, one.files)) == ["SR", "OT"]


def test_segmentation_of_an_enhanced_object_names_its_frames(bundle: Bundle, make_ct: MakeCT, tmp_path: Path) -> None:
    grey = [make_slice(1, index, True, 128, 0, 8).image for index in range(2, 6)]
    path = tmp_path / "enhanced.dcm"
    path.write_bytes(enhanced(grey, make_ct))
    classifier = Classifier(bundle)
    judged = list(dicom_objects.judge_object(classifier, path, "x"))
    result = series.conclude(bundle.manifest, judged)
    one = with_lesions(Concluded(result, judged, {judged[0].attributes.instance: path}), bundle, instances=2)
    *_, last = build_answers(one.files, one.judged, one.result, bundle, 1, read_pixels)
    assert last.Modality == "SEG"
    sources = [
        group.DerivationImageSequence[0].SourceImageSequence[0] for group in last.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(source.ReferencedFrameNumber for source in sources) == [1, 2]
    assert {source.ReferencedSOPInstanceUID for source in sources} == {judged[0].attributes.instance}
