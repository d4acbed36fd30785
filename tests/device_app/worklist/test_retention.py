"""Retention deletes what is old for certain: a wrong clock, in either direction, deletes nothing."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest

from edge_ct import cli
from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.maintenance.health import KnownMoment, clock_status
from edge_ct.device_app.worklist import time_evidence
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.retention import DailyRetention, Pruned
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import EdgeCTError

DAY = timedelta(days=1)


class Device:
    """A worklist whose clock can be set."""

    def __init__(self, folder: Path, judged: Callable[..., Judgement], classifier: Classifier) -> None:
        self.now = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)
        self.worklist = Worklist(
            folder, clock=lambda: self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
        self._numbers, self._judged, self._bundle = itertools.count(), judged, classifier.bundle

    def judge(self, reviewed: bool = True) -> int:
        """Store a result."""
        entry = prepare_entry(self._judged(next(self._numbers)), self._bundle, origin="watch")
        number = self.worklist.add(entry).row.id
        if reviewed:
            self.worklist.review(number, "Lima", "agree")
        return number

    def pass_days(self, days: int, keep_days: int = 90) -> list[Pruned]:
        """Let days pass, with the retention of a service on each."""
        pruned = []
        for _ in range(days):
            self.now += DAY
            pruned.append(self.worklist.prune(keep_days))
        return pruned

    @property
    def left(self) -> list[int]:
        return [row.id for row in self.worklist.rows(by="number")]


@pytest.fixture
def device(tmp_path: Path, judged: Callable[..., Judgement], tiny_classifier: Classifier) -> Iterator[Device]:
    made = Device(tmp_path / "state", judged, tiny_classifier)
    yield made
    made.worklist.close()


def test_wrong_clock_that_is_set_right(device: Device) -> None:
    """The case `wrong_clock`: judged in 1970, as a computer without a battery starts, and pruned in 2026."""
    right = device.now
    device.now = datetime(1970, 1, 1, 0, 1, tzinfo=timezone.utc)
    for _ in range(3):
        device.judge()
    device.now = right
    pruned = device.worklist.prune(90)
    assert (pruned.deleted, pruned.uncertain, pruned.clock.status) == (0, 3, "ahead")
    assert "nothing was deleted: the clock shows 2026-11-27 12:00 UTC" in str(pruned.refusal())
    device.judge()
    assert {one.deleted for one in device.pass_days(90)} == {0}
    assert [one.deleted for one in device.pass_days(2)] == [4, 0]  # 90 days that were seen to pass
    assert device.worklist.verify().problem is None


@pytest.mark.parametrize("back", [timedelta(minutes=6), 30 * DAY, 20_000 * DAY])
def test_clock_behind_the_trail(device: Device, back: timedelta) -> None:
    device.judge()
    device.pass_days(88)
    device.now -= back
    assert device.judge() == 2  # judged by the wrong clock
    pruned = device.worklist.prune(90)
    assert (pruned.deleted, pruned.clock.status) == (0, "behind")
    assert "set the clock" in str(pruned.refusal())
    device.now += back
    assert [one.deleted for one in device.pass_days(1)] == [0]
    assert device.left == [1, 2]


def test_small_corrections_of_the_clock_are_no_matter(device: Device) -> None:
    device.judge()
    device.pass_days(50)
    device.now -= timedelta(minutes=4)
    assert device.worklist.prune(90).refusal() is None
    assert [one.deleted for one in device.pass_days(41)][-1] == 1


def test_clock_that_jumps_ahead(device: Device) -> None:
    """Nothing tells a clock that is wrong from a device that was off: time is counted from there on."""
    device.judge()
    device.now += 9 * DAY
    first, second = device.worklist.prune(1), device.worklist.prune(1)
    assert (first.deleted, first.clock.status) == (0, "ahead")
    assert (second.deleted, second.clock.status, second.uncertain) == (0, "good", 1)
    assert [one.deleted for one in device.pass_days(2, keep_days=1)] == [0, 1]


def test_a_week_without_the_device_counts(device: Device) -> None:
    device.judge()
    device.now += 7 * DAY
    assert device.worklist.prune(6).deleted == 1


def test_clock_of_the_far_future_stops_nothing_for_ever(device: Device) -> None:
    right = device.now
    device.judge()
    device.now = right + 20_000 * DAY
    device.judge()
    device.now = right + DAY
    device.judge()
    assert device.worklist.prune(90).clock.status == "behind"
    assert device.worklist.prune(90, trust_clock=True).deleted == 0
    assert {one.clock.status for one in device.pass_days(89)} == {"good"}
    assert device.left == [1, 2, 3]
    assert device.pass_days(1)[0].deleted == 1  # the first, by its date, which was confirmed
    assert device.pass_days(1)[0].deleted == 2


def test_clock_at_the_end_of_the_calendar(device: Device) -> None:
    """Dates after the year 9999 cannot be computed, and nothing needs them."""
    right = device.now
    device.judge()
    device.now = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    device.judge()
    for _ in range(2):
        assert device.worklist.prune(90).deleted == 0
    moments = [KnownMoment(device.now, "the last result")]
    assert clock_status(device.now, moments) == "good"
    device.now = right
    assert device.worklist.prune(90).clock.status == "behind"
    assert clock_status(device.now, moments) == "failure"
    assert device.left == [1, 2]


def test_clock_that_somebody_confirms(device: Device) -> None:
    device.judge()
    device.now += 100 * DAY
    device.judge()
    assert device.worklist.prune(90).deleted == 0
    assert device.worklist.prune(90, trust_clock=True).deleted == 1
    assert device.left == [2]


def test_what_nobody_reviewed_is_kept(device: Device) -> None:
    device.judge(reviewed=False)
    device.judge()
    pruned = device.pass_days(91)[-1]
    assert (pruned.deleted, pruned.unreviewed, device.left) == (1, 1, [1])
    assert "1 old result kept because nobody has reviewed them" in pruned.remarks()[0]
    assert device.worklist.prune(90, unreviewed=True).deleted == 1
    assert device.worklist.verify().problem is None


@pytest.mark.parametrize("days", [0, -1, 40_000, 10**20])
def test_days_that_make_no_sense(device: Device, days: int) -> None:
    with pytest.raises(EdgeCTError, match="at least one day"):
        device.worklist.prune(days)


def test_retention_leaves_an_entry_a_day_and_no_more(device: Device) -> None:
    device.judge()
    for _ in range(100):
        device.now += timedelta(hours=1)
        device.worklist.prune(90)
    actions = [entry["action"] for entry in device.worklist.trail()]
    assert actions == ["add", "review", *["clock"] * 5]


def test_finished_queue_items_are_kept_while_times_are_uncertain(device: Device) -> None:
    queue = device.worklist.queue("out")
    queue.put("a", None, now=0)
    queue.finish([queue.claim(now=0)[0].id], now=1)
    device.judge()
    device.now += 20 * DAY
    device.pass_days(60, keep_days=30)
    assert queue.items() == []
    queue.put("b", None, now=0)
    queue.finish([queue.claim(now=0)[0].id], now=1)
    device.now += 20 * DAY
    device.pass_days(20, keep_days=30)
    assert len(queue.items()) == 1


class Boot:
    """The clock of a machine that runs: what time.time and its time since the start show."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset, self.boot = 1e9, "a"
        monkeypatch.setattr(time_evidence, "_boot_clock", lambda: time_evidence._BootClock(self.boot, self.offset))


def test_step_of_a_running_clock_is_recognised(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set by six days within one start of the machine: too little to be refused, and no six days for all that."""
    boot = Boot(monkeypatch)
    device.judge()
    device.now += 6 * DAY + timedelta(minutes=1)
    boot.offset += 6 * 86400
    pruned = device.worklist.prune(5)
    assert (pruned.deleted, pruned.uncertain) == (0, 1)
    step = next(entry for entry in device.worklist.trail() if "step" in str(entry["detail"]))
    assert (step["action"], msgspec.json.decode(str(step["detail"]))) == ("clock", {"step": 6 * 86400})
    assert [one.deleted for one in device.pass_days(5, keep_days=5)] == [0, 0, 0, 0, 1]


def test_step_between_two_processes_is_noted_once(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    boot = Boot(monkeypatch)
    device.judge(reviewed=False)
    boot.offset += 3600
    with Worklist(device.worklist.folder) as other:
        other.note("other", "start", {})
        device.judge(reviewed=False)
        other.note("other", "stop", {})
        assert [entry["action"] for entry in other.trail()] == ["add", "clock", "start", "add", "stop"]
    boot.boot, boot.offset = "b", 5.0  # another start of the machine tells nothing
    device.judge(reviewed=False)
    boot.offset += 59
    device.judge(reviewed=False)
    assert [entry["action"] for entry in device.worklist.trail(limit=2)] == ["add", "add"]


def test_step_that_was_rolled_back_is_noted_by_the_next_transaction(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = Boot(monkeypatch)
    device.judge(reviewed=False)
    boot.offset += 3600
    with pytest.raises(EdgeCTError, match="no result 77"):
        device.worklist.review(77, "Lima", "agree")
    device.judge(reviewed=False)
    assert [entry["action"] for entry in device.worklist.trail()] == ["add", "clock", "add"]


def test_real_clock_of_this_machine_makes_no_steps(tmp_path: Path) -> None:
    with Worklist(tmp_path) as worklist:
        for number in range(3):
            worklist.note("test", str(number), {})
        assert len(worklist.trail()) == 3


def test_service_tries_again_soon_after_a_refusal_and_says_it_once(device: Device) -> None:
    said: list[str] = []
    seconds = [0.0]
    device.judge()
    retention = DailyRetention(device.worklist, 90, False, said.append, lambda: seconds[0])
    device.now -= 30 * DAY
    for minute in range(60):
        seconds[0] = 60.0 * minute
        retention.run_if_due()
    assert [line.split(":")[:2] for line in said] == [["retention", " nothing was deleted"]]
    assert retention.last is not None
    assert retention.last.clock.status == "behind"
    device.now += 30 * DAY
    seconds[0] += 601
    retention.run_if_due()
    assert retention.last.refusal() is None
    assert len(said) == 1


def test_service_outlives_a_worklist_that_is_locked(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(device.worklist._store, "_busy_seconds", 0.1)
    connection = sqlite3.connect(device.worklist.folder / "worklist.sqlite", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    DailyRetention(device.worklist, 90, False, said.append).run_if_due()
    connection.close()
    assert "locked" in said[0]


def test_command_line(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> int:
        return cli.run(["worklist", "prune", "--state", str(device.worklist.folder), "--keep-days", "1", *words])

    device.now = datetime.now(timezone.utc) + 30 * DAY
    device.judge()
    device.judge(reviewed=False)
    assert run() == 1
    assert "set the clock; if the clock is right, confirm that with --trust-clock" in capsys.readouterr().err
    assert run("--trust-clock") == 0
    assert "0 results deleted" in capsys.readouterr().out
    assert device.left == [1, 2]
