"""Slice files on disk: what is no file, what cannot be opened, and which files of a folder are slices."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_ct import slices
from edge_ct.errors import InputRejected
from edge_ct.imaging import slice_files
from edge_ct.imaging.slice_files import is_dicom, is_dicomdir, list_slices

Encode = Callable[..., bytes]


def test_directory_missing_file_and_dangling_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for path, message in (
        (tmp_path, "not a file"),
        (tmp_path / "none.png", "no such file"),
        (tmp_path / "link.png", "no such file"),
        (tmp_path / "loop.png", "loop.png: "),
        (tmp_path / ("n" * 300 + ".png"), "cannot be read"),
        ("nul\0byte.png", "no such file|cannot be read"),
    ):
        with pytest.raises(InputRejected, match=message):
            slices.read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    caught: list[Exception] = []

    def read() -> None:
        try:
            slices.read(path)
        except Exception as error:
            caught.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(5)
    if reader.is_alive():
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    assert [type(error) for error in caught] == [InputRejected]


def test_unreadable_file_is_refused(
    tmp_path: Path, encode: Encode, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(encode(grey, "PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(path: Path) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(slices, "open_regular", refuse)
    with pytest.raises(InputRejected, match="cannot be read: Permission denied"):
        slices.read(path)


def test_find_lists_slices_by_suffix_in_order_and_leaves_hidden_ones_out(
    tmp_path: Path, write_ct: Callable[..., bytes]
) -> None:
    dicom = write_ct(np.zeros((32, 32), np.int16))
    wanted = ["B.PNG", "a.png", "deep/er/c.JpEg", "deep/d.tif", "e.TIFF", "f.dcm", "g.jpg", "IM0001", "deep/IM0002"]
    others = [".hidden.png", ".hidden/x.png", "deep/.git/y.png", "notes.txt", "README", "h.png.bak", "slices.csv"]
    for name in wanted + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dicom if path.name.startswith("IM") else b"whatever")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / ".keep").touch()
    assert list_slices(tmp_path).paths == sorted(tmp_path / name for name in wanted)


def test_find_in_a_hidden_folder_that_was_named_itself(tmp_path: Path) -> None:
    folder = tmp_path / ".cache"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"x")
    assert list_slices(folder).paths == [folder / "a.png"]


def test_find_recognises_dicom_files_named_by_their_uid(tmp_path: Path, write_ct: Callable[..., bytes]) -> None:
    """Archives name objects by SOP instance UID and give them no suffix: what follows its last dot is none."""
    path = tmp_path / "1.3.6.1.4.1.14519.5.2.1.6279.6001.1234"
    path.write_bytes(write_ct(np.zeros((32, 32), np.int16)))
    assert list_slices(tmp_path).paths == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_find_passes_over_fifos_and_empty_files_without_suffix(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "EMPTY").touch()
    (tmp_path / "short").write_bytes(bytes(128) + b"DIC")
    assert list_slices(tmp_path).paths == []


def contents(grey: np.ndarray, encode: Callable[..., bytes], write_ct: Callable[..., bytes]) -> dict[str, bytes]:
    dicom = write_ct(np.zeros((32, 32), np.int16))
    kinds = {"x.jfif": "JPEG", "x.jpe": "JPEG", "picture": "PNG", "x.img": "TIFF"}
    return {"PAT.CT.0001.IMA": dicom, "IM1": dicom, "x.dic": dicom} | {
        name: encode(grey, kind) for name, kind in kinds.items()
    }


def test_a_slice_is_known_by_its_first_bytes_whatever_its_suffix(
    tmp_path: Path, grey: np.ndarray, encode: Callable[..., bytes], write_ct: Callable[..., bytes]
) -> None:
    files = contents(grey, encode, write_ct)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    listing = list_slices(tmp_path)
    assert [path.name for path in listing.paths] == sorted(files)
    assert listing.summary() is None
    assert all(slices.read(path).pixels.shape for path in listing.paths)


def test_what_is_left_out_is_counted_and_named(tmp_path: Path, grey: np.ndarray, encode: Callable[..., bytes]) -> None:
    (tmp_path / "a.png").write_bytes(encode(grey, "PNG"))
    for name, content in (("notes.txt", b"x"), ("list.csv", b"y"), (".hidden.png", b"z")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "scan.bmp").write_bytes(encode(grey, "BMP"))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    listing = list_slices(tmp_path)
    assert [path.name for path in listing.paths] == ["a.png"]
    assert listing.summary() == (
        f"left out of {tmp_path}: files that are not slices: 2 (list.csv, notes.txt); "
        "hidden files or folders: 1 (.hidden.png); broken links: 1 (gone); "
        "BMP files, which are not read (save them as PNG): 1 (scan.bmp)"
    )
    assert listing.unreadable == ()


@pytest.mark.parametrize(
    ("kind", "name"), [("BMP", "BMP"), ("GIF", "GIF"), ("WEBP", "WebP"), ("JPEG2000", "JPEG 2000")]
)
def test_formats_that_are_not_read_are_refused_by_name(
    grey: np.ndarray, encode: Callable[..., bytes], kind: str, name: str
) -> None:
    with pytest.raises(InputRejected, match=f"x: a {name} file, which is not read; save it as PNG"):
        slices.decode(encode(grey, kind), "x")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\0\0\0\x1cftypavif", "an AVIF file, which is not read; save it as PNG"),
        (b"\0\0\0\x18ftypheic", "a HEIC file, which is not read; save it as PNG"),
        (b"II+\0", "a BigTIFF file, which is not read; save it as PNG"),
        (b"P5 4 4 255\n", "a PGM file, which is not read; save it as PNG"),
        (b"PK\x03\x04", "a ZIP file, which is not read; unpack it"),
        (b"\x1f\x8b", "a gzip file, which is not read; unpack it"),
        (b"NRRD0004\n", "an NRRD file, which is not read; export its slices as DICOM, or as PNG in a lung window"),
        (bytes(344) + b"n+1\0", "a NIfTI file, which is not read; export its slices as DICOM, or as PNG in a lung"),
    ],
)
def test_other_files_are_told_what_to_do_with(head: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match=f"^x: {reason}"):
        slices.decode(head + bytes(300), "x")
    (tmp_path / "brought").write_bytes(head + bytes(300))
    assert reason.split()[1] in str(list_slices(tmp_path).summary())
    assert "files that are not slices" not in str(list_slices(tmp_path).summary())


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_bytes(b"x")
    (tmp_path / "data" / "a" / "2.png").write_bytes(b"x")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "3.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data")
    listing = list_slices(tmp_path / "data")
    assert {str(path.relative_to(tmp_path / "data")) for path in listing.paths} == {
        "3.png",
        "a/2.png",
        "linked/1.png",
    }
    assert "links to a folder that was listed already: 1 (a/loop)" in str(listing.summary())
    inside = list_slices(tmp_path / "data", follow_links=False)
    assert [path.name for path in inside.paths] == ["2.png"]
    assert "links: 3 (" in str(inside.summary())


@pytest.mark.skipif(sys.platform != "linux", reason="the longest path is that of Linux")
def test_folders_nested_deeper_than_calls_of_python_are_listed(tmp_path: Path) -> None:
    """Up to the length that the system allows for a path; what lies below that is named, and everything else listed."""
    (tmp_path / "last.png").touch()
    bottom = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(2500):
            os.mkdir("d", dir_fd=bottom)
            below = os.open("d", os.O_RDONLY, dir_fd=bottom)
            os.close(bottom)
            bottom = below
        listing = list_slices(tmp_path)
    finally:
        os.close(bottom)
        # Python's own functions would not get to the bottom.
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)
    assert listing.paths == [tmp_path / "last.png"]
    assert [entry.reason for entry in listing.unreadable] == ["cannot be read: File name too long"]


def test_folders_and_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.png").write_bytes(b"x")
    (tmp_path / "IM0002").write_bytes(bytes(200))
    scandir, open_file = os.scandir, slice_files.open_regular

    def refuse_folder(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    def refuse_file(path: Path) -> object:
        if path.name == "IM0002":
            raise OSError(5, "Input/output error", str(path))
        return open_file(path)

    monkeypatch.setattr(os, "scandir", refuse_folder)
    monkeypatch.setattr(slice_files, "open_regular", refuse_file)
    listing = list_slices(tmp_path)
    assert [path.name for path in listing.paths] == ["a.png"]
    assert {entry.path.name: entry.reason for entry in listing.unreadable} == {
        "locked": "cannot be read: Permission denied",
        "IM0002": "cannot be read: Input/output error",
    }


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir", "DicomDir.dcm", "DICOMDIR;1"])
def test_the_directory_of_a_disc_is_no_slice(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    (tmp_path / "by-class").write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10")
    assert list_slices(tmp_path).paths == []
    assert {entry.kind for entry in list_slices(tmp_path).left_out} == {"directory of a disc"}
    assert is_dicomdir(tmp_path / name)
    assert is_dicomdir(tmp_path / "by-class")


@pytest.mark.parametrize(
    "head",
    [b"", b"\x08\0", b"\x08\0" * 300, b"\x02\0\x01\0text" * 9, bytes(600), b"\x08\0\x05\0CS\x0a\0"],
)
def test_other_files_are_not_taken_for_dicom_without_a_preamble(head: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(head)
    assert not is_dicom(head)
    assert list_slices(tmp_path).paths == []


def test_dicom_without_a_preamble_is_known_by_its_first_elements(
    tmp_path: Path, write_ct: Callable[..., bytes], grey: np.ndarray
) -> None:
    whole = write_ct(grey.astype(np.uint16) * 4)
    (tmp_path / "IM0001").write_bytes(whole[132:])
    assert list_slices(tmp_path).paths == [tmp_path / "IM0001"]
    assert np.array_equal(slices.read(tmp_path / "IM0001").pixels, slices.decode(whole, "whole").pixels)
