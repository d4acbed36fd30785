"""Slice files on disk: what is no file, what cannot be opened, and which files of a folder are slices."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_ct import slices
from edge_ct.errors import InputRejected

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

        def refuse(self: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "read_bytes", refuse)
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
    assert slices.find(tmp_path) == sorted(tmp_path / name for name in wanted)


def test_find_in_a_hidden_folder_that_was_named_itself(tmp_path: Path) -> None:
    folder = tmp_path / ".cache"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"x")
    assert slices.find(folder) == [folder / "a.png"]


def test_find_recognises_dicom_files_named_by_their_uid(tmp_path: Path, write_ct: Callable[..., bytes]) -> None:
    """Archives name objects by SOP instance UID and give them no suffix: what follows its last dot is none."""
    path = tmp_path / "1.3.6.1.4.1.14519.5.2.1.6279.6001.1234"
    path.write_bytes(write_ct(np.zeros((32, 32), np.int16)))
    assert slices.find(tmp_path) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_find_passes_over_fifos_and_empty_files_without_suffix(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "EMPTY").touch()
    (tmp_path / "short").write_bytes(bytes(128) + b"DIC")
    assert slices.find(tmp_path) == []
