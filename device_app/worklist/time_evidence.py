"""How much time has passed, as far as the audit trail shows it: the clock alone cannot be trusted.

A computer without a battery for its clock starts in the past, and jumps to the present when it finds the time. So the
age of a result is not the difference of two dates. It is the sum of the gaps between the entries that follow it. A
gap that is negative or longer than `LONGEST_GAP` shows a clock that was wrong or a device that was off, and counts as
nothing. A step of the clock while the machine runs is recognised by the time since its start, and taken off the gap.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import msgspec

from .audit_trail import Appender

# Retention runs once a day and leaves an entry, so that a longer gap shows that the device was off or its clock wrong.
LONGEST_GAP = timedelta(days=8)
# How far the clock may be behind the latest entry: clocks are corrected by small steps all the time.
BEHIND = timedelta(minutes=5)
_ENTRY_EVERY = timedelta(hours=20)
_SMALLEST_STEP = 60
_TRUSTED = {"trusted": True}
_NOTE = "clock"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class ClockState(msgspec.Struct, frozen=True):
    """The clock, compared with the trail.

    Attributes:
        status: `good`; `behind` the latest entry; or so far `ahead` of it that nobody knows how much time has passed.
        now: What the clock shows.
        latest: Time of the latest entry; None for an empty trail.
    """

    status: Literal["good", "behind", "ahead"]
    now: datetime
    latest: datetime | None


@dataclass(frozen=True)
class Cutoff:
    """The newest entry that is older than some age.

    Attributes:
        seq: Its number.
        continuous: True if the trail shows all the time between it and now, so that times of day can be compared.
    """

    seq: int
    continuous: bool


def parse_time(text: str) -> datetime:
    """Return the time that `audit_trail.utc_now` wrote."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def compare_clock(connection: sqlite3.Connection, now: datetime) -> ClockState:
    """Compare the clock with the trail, from the last entry on in which somebody confirmed the clock."""
    query = (
        "SELECT max(time) FROM audit "
        "WHERE seq >= (SELECT coalesce(max(seq), 0) FROM audit WHERE action = 'clock' AND detail = ?)"
    )
    (text,) = connection.execute(query, (msgspec.json.encode(_TRUSTED).decode(),)).fetchone()
    latest = parse_time(text) if text else None
    if latest is None or -BEHIND <= now - latest <= LONGEST_GAP:
        return ClockState("good", now, latest)
    return ClockState("behind" if now < latest else "ahead", now, latest)


def note_time(connection: sqlite3.Connection, trail: Appender, text: str, trusted: bool) -> ClockState:
    """Compare the clock with the trail, and leave an entry from which time can be counted on.

    Args:
        connection: A connection, in a transaction.
        trail: Appends to the trail within that transaction.
        text: The current time, as `audit_trail.utc_now` writes it.
        trusted: Somebody confirms that the clock is right, and that the times of earlier entries are.
    """
    now = parse_time(text)
    state = compare_clock(connection, now)
    if trusted:
        trail.append("edge-ct", "clock", None, _TRUSTED, text)
        return ClockState("good", now, state.latest)
    if state.status == "ahead":
        trail.append("edge-ct", "clock", None, {"ahead_of": state.latest}, text)
    elif state.status == "good" and (state.latest is None or now - state.latest >= _ENTRY_EVERY):
        trail.append("edge-ct", "clock", None, {}, text)
    return state


def find_cutoff(connection: sqlite3.Connection, now: datetime, age: timedelta) -> Cutoff | None:
    """Return the newest entry since which more time than `age` has passed; None if the trail shows none.

    Args:
        connection: A connection to the worklist.
        now: The current time.
        age: The age.
    """
    passed, newer, step = timedelta(0), now, timedelta(0)
    confirmed: tuple[datetime, timedelta] | None = None
    continuous = True
    query = "SELECT seq, time, action, detail FROM audit ORDER BY seq DESC"
    for seq, text, action, detail in connection.execute(query):
        moment = parse_time(text)
        gap = newer - moment - step
        if confirmed:  # All dates before this entry were confirmed with the clock.
            passed = confirmed[1] + (confirmed[0] - moment)
        elif -BEHIND <= gap <= LONGEST_GAP:
            passed += max(gap, timedelta(0))
        else:
            continuous = False
        if passed > age:
            return Cutoff(seq, continuous)
        newer, step = moment, timedelta(0)
        if action == "clock":
            noted: dict[str, Any] = msgspec.json.decode(detail)
            confirmed = confirmed or ((moment, passed) if noted.get("trusted") else None)
            step = timedelta(seconds=noted.get("step", 0))
    return None


class _BootClock(msgspec.Struct, frozen=True):
    """The difference in seconds between the time of day and the time since the machine started, and which start."""

    boot: str
    offset: float


class StepWatch:
    """Recognises that the clock was set while the machine ran, also between two processes."""

    def __init__(self) -> None:
        self._known: _BootClock | None = None
        self._pending: _BootClock | None = None

    def step(self, connection: sqlite3.Connection) -> int | None:
        """Return by how many seconds the clock was set since any process last asked; None if it was not.

        Args:
            connection: A connection, in a transaction; call `confirm` once that is committed.
        """
        current = _boot_clock()
        self._pending = None
        if current is None or (self._known and _is_same(self._known, current)):
            return None
        row = connection.execute("SELECT value FROM notes WHERE name = ?", (_NOTE,)).fetchone()
        noted = msgspec.json.decode(row[0], type=_BootClock) if row else None
        if noted and _is_same(noted, current):
            self._pending = noted
            return None
        self._pending = current
        value = msgspec.json.encode(current).decode()
        connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (_NOTE, value))
        return round(current.offset - noted.offset) if noted and noted.boot == current.boot else None

    def confirm(self) -> None:
        """Remember what the last call of `step` found, now that it is on the disk."""
        self._known = self._pending or self._known


def _is_same(one: _BootClock, other: _BootClock) -> bool:
    return one.boot == other.boot and abs(one.offset - other.offset) < _SMALLEST_STEP


def _boot_clock() -> _BootClock | None:
    """Return the current clock; None on a system that does not tell when it was started."""
    try:
        boot = _BOOT.read_text(encoding="ascii").strip()
        return _BootClock(boot, time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
    except (OSError, AttributeError):
        return None
