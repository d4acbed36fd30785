"""Writing files: whole or not at all, and never over something by accident."""

import errno
import os
from pathlib import Path

import pytest

from edge_ct.errors import EdgeCTError
from edge_ct.system.files import open_regular, refuse_existing, replace_atomically, write_bytes, write_text


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "kept.bin"
    path.write_bytes(b"old content")
    return path


def only_the_old(target: Path) -> None:
    assert target.read_bytes() == b"old content"
    assert list(target.parent.iterdir()) == [target]


def test_content_is_written_and_nothing_else_left(target: Path) -> None:
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_text_is_utf_8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Größe\nä\r\n")
    assert (tmp_path / "a.txt").read_bytes() == b"Gr\xc3\xb6\xc3\x9fe\n\xc3\xa4\r\n"


def test_folders_are_made(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "c.bin", b"x")
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"x"


def test_old_content_stays_until_the_new_is_complete(target: Path) -> None:
    with replace_atomically(target) as temporary:
        temporary.write_bytes(b"half")
        assert temporary.parent == target.parent
        assert target.read_bytes() == b"old content"
    assert target.read_bytes() == b"half"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), EdgeCTError("mine"), SystemExit(3)])
def test_error_inside_leaves_the_old_content_and_passes_through(target: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, replace_atomically(target) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert caught.value is error
    only_the_old(target)


def test_error_before_anything_is_written(target: Path) -> None:
    with pytest.raises(ValueError, match="early"), replace_atomically(target):
        raise ValueError("early")
    only_the_old(target)


def test_nothing_written_is_an_error_and_keeps_the_old(target: Path) -> None:
    with pytest.raises(EdgeCTError), replace_atomically(target):
        pass
    only_the_old(target)


@pytest.mark.parametrize("where", ["write", "sync", "rename"])
def test_full_disk_keeps_the_old_content(target: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def full(*arguments: object) -> None:
        if where == "write":
            Path(str(arguments[0])).touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(
        *{"write": (Path, "write_bytes"), "sync": (os, "fsync"), "rename": (Path, "replace")}[where], full
    )
    with pytest.raises(EdgeCTError, match="cannot be written: No space left on device") as caught:
        write_bytes(target, b"new")
    assert str(target) in str(caught.value)
    assert caught.value.exit_code == 1
    monkeypatch.undo()
    only_the_old(target)


def test_content_reaches_the_disk_before_the_name(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("sync"), sync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, other: (order.append("rename"), rename(self, other))[1])
    write_bytes(target, b"new")
    assert order == ["sync", "rename"]


def test_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(EdgeCTError, match="cannot be written"):
        write_bytes(tmp_path / "folder", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_file_in_the_place_of_a_folder(target: Path) -> None:
    with pytest.raises(EdgeCTError, match="cannot be written"):
        write_bytes(target / "below.bin", b"x")
    only_the_old(target)


@pytest.mark.parametrize("length", [245, 300])
def test_name_that_is_too_long(tmp_path: Path, length: int) -> None:
    """A name of 245 bytes is a good one; only the temporary name would not fit."""
    path = tmp_path / ("n" * length)
    if length < 256:
        write_bytes(path, b"x")
        assert path.read_bytes() == b"x"
    else:
        with pytest.raises(EdgeCTError, match="cannot be written"):
            write_bytes(path, b"x")
    assert len(list(tmp_path.iterdir())) == (length < 256)


def test_two_files_of_one_name_in_two_folders_at_once(tmp_path: Path) -> None:
    with replace_atomically(tmp_path / "a" / "x") as first, replace_atomically(tmp_path / "b" / "x") as second:
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert ((tmp_path / "a" / "x").read_bytes(), (tmp_path / "b" / "x").read_bytes()) == (b"1", b"2")


def test_existing_file_is_refused_without_force(target: Path) -> None:
    with pytest.raises(EdgeCTError, match=r"kept\.bin: already exists; choose another name, or overwrite"):
        refuse_existing(target, force=False)
    refuse_existing(target, force=True)


def test_what_does_not_exist_and_an_empty_folder_are_free(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "none", force=False)
    refuse_existing(tmp_path, force=False)


def test_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    with pytest.raises(EdgeCTError, match="already exists"):
        refuse_existing(tmp_path, force=False)


def test_path_that_cannot_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError):
        refuse_existing(tmp_path / ("n" * 300), force=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device", "folder"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        pipe = path if kind == "pipe" else tmp_path / "pipe"
        os.mkfifo(pipe)
        if pipe != path:
            path.symlink_to(pipe)
    with pytest.raises(OSError, match=r"not a file|Is a directory"):
        open_regular(path)
