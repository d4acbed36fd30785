"""A worklist that is opened for reading: on a read-only disk, and without a trace on any other."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_ct import cli
from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.worklist.reader import WorklistReader
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import EdgeCTError

Judged = Callable[..., Judgement]
READING = (["list", "--json"], ["show", "1"], ["verify"], ["quarantine"])


@pytest.fixture
def folder(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> Path:
    """Two results; the second one is in the log only, as after a power failure."""
    worklist.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify"))
    with worklist._store.writing() as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
    worklist._store.release_free_pages()
    worklist.add(prepare_entry(judged(2), tiny_classifier.bundle, origin="classify"))
    copied = worklist.folder.parent / "copied"
    shutil.copytree(worklist.folder, copied, ignore=shutil.ignore_patterns("*-shm"))
    return copied


@pytest.fixture
def read_only(folder: Path) -> Iterator[Path]:
    """The folder on a disk that is mounted read-only."""
    options = (["--bind"], ["-o", "remount,bind,ro"])
    for option in options:
        mounted = subprocess.run(["mount", *option, folder, folder], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("no right to mount a folder read-only")
    yield folder
    subprocess.run(["umount", folder], check=True)


def run(folder: Path, words: list[str]) -> int:
    return cli.run(["worklist", *words, "--state", str(folder)])


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_read_only_disk_with_a_log(words: list[str], read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (read_only / "worklist.sqlite-wal").stat().st_size > 0
    assert run(read_only, words) == 0
    out = capsys.readouterr().out
    if words[0] == "list":
        assert len(out.splitlines()) == 2
    if words[0] == "verify":
        assert out.startswith("good: 2 results, 0 reviews, 2 entries")


def test_read_only_disk_without_a_log(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Worklist(folder):
        pass
    assert not (folder / "worklist.sqlite-wal").exists()
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a folder read-only")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder, folder], check=True)
        assert run(folder, ["verify"]) == 0
        assert run(folder, ["review", "1", "--reviewer", "Lima", "--agree"]) == 1
        assert "read-only" in capsys.readouterr().err.lower()
    finally:
        subprocess.run(["umount", folder], check=True)


def test_copy_of_the_log_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a read-only disk makes necessary, without such a disk."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(os, "access", lambda *_: False)
    connect = sqlite3.connect

    def refuse(path: str, **options: object) -> sqlite3.Connection:
        if str(folder) in str(path):
            raise sqlite3.OperationalError("unable to open database file")
        return connect(path, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", refuse)
    with WorklistReader.open(folder) as reader:
        assert [row.id for row in reader.rows(by="number")] == [1, 2]
        assert len(list(temporary.iterdir())) == 1
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_reading_changes_no_file(words: list[str], folder: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}

    before = contents()
    assert run(folder, words) == 0
    assert contents() == before


def test_nothing_is_written_through_a_reader(folder: Path) -> None:
    with WorklistReader.open(folder) as reader:
        with pytest.raises(EdgeCTError, match="opened for reading only"), reader._store.writing():
            pass
        with pytest.raises(EdgeCTError, match="read-only"), reader._store.reading() as connection:
            connection.execute("DELETE FROM results")


def test_a_folder_without_a_worklist_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError, match="no worklist in this folder"):
        WorklistReader.open(tmp_path)
    assert list(tmp_path.iterdir()) == []
