"""What the kernel reports of a watched folder, and that watching costs nothing where nothing happens."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from edge_ct import cli
from edge_ct.device_app.judging.judge import InProcess
from edge_ct.device_app.watch import hot_folder
from edge_ct.device_app.watch.folder_events import FolderEvents
from edge_ct.device_app.watch.hot_folder import Watch
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.imaging import slice_files
from edge_ct.phantom import make_slice

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is a feature of Linux")
LONG = bool(os.environ.get("EDGE_CT_LONG_TESTS"))


@pytest.fixture
def hot(tmp_path: Path) -> Path:
    folder = tmp_path / "hot"
    (folder / "deep" / "er").mkdir(parents=True)
    return folder


@pytest.fixture
def events() -> Iterator[FolderEvents]:
    made = FolderEvents()
    yield made
    made.close()


def put(path: Path, number: int = 1) -> Path:
    Image.fromarray(make_slice(number, 3, True, 64).image).save(path, "PNG")
    return path


def quick(bundle: Path, folder: Path) -> list[str]:
    """Options of a command that does not wait."""
    return ["--model", str(bundle), "--state", str(folder / "state"), "--settle", "0.05", "--interval", "0.05"]


def happened(events: FolderEvents, seconds: float = 0.2) -> bool:
    return events.wait(seconds, threading.Event())


def test_what_happens_below_the_folder_is_reported(hot: Path, events: FolderEvents) -> None:
    assert events.watch(hot)
    assert not happened(events)
    path = hot / "deep" / "er" / "a.bin"
    for change in (
        lambda: path.write_bytes(b"x"),
        lambda: path.write_bytes(b"y"),
        lambda: path.chmod(0o600),
        lambda: path.rename(hot / "b.bin"),
        lambda: (hot / "b.bin").unlink(),
        lambda: (hot / "new").mkdir(),
    ):
        change()
        assert happened(events, 5)
        assert not happened(events)
    (hot / "new" / "c.bin").write_bytes(b"x")
    assert not happened(events)  # until the new folder is watched, too, before it is listed
    assert events.watch(hot)
    (hot / "new" / "d.bin").write_bytes(b"x")
    assert happened(events, 5)
    hot.rename(hot.with_name("away"))
    assert happened(events, 5)
    assert not events.watch(hot)


def test_links_are_not_followed(hot: Path, events: FolderEvents, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (hot / "link").symlink_to(tmp_path / "outside")
    events.watch(hot)
    (tmp_path / "outside" / "x.bin").write_bytes(b"x")
    assert not happened(events)


def test_a_mounted_file_system_is_reported(hot: Path, events: FolderEvents) -> None:
    assert events.watch(hot)
    if subprocess.run(["mount", "-t", "tmpfs", "none", hot / "deep"], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    try:
        assert happened(events, 5)
    finally:
        subprocess.run(["umount", hot / "deep"], check=True)


def test_a_wait_ends_when_it_is_told_to(events: FolderEvents) -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    begun = time.monotonic()
    assert not events.wait(60, stop)
    assert time.monotonic() - begun < 5


def test_a_file_that_arrives_is_judged_at_once_and_not_after_the_slow_poll(
    hot: Path, worklist: Worklist, tiny_classifier, events: FolderEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_folder, "_SLOW_INTERVAL", 600.0)
    put(hot / "1.png")
    stop = threading.Event()
    watch = Watch(hot, worklist, InProcess(tiny_classifier), 0.05, events=events)
    rows = watch.run(stop, 0.05)
    assert Path(next(rows).row.source).name == "1.png"
    for number, name in enumerate(("2.png", "deep/er/3.png"), 2):
        threading.Timer(0.5, lambda name=name, number=number: put(hot / name, number)).start()
        begun = time.monotonic()
        assert Path(next(rows).row.source).name == Path(name).name
        assert time.monotonic() - begun < 20
    stop.set()
    assert list(rows) == []


def test_a_quiet_folder_is_not_listed_again(
    hot: Path, worklist: Worklist, tiny_classifier, events: FolderEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings = []
    real = slice_files.list_slices
    monkeypatch.setattr(hot_folder, "list_slices", lambda *a, **k: listings.append(1) or real(*a, **k))
    put(hot / "1.png")
    stop = threading.Event()
    threading.Timer(3, stop.set).start()
    watch = Watch(hot, worklist, InProcess(tiny_classifier), 0.05, events=events)
    assert len(list(watch.run(stop, 0.01))) == 1
    assert len(listings) < 20


def test_many_known_files_cost_nothing(tiny_bundle: Path, hot: Path, tmp_path: Path) -> None:
    """50,000 of them in the long tests."""
    count = 50_000 if LONG else 5_000
    whole = put(hot / "0.png").read_bytes()
    state = tmp_path / "state"
    options = quick(tiny_bundle, tmp_path)
    assert cli.run(["watch", str(hot), "--once", *options]) == 0
    connection = sqlite3.connect(state / "worklist.sqlite", isolation_level=None)
    connection.execute("BEGIN")
    for number in range(1, count):
        path = hot / f"{number}.png"
        path.write_bytes(whole)
        status = path.stat()
        mark = hot_folder.file_fingerprint(str(path), status.st_size, status.st_mtime_ns)
        connection.execute("INSERT INTO seen VALUES (?, 1)", (mark,))
    connection.execute("COMMIT")
    connection.close()
    process = subprocess.Popen([sys.executable, "-m", "edge_ct", "watch", str(hot), *options], stderr=subprocess.PIPE)
    try:
        time.sleep(10 if not LONG else 60)
        before = _processor_seconds(process.pid)
        time.sleep(5)
        assert _processor_seconds(process.pid) - before < 0.25
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.communicate()


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_once_with_a_folder_that_does_not_exist_is_an_error(
    kind: str, tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "none"
    if kind == "empty":
        folder.mkdir()
    options = ["--model", str(tiny_bundle), "--state", str(tmp_path / "state"), "--once", "--interval", "0.05"]
    assert cli.run(["watch", str(folder), *options]) == (3 if kind == "missing" else 0)
    assert ("no such folder" in capfd.readouterr().err) == (kind == "missing")


def test_what_cannot_be_read_is_named_once_and_exit_code_3(
    hot: Path, tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read every folder, so the system's refusal is made up."""
    put(hot / "good.png")
    real = os.scandir

    def refused(path: str | Path | int) -> object:
        if not isinstance(path, int) and Path(path).name == "deep":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(slice_files.os, "scandir", refused)
    (hot / "cut.png").write_bytes((hot / "good.png").read_bytes()[:200])
    (hot / "link.png").symlink_to(hot / "good.png")
    options = quick(tiny_bundle, tmp_path)
    for _ in range(2):
        assert cli.run(["watch", str(hot), "--once", *options]) == 3
        shown = capfd.readouterr()
        assert f"watching {hot}; links in it are not followed" in shown.err
        (line,) = [line for line in shown.err.splitlines() if "could not be read" in line]
        assert str(hot / "deep") in line
    assert "(link.png)" in shown.err


def test_a_row_gives_its_reason(
    hot: Path, tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (hot / "cut.png").write_bytes(put(tmp_path / "whole.png").read_bytes()[:200])
    options = quick(tiny_bundle, tmp_path)
    assert cli.run(["watch", str(hot), "--once", *options]) == 3
    (line,) = [line for line in capfd.readouterr().out.splitlines() if "cut.png" in line]
    assert "truncated" in line or "damaged" in line
    # What is logged later, by whoever uses the process next, does not go to a descriptor that was closed.
    assert logging.getLogger("edge_ct.judging").handlers == []


def test_sigterm_ends_it_within_five_seconds_also_over_a_slice_that_takes_longer(
    hot: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import sys, time\nfrom edge_ct.device_app.judging import judge\n"
        "judge._judge_source = lambda classifier, source: time.sleep(60) or iter(())\n"
        "from edge_ct import cli\ncli.main(sys.argv[1:])\n"
    )
    for number in range(5):
        put(hot / f"{number}.png", number)
    options = quick(tiny_bundle, tmp_path)
    command = [sys.executable, str(slow), "watch", str(hot), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(5)
    assert process.poll() is None
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert (process.returncode, time.monotonic() - begun < 5) == (0, True)
