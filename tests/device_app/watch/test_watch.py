"""The hot folder: complete files alone, once, across restarts; nothing in it is touched; it may come and go."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from edge_ct import cli
from edge_ct.classifier import Classifier
from edge_ct.device_app.judging.judge import InProcess
from edge_ct.device_app.watch.hot_folder import Watch, file_fingerprint
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import StorageFull
from edge_ct.phantom import make_slice


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hot(tmp_path: Path) -> Path:
    folder = tmp_path / "hot"
    folder.mkdir()
    return folder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def new_watch(
    hot: Path, worklist: Worklist, tiny_classifier: Classifier, clock: Clock, said: list[str]
) -> Callable[[], Watch]:
    return lambda: Watch(hot, worklist, InProcess(tiny_classifier), 3.0, said.append, clock)


def put(folder: Path, number: int, name: str | None = None) -> Path:
    path = folder / (name or f"{number}.png")
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(make_slice(number, 3, True, 64).image).save(path, "PNG")
    return path


def scan(watch: Watch, clock: Clock, seconds: float = 3.0) -> list[str]:
    clock.now += seconds
    return [Path(added.row.source).name for added in watch.scan()]


def test_file_is_judged_when_it_has_been_still(hot: Path, new_watch: Callable[[], Watch], clock: Clock) -> None:
    watch = new_watch()
    put(hot, 1)
    assert scan(watch, clock) == []  # seen for the first time
    assert scan(watch, clock, 2.9) == []
    assert watch.waiting == 1
    assert scan(watch, clock, 0.1) == ["1.png"]
    assert scan(watch, clock) == []
    assert watch.waiting == 0


def test_growing_file_is_waited_for(
    hot: Path, new_watch: Callable[[], Watch], clock: Clock, worklist: Worklist
) -> None:
    whole = put(hot.parent, 1, "whole.png").read_bytes()
    watch, path = new_watch(), hot / "copy.png"
    for share in range(1, 5):
        path.write_bytes(whole[: len(whole) * share // 5])
        assert scan(watch, clock, 2.0) == []
    # The copy stalls: what is there cannot be read, and it may go on.
    assert scan(watch, clock, 4.0) == []
    path.write_bytes(whole)
    assert scan(watch, clock) == []
    assert scan(watch, clock) == ["copy.png"]
    (row,) = worklist.rows()
    assert row.decision != "rejected"


def test_file_that_stays_unreadable_becomes_a_rejected_row(
    hot: Path, new_watch: Callable[[], Watch], clock: Clock, worklist: Worklist
) -> None:
    (hot / "cut.png").write_bytes(put(hot.parent, 1, "whole.png").read_bytes()[:-9])
    (hot / "empty.png").touch()
    (hot / "notes.txt").write_text("not a slice's name")
    put(hot, 2, ".hidden.png")
    watch = new_watch()
    assert scan(watch, clock) == []
    assert scan(watch, clock, 14.0) == []
    assert scan(watch, clock, 1.0) == ["cut.png", "empty.png"]
    assert {row.decision for row in worklist.rows()} == {"rejected"}
    assert scan(watch, clock, 100.0) == []


def test_restart_remembers(hot: Path, new_watch: Callable[[], Watch], clock: Clock, worklist: Worklist) -> None:
    first = new_watch()
    put(hot, 1)
    scan(first, clock)
    assert scan(first, clock) == ["1.png"]
    put(hot, 2, "deep/er/2.png")
    later = new_watch()
    assert scan(later, clock) == []
    assert later.waiting == 1
    assert scan(later, clock) == ["2.png"]
    assert len(worklist.rows()) == 2
    assert worklist.check().entries == 2  # the first was not even judged again


def test_changed_file_is_judged_again(hot: Path, new_watch: Callable[[], Watch], clock: Clock) -> None:
    watch = new_watch()
    path = put(hot, 1)
    scan(watch, clock)
    assert scan(watch, clock) == ["1.png"]
    put(hot, 2, "1.png")
    os.utime(path, ns=(1, 1))
    assert scan(watch, clock) == []
    assert scan(watch, clock) == ["1.png"]


def test_stick_that_is_pulled_out_and_put_back(
    hot: Path, new_watch: Callable[[], Watch], clock: Clock, said: list[str], worklist: Worklist
) -> None:
    watch = new_watch()
    put(hot, 1)
    scan(watch, clock)
    assert scan(watch, clock) == ["1.png"]
    put(hot, 2)
    scan(watch, clock)
    away = hot.with_name("away")
    hot.rename(away)
    for _ in range(3):
        assert scan(watch, clock) == []
    assert said == [f"{hot}: no such folder; waiting for it"]
    shutil.copytree(away, hot)  # copy2 keeps the times, as a stick does
    assert scan(watch, clock) == []
    assert scan(watch, clock) == ["2.png"]
    assert said[1:] == [f"{hot}: the folder is back"]
    assert len(worklist.rows()) == 2
    # Unmounted, and the mount point stays, empty.
    shutil.rmtree(hot)
    hot.mkdir()
    assert scan(watch, clock) == []
    assert watch.waiting == 0


def test_file_that_goes_while_it_is_judged_is_no_row(
    hot: Path, new_watch: Callable[[], Watch], clock: Clock, worklist: Worklist, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, path = new_watch(), put(hot, 1)
    scan(watch, clock)
    real = Classifier.judge

    def pulled(self: Classifier, source: object, name: str | None = None) -> object:
        path.unlink()
        return real(self, source, name)  # type: ignore[arg-type]

    monkeypatch.setattr(Classifier, "judge", pulled)
    assert scan(watch, clock) == []
    assert worklist.rows() == []


def test_nothing_in_the_folder_is_touched(hot: Path, new_watch: Callable[[], Watch], clock: Clock) -> None:
    for number in range(3):
        put(hot, number, f"{number}/slice.png")

    def state() -> list[tuple[str, int, int, bytes]]:
        files = sorted(path for path in hot.rglob("*") if path.is_file())
        return [(str(p), p.stat().st_mtime_ns, p.stat().st_mode, p.read_bytes()) for p in files]

    before = state()
    watch = new_watch()
    scan(watch, clock)
    assert len(scan(watch, clock)) == 3
    assert state() == before


def test_full_disk_stops_nothing_and_loses_nothing(
    hot: Path, tmp_path: Path, tiny_classifier: Classifier, clock: Clock
) -> None:
    put(hot, 1)
    said: list[str] = []
    stop = threading.Event()
    with Worklist(tmp_path / "small", min_free=1 << 60) as worklist:
        watch = Watch(hot, worklist, InProcess(tiny_classifier), 3.0, said.append, clock)
        scan(watch, clock)
        clock.now += 3

        def wait(seconds: float) -> bool:
            assert seconds == 30  # not every two seconds the same line
            worklist._store.min_free = 0
            stop.set()
            return True

        stop.wait = wait  # type: ignore[method-assign,assignment]
        assert list(watch.run(stop, 2.0)) == []
        assert "nothing more is stored" in said[0]
        assert scan(watch, clock) == ["1.png"]
        worklist._store.min_free = 1 << 60
        put(hot, 2)
        stop = threading.Event()
        scan(watch, clock)
        clock.now += 3
        with pytest.raises(StorageFull):
            list(watch.run(stop, 0.01, once=True))


def test_old_results_are_deleted_once_a_day(
    hot: Path, new_watch: Callable[[], Watch], clock: Clock, worklist: Worklist, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    prune = worklist.prune
    monkeypatch.setattr(worklist, "prune", lambda days, unreviewed: (asked.append(days), prune(days))[1])
    stop, turns = threading.Event(), iter(range(5))

    def wait(seconds: float) -> bool:
        clock.now += 40_000
        if next(turns) == 4:
            stop.set()
        return False

    stop.wait = wait  # type: ignore[method-assign,assignment]
    assert list(new_watch().run(stop, keep_days=90)) == []
    assert asked == [90, 90]  # at 0 and 120,000 of 160,000 seconds


def test_command_once(hot: Path, tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        put(hot, number)
    state = str(tmp_path / "state")
    quick = ["--model", str(tiny_bundle), "--state", state, "--settle", "0.05", "--interval", "0.05", "--once"]
    assert cli.run(["watch", str(hot), *quick, "--json"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(row["id"], Path(row["source"]).name, row["origin"]) for row in rows] == [
        (number + 1, f"{number}.png", "watch") for number in range(3)
    ]
    put(hot, 3)
    assert cli.run(["watch", str(hot), *quick]) == 0
    out, err = capfd.readouterr()
    title, line = out.splitlines()
    assert title.split() == ["id", "decision", "P(COVID-19)", "slice"]
    number, decision, *_ = line.split()
    assert number == "4"
    counts = ", ".join(f"{int(name == decision)} {name}" for name in ("positive", "negative", "refer", "rejected"))
    assert err.splitlines()[-1] == f"{hot}: 1 result stored: {counts}. Research use only."


@pytest.fixture
def running(hot: Path, tiny_bundle: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "edge_ct", "watch", str(hot), "--model", str(tiny_bundle), "--json"]
    process = subprocess.Popen(
        [*command, "--state", str(tmp_path / "state"), "--settle", "0.05", "--interval", "0.05"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_command_until_it_is_told_to_stop(
    running: subprocess.Popen[str], hot: Path, signum: signal.Signals, code: int
) -> None:
    put(hot.parent, 1, "whole.png").rename(hot / "1.png")
    assert running.stdout is not None
    assert json.loads(running.stdout.readline())["id"] == 1
    running.send_signal(signum)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (code, "")
    first, *rest = err.splitlines()
    assert first == f"watching {hot}; links in it are not followed"
    assert rest[0].startswith(f"{hot}: 1 result stored: ")
    assert rest[1:] in ([], ["edge-ct: interrupted"])


def test_fingerprint_changes_with_each_of_its_parts() -> None:
    base = ("a.png", 10, 5)
    others = [("b.png", 10, 5), ("a.png", 11, 5), ("a.png", 10, 6), (os.fsdecode(b"\xff"), 1, 1)]
    assert len({file_fingerprint(*own) for own in [base, *others]}) == 5
    assert file_fingerprint(*base) == file_fingerprint(*base)
