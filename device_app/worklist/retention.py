"""Retention: results are deleted when they are older than so many days, and only when that is certain."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.reporting.counts import count_of

from .audit_trail import Appender, runs_of
from .time_evidence import ClockState, Cutoff, find_cutoff

if TYPE_CHECKING:
    from .worklist import Worklist

MAX_KEEP_DAYS = 36_500
_PRUNED_AT_ONCE = 200
_DAY = 86400.0
_RETRY = 600.0


class Pruned(msgspec.Struct, frozen=True):
    """What retention did.

    Attributes:
        deleted: Number of results that were deleted.
        unreviewed: Number of results that are old enough, but are kept because nobody has reviewed them.
        uncertain: Number of results whose date is old enough, but since which the trail has not seen that time pass.
        clock: The clock; nothing is deleted unless it is good.
    """

    deleted: int
    unreviewed: int
    uncertain: int
    clock: ClockState

    def refusal(self) -> str | None:
        """Return why nothing was deleted; None if the clock can be right."""
        state = self.clock
        if state.status == "good" or state.latest is None:
            return None
        shows = f"nothing was deleted: the clock shows {state.now:%Y-%m-%d %H:%M} UTC"
        latest = f"the worklist's latest entry is of {state.latest:%Y-%m-%d %H:%M}"
        if state.status == "behind":
            return f"{shows}, but {latest}; set the clock"
        return f"{shows}, and {latest}; nobody knows whether that time has passed, so it is counted from now on"

    def remarks(self) -> list[str]:
        """Return what was not deleted, and why."""
        remarks = []
        if self.unreviewed:
            remarks.append(
                f"{count_of(self.unreviewed, 'old result')} kept because nobody has reviewed them; "
                "--delete-unreviewed deletes them as well"
            )
        if self.uncertain:
            remarks.append(
                f"{count_of(self.uncertain, 'result')} with an older date kept: the clock was wrong or the device off, "
                "and less time may have passed; if all dates are right, use edge-ct worklist prune --trust-clock"
            )
        return remarks


def plan_retention(
    connection: sqlite3.Connection, now: datetime, keep: timedelta, unreviewed: bool
) -> RetentionPlan | None:
    """Return what can be deleted; None if nothing is old enough.

    Args:
        connection: A connection to the worklist.
        now: The current time, by a clock that can be right.
        keep: Results are deleted when they are older than this.
        unreviewed: Delete results that nobody has reviewed as well.
    """
    cutoff = find_cutoff(connection, now, keep)
    if cutoff is None:
        return None
    query = "SELECT coalesce(max(subject), 0) FROM audit WHERE action = 'add' AND seq <= ?"
    (last,) = connection.execute(query, (cutoff.seq,)).fetchone()
    return RetentionPlan(int(last), cutoff, (now - keep), unreviewed)


class RetentionPlan(msgspec.Struct, frozen=True):
    """What retention deletes.

    Attributes:
        last: The last result that is old enough.
        cutoff: The last entry of the trail that is.
        before: The time of day before which results and finished queue items are too old.
        unreviewed: True if results are deleted that nobody has reviewed.
    """

    last: int
    cutoff: Cutoff
    before: datetime
    unreviewed: bool

    @property
    def _old(self) -> str:
        return "id <= ?" if self.unreviewed else "id <= ? AND state = 'reviewed'"

    def delete_some(self, connection: sqlite3.Connection, trail: Appender, time: str) -> int:
        """Delete some of the results, and return their number; a long transaction would block others."""
        query = f"SELECT id FROM results WHERE {self._old} ORDER BY id LIMIT ?"
        numbers = [int(row[0]) for row in connection.execute(query, (self.last, _PRUNED_AT_ONCE)).fetchall()]
        for condition in ("pictures WHERE result", "results WHERE id", "reviews WHERE result"):
            connection.executemany(f"DELETE FROM {condition} = ?", [(number,) for number in numbers])
        if numbers:
            before = self.before.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            trail.append("prune", "prune", None, {"before": before, "results": runs_of(numbers)}, time)
        if self.cutoff.continuous:
            connection.execute("DELETE FROM queue WHERE finished < ?", (self.before.timestamp(),))
        return len(numbers)

    def is_complete(self, deleted: int) -> bool:
        """Return whether a call of `delete_some` that deleted so many results was the last one."""
        return deleted < _PRUNED_AT_ONCE


def count_kept(connection: sqlite3.Connection, last: int, before: datetime) -> tuple[int, int]:
    """Return the numbers of results that are kept although they are old enough, or look so.

    Args:
        connection: A connection to the worklist.
        last: The last result that is old enough.
        before: The time of day before which results look old.
    """
    text = before.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    (unreviewed,) = connection.execute("SELECT count(*) FROM results WHERE id <= ?", (last,)).fetchone()
    query = "SELECT count(*) FROM results WHERE id > ? AND time < ?"
    (uncertain,) = connection.execute(query, (last, text)).fetchone()
    return int(unreviewed), int(uncertain)


class DailyRetention:
    """Retention within a service: once a day, and soon again after the clock was found to be wrong."""

    def __init__(
        self,
        worklist: Worklist,
        keep_days: int | None,
        unreviewed: bool,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin.

        Args:
            worklist: The worklist.
            keep_days: Results older than this number of days are deleted; None deletes nothing.
            unreviewed: Delete results that nobody has reviewed as well.
            say: Takes messages for the log.
            clock: Returns the time in seconds; it must not be the clock that may be wrong.
        """
        self.last: Pruned | None = None
        self._worklist, self._keep_days, self._unreviewed = worklist, keep_days, unreviewed
        self._say, self._clock = say, clock
        self._due = -_DAY
        self._said: list[str] = []

    def run_if_due(self) -> None:
        """Delete what is too old, if the last time was a day ago; an error is said, and tried again later."""
        now = self._clock()
        if self._keep_days is None or now < self._due:
            return
        self._due = now + _RETRY
        try:
            self.last = self._worklist.prune(self._keep_days, unreviewed=self._unreviewed)
        except EdgeCTError as error:
            self._say(f"retention: {error}")
            return
        if self.last.clock.status == "good":
            self._due = now + _DAY
        refusal = self.last.refusal()
        messages = [refusal] if refusal else self.last.remarks()
        # While the clock stays wrong, the same is not said every ten minutes.
        topics = [self.last.clock.status, *self.last.remarks()]
        if topics != self._said:
            for message in messages:
                self._say(f"retention: {message}")
        self._said = topics
