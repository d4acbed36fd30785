"""The series that are being received, and when each of them is due.

A series is due when nothing of it is being judged, and it is complete (the sender states the number of its instances)
or has been quiet for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..judging.series import JudgedFrame
from ..worklist.records import Entry
from .receive.spool import Arrival


@dataclass
class OpenSeries:
    """A series that is being received.

    Attributes:
        topic: Key of the series, see `Spool.topic_of`.
        last: Time of the last arrival, by `time.monotonic`.
        arrivals: Its objects by SOP instance UID.
        judged: Its judged frames.
        entries: Rows that are not in the worklist yet.
        pending: Number of objects that have not been judged yet.
        concluding: True while its result is being made.
    """

    topic: str
    last: float
    arrivals: dict[str, Arrival] = field(default_factory=dict)
    judged: list[JudgedFrame] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    pending: int = 0
    concluding: bool = False

    @property
    def uid(self) -> str:
        """The series instance UID, for the log."""
        return self.topic.split(" ")[0]

    def is_due(self, now: float, quiet: float) -> bool:
        """Return whether the result can be made: every object is judged, and the series is complete or quiet."""
        if self.pending or self.concluding or not self.arrivals:
            return False
        expected = max((arrival.expected or 0) for arrival in self.arrivals.values())
        return (0 < expected <= len(self.arrivals)) or now - self.last >= quiet


@dataclass(frozen=True)
class DueSeries:
    """A series whose result can be made, as it was when it became due: objects may arrive while the result is made.

    Attributes:
        series: The series, which stays open until `SeriesClock.conclude`.
        arrivals: The objects that the result rests on.
        judged: Their judged frames.
        entries: Those of their rows that are not in the worklist yet.
    """

    series: OpenSeries
    arrivals: tuple[Arrival, ...]
    judged: tuple[JudgedFrame, ...]
    entries: tuple[Entry, ...]


class SeriesClock:
    """All open series. Every method may be called from any thread."""

    def __init__(self, quiet: float, stored: Callable[[str], list[Arrival]]) -> None:
        """Begin without an open series.

        Args:
            quiet: Seconds without a new object after which a series is due.
            stored: Returns all objects of a series that the spool has stored.
        """
        self._quiet, self._stored = quiet, stored
        self._open: dict[str, OpenSeries] = {}
        self._changed = threading.Condition()
        self._stopping = False

    def add(self, topic: str, arrival: Arrival | None = None) -> tuple[OpenSeries, list[Arrival]]:
        """Add an object to its series.

        A series that is not open may have been concluded before: it opens again with all of its objects.

        Args:
            topic: Key of the series.
            arrival: The new object; None opens the series with what the spool has stored.

        Returns:
            The series, and those of its objects that must be judged.
        """
        with self._changed:
            series = self._open.get(topic)
            arrivals = [arrival] if arrival else []
            if series is None:
                series = self._open[topic] = OpenSeries(topic, time.monotonic())
                arrivals = self._stored(topic)
            added = {new.instance: new for new in arrivals if new.instance not in series.arrivals}
            series.arrivals.update(added)
            series.pending += len(added)
            series.last = time.monotonic()
            return series, list(added.values())

    def add_judged(
        self, series: OpenSeries, judged: Sequence[JudgedFrame], entries: Sequence[Entry], batch: int
    ) -> list[Entry]:
        """Record the judged frames of one object; return rows to store now: none, or at least `batch`."""
        with self._changed:
            series.judged.extend(judged)
            series.entries.extend(entries)
            if len(series.entries) < batch:
                return []
            ready, series.entries = series.entries, []
            return ready

    def keep_rows(self, series: OpenSeries, entries: Sequence[Entry]) -> None:
        """Give back rows that could not be stored."""
        with self._changed:
            series.entries[:0] = entries

    def finish_object(self, series: OpenSeries) -> None:
        """Record that one object of a series has been judged."""
        with self._changed:
            series.pending -= 1
            if not series.pending:
                self._changed.notify_all()

    def wait_for_due(self) -> list[DueSeries] | None:
        """Wait for a short time; return the series that are due and reserve them, or None after `stop`."""
        with self._changed:
            now = time.monotonic()
            due = [series for series in self._open.values() if series.is_due(now, self._quiet)]
            for series in due:
                series.concluding = True
            if not due:
                if self._stopping:
                    return None
                self._changed.wait(min(0.5, self._quiet))
            return [
                DueSeries(series, tuple(series.arrivals.values()), tuple(series.judged), tuple(series.entries))
                for series in due
            ]

    def postpone(self, series: OpenSeries) -> None:
        """Give a series back whose result could not be stored: it is due again when it has been quiet once more."""
        with self._changed:
            series.concluding, series.last = False, time.monotonic() + self._quiet

    def conclude(self, due: DueSeries) -> None:
        """Close a series whose result was made; it stays open, with their rows, if objects have arrived since."""
        series, stored = due.series, {id(entry) for entry in due.entries}
        with self._changed:
            series.concluding = False
            series.entries = [entry for entry in series.entries if id(entry) not in stored]
            if len(series.arrivals) == len(due.arrivals) and not series.pending:
                del self._open[series.topic]
            self._changed.notify_all()

    def open_topics(self) -> list[str]:
        """Return the keys of the open series."""
        with self._changed:
            return list(self._open)

    def stop(self) -> None:
        """End the waiting for series that are not due yet."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
