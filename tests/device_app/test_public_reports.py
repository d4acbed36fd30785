"""Inputs that fell short in public bug reports of other programs, each with what is right for it here."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ct import slices
from edge_ct.classifier import Classifier
from edge_ct.dataset import load
from edge_ct.device_app.judging.judge import SliceJudgement, judge_paths
from edge_ct.device_app.web.folders import Folders
from edge_ct.errors import InputRejected
from edge_ct.imaging.slice_files import list_slices
from edge_ct.phantom import make_slice

from .. import hostile

pydicom = pytest.importorskip("pydicom")


def png(number: int, covid: bool = True) -> bytes:
    return cv2.imencode(".png", make_slice(number, 3, covid, 128).image)[1].tobytes()


def ct(number: int, **more: object) -> bytes:
    return hostile.saved(hostile.ct(make_slice(number, 3, True, 128).image, **more))


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def judged(classifier: Classifier, *names: Path) -> list[SliceJudgement]:
    return list(judge_paths(classifier, map(str, names)))


def reasons(rows: list[SliceJudgement]) -> list[str | None]:
    return [row.result.reason if row.result.decision == "rejected" else None for row in rows]


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize(("width", "height"), [(160, 128), (128, 160), (12_000, 12_000)])
def test_frame_of_another_size_than_its_object(
    tiny_classifier: Classifier, tmp_path: Path, frames: int, width: int, height: int
) -> None:
    """Each frame is refused by its coded size before it is decoded; 12,000 px would take 144 MB."""
    from pydicom.encaps import encapsulate

    if width > 1000:
        stream, syntax = hostile.j2k(width), hostile.J2K_LOSSLESS
    else:
        import jpeg_ls

        stream = bytes(jpeg_ls.encode_array(np.full((height, width), 700, np.uint16)))
        syntax = "1.2.840.10008.1.2.4.80"
    dataset = hostile.ct(make_slice(1, 3, True, 128).image, NumberOfFrames=frames)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream] * frames)
    dataset["PixelData"].is_undefined_length = True
    rows = judged(tiny_classifier, write(tmp_path / "a.dcm", hostile.saved(dataset)))
    said = f"compressed frame of {width} x {height} px in an object of 128 x 128 px"
    assert reasons(rows) == [said] * frames
    assert not any(row.readable for row in rows)


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".Trash-1000", ".git", ".thumbnails"])
def test_hidden_folder_is_no_class(tmp_path: Path, name: str) -> None:
    for number, folder in enumerate(("COVID", "COVID", "non-COVID", name)):
        write(tmp_path / folder / f"{number}.png", png(number))
    dataset = load(tmp_path)
    assert (len(dataset), sorted(set(dataset.labels))) == (3, [0, 1])


def test_linked_folders_are_followed(tiny_classifier: Classifier, tmp_path: Path) -> None:
    for number, name in enumerate(("COVID", "non-COVID")):
        write(tmp_path / "data" / name / "x.png", png(number))
        write(tmp_path / "store" / name / "y.png", png(2 + number))
        (tmp_path / "data" / name / "patient-2").symlink_to(tmp_path / "store" / name)
    assert len(load(tmp_path / "data")) == 4
    assert reasons(judged(tiny_classifier, tmp_path / "data")) == [None] * 4


def test_any_suffix_or_none(tiny_classifier: Classifier, tmp_path: Path) -> None:
    """3 of 3 in `only`, 5 of 5 in `mixed` and 3 of 3 in `jfif`, and names of other programs."""
    jpeg = cv2.imencode(".jpg", make_slice(1, 3, True, 128).image)[1].tobytes()
    for name in ("PAT.CT.THORAX.0001.IMA", "PAT.CT.THORAX.0002.IMA", "PAT.CT.THORAX.0003.IMA"):
        write(tmp_path / "only" / name, ct(1))
    for name in ("0.dcm", "1.IMA", "2.img", "3.dicom", "4.dic"):
        write(tmp_path / "mixed" / name, ct(2))
    for name in ("0.jpg", "1.jfif", "2.jpe"):
        write(tmp_path / "jfif" / name, jpeg)
    for name, content in (("1.2.840.113619.2", ct(3)), ("i0000.CTDC", ct(4)), ("slice.png.download", png(5))):
        write(tmp_path / "more" / name, content)
    for folder, count in (("only", 3), ("mixed", 5), ("jfif", 3), ("more", 3)):
        assert reasons(judged(tiny_classifier, tmp_path / folder)) == [None] * count, folder


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder; test_slice_files refuses them by hand")
def test_unreadable_folder_is_a_row(tiny_classifier: Classifier, tmp_path: Path) -> None:
    write(tmp_path / "open" / "a.png", png(1))
    write(tmp_path / "locked" / "b.png", png(2)).parent.chmod(0)
    try:
        rows = judged(tiny_classifier, tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o755)
    assert reasons(rows) == ["cannot be read: Permission denied", None]


def test_files_without_suffix_are_counted_on_the_page(tmp_path: Path) -> None:
    """`cd 3 files`: what the count says is what is judged."""
    for number in range(3):
        write(tmp_path / "cd" / f"IM{number:06}", ct(number))
    write(tmp_path / "cd" / "AUTORUN.INF", b"[autorun]")
    folders = Folders([tmp_path])
    (root,) = folders.roots()
    (cd,) = folders.subfolders(root.token) or []
    assert (cd.name, cd.slices) == ("cd", 3)
    assert len(list_slices(tmp_path / "cd").paths) == 3


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    from pydicom.fileset import FileSet

    files = FileSet()
    for number in range(3):
        dataset = hostile.ct(make_slice(number, 3, True, 128).image, SOPInstanceUID=f"1.2.3.{number}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.StudyDate = dataset.StudyTime = dataset.StudyID = dataset.AccessionNumber = dataset.PatientName = ""
        dataset.StudyID, dataset.StudyDate, dataset.StudyTime, dataset.SeriesNumber = "1", "20200101", "120000", 1
        dataset.InstanceNumber = number + 1
        files.add(dataset)
    files.write(tmp_path / "disc")
    files._stage["t"].cleanup()  # its temporary folder, which pydicom leaves to the garbage collector
    return tmp_path / "disc"


def lower(disc: Path) -> None:
    for path in sorted(disc.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.lower()))


def lower_but_dicomdir(disc: Path) -> None:
    lower(disc)
    (disc / "dicomdir").rename(disc / "DICOMDIR")


def suffix(disc: Path) -> None:
    for path in [path for path in disc.rglob("*") if path.is_file() and path.name != "DICOMDIR"]:
        path.rename(path.with_name(f"{path.name}.dcm"))


def renamed(disc: Path) -> None:
    (disc / "DICOMDIR").rename(disc / "index")


@pytest.mark.parametrize("change", [lambda disc: None, lower, lower_but_dicomdir, suffix, renamed])
def test_disc_however_it_was_copied(tiny_classifier: Classifier, disc: Path, change: Callable[[Path], None]) -> None:
    """Three slices by its directory, which is known by name or content, and by its folder."""
    change(disc)
    (directory,) = (path for path in disc.iterdir() if path.is_file())
    assert reasons(judged(tiny_classifier, disc)) == [None] * 3
    assert reasons(judged(tiny_classifier, directory)) == [None] * 3


def test_disc_that_lacks_a_file(tiny_classifier: Classifier, disc: Path) -> None:
    list_slices(disc).paths[1].unlink()
    assert reasons(judged(tiny_classifier, disc / "DICOMDIR")) == [None, "no such file", None]
    shutil.rmtree(next(path for path in disc.iterdir() if path.is_dir()))
    assert reasons(judged(tiny_classifier, disc / "DICOMDIR")) == ["no such file"] * 3


@pytest.mark.parametrize("value", [4095, 0, 3000])
def test_padding_changes_no_answer(tiny_classifier: Classifier, tmp_path: Path, value: int) -> None:
    """Outside a circle the scanner stores its padding value; six of six slices are judged as with air there."""
    y, x = np.mgrid[:128, :128] - 63.5
    outside = x**2 + y**2 > 64**2
    answers = []
    for name, filling in (("padded", value), ("air", 50)):
        for number in range(6):
            dataset = hostile.ct(make_slice(number, 3, number < 3, 128).image, PixelPaddingValue=value)
            stored = np.frombuffer(dataset.PixelData, "<u2").reshape(128, 128).copy()
            stored[stored == value] += 1
            stored[outside] = filling
            dataset.PixelData = stored.tobytes()
            write(tmp_path / name / f"{number}.dcm", hostile.saved(dataset))
        rows = judged(tiny_classifier, tmp_path / name)
        answers.append([(row.result.decision, row.result.probability) for row in rows])
    assert answers[0] == answers[1]
    assert all(probability is not None for _, probability in answers[0])


def test_half_a_picture_with_an_end_is_damaged_for_every_command(tiny_classifier: Classifier, tmp_path: Path) -> None:
    whole = cv2.imencode(".jpg", make_slice(1, 3, True, 256).image)[1].tobytes()
    half = write(tmp_path / "COVID" / "half.jpg", whole[: len(whole) // 2] + b"\xff\xd9")
    lost = write(tmp_path / "non-COVID" / "lost.jpg", whole[:4000] + bytes(300) + whole[4300:])
    said = "damaged JPEG: a part of its pixels is lost; copy or export it again"
    assert reasons(judged(tiny_classifier, half, lost)) == [said] * 2
    for path in (half, lost):
        with pytest.raises(InputRejected, match=said):
            slices.read(path)
