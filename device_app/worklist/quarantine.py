"""Files over which worker processes have ended, kept with the worklist: they are not tried again after a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from edge_ct.errors import EdgeCTError

from .database import Store

# Kept for this many seconds after the last end; a file that was quarantined stays until it is released.
_FORGET_SECONDS = 90 * 86400.0

_COLUMNS = "sha256, size, source, ends, reason, first, last"


class QuarantinedFile(msgspec.Struct, frozen=True):
    """A file over which workers have ended.

    Attributes:
        sha256: SHA-256 of the content.
        size: Size in bytes.
        source: The name under which the file came last.
        ends: Number of workers that have ended over it.
        reason: Why the last one ended.
        first: Time of the first end, in seconds since 1970.
        last: Time of the last end, in seconds since 1970.
        quarantined: True if it is not tried again.
    """

    sha256: str
    size: int
    source: str
    ends: int
    reason: str
    first: float
    last: float
    quarantined: bool


class Quarantine:
    """The files of one worklist over which workers have ended; see `judging.incidents.Incidents`."""

    def __init__(self, store: Store, max_ends: int, clock: Callable[[], float] = time.time) -> None:
        """Open the table, which a worklist of an older version that is opened for reading does not have.

        Args:
            store: The worklist's file.
            max_ends: Number of ends after which a file is not tried again.
            clock: Returns seconds since 1970.
        """
        self._store, self._max_ends, self._clock = store, max_ends, clock
        with store.reading() as connection:
            query = "SELECT 1 FROM sqlite_master WHERE name = 'quarantine'"
            self._exists = connection.execute(query).fetchone() is not None

    def quarantined(self, size: int, digest: Callable[[], str]) -> str | None:
        """Return why a file of this size and SHA-256 is not judged any more; None if it may be judged."""
        query = "SELECT sha256, reason FROM quarantine WHERE size = ? AND ends >= ?"
        with self._store.reading() as connection:
            rows = connection.execute(query, (size, self._max_ends)).fetchall()
        reasons = dict(rows)
        reason = reasons.get(digest()) if reasons else None
        return None if reason is None else f"quarantined: {reason}"

    def record(self, digest: str, size: int, name: str, reason: str) -> int:
        """Remember that a worker ended over a file. Returns how many have ended over it so far."""
        now = self._clock()
        with self._store.writing() as connection:
            connection.execute(
                "DELETE FROM quarantine WHERE ends < ? AND last < ?", (self._max_ends, now - _FORGET_SECONDS)
            )
            connection.execute(
                f"INSERT INTO quarantine ({_COLUMNS}) VALUES (?, ?, ?, 1, ?, ?, ?) ON CONFLICT (sha256) DO UPDATE SET "
                "source = excluded.source, ends = ends + 1, reason = excluded.reason, last = excluded.last",
                (digest, size, name, reason, now, now),
            )
            (ends,) = connection.execute("SELECT ends FROM quarantine WHERE sha256 = ?", (digest,)).fetchone()
        return int(ends)

    def files(self) -> list[QuarantinedFile]:
        """Return all files over which a worker has ended, in the order of their first end."""
        if not self._exists:
            return []
        with self._store.reading() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM quarantine ORDER BY first, sha256").fetchall()
        files: list[Any] = [(*row, row[3] >= self._max_ends) for row in rows]
        return [QuarantinedFile(*file) for file in files]

    def release(self, digest: str) -> QuarantinedFile:
        """Forget a file, so that it is tried again. digest: its SHA-256, or the beginning of it.

        Raises:
            EdgeCTError: No file, or more than one, has this SHA-256.
        """
        matches = [file for file in self.files() if digest and file.sha256.startswith(digest.lower())]
        if len(matches) != 1:
            raise EdgeCTError(f"{len(matches)} quarantined files have a SHA-256 that begins with {digest!r}; name one")
        with self._store.writing() as connection:
            connection.execute("DELETE FROM quarantine WHERE sha256 = ?", (matches[0].sha256,))
        return matches[0]
