"""Bringing the worklist of an earlier version up to this one.

Earlier versions kept no digests of pictures, maps and files seen, and did not bind entries to the device key. The entry
`upgrade` says from where the trail is bound, what the file looked like then, and what a verification said of it. The
entries `adopt` after it hold the digests of the pictures as they were found.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from .audit_trail import Appender
from .records import heat_digest, picture_digest
from .schema import VERSION, schema_version, upgrade_schema

# A long transaction would block other processes.
_ADOPTED_AT_ONCE = 100

Change = Callable[[], AbstractContextManager[tuple[sqlite3.Connection, Appender]]]


def upgrade_trail(connection: sqlite3.Connection, appender: Appender, problem: str | None, time: str) -> None:
    """Bring the schema up and bind the trail to the device key, within a transaction.

    Args:
        connection: The connection, in a transaction.
        appender: Appends to the trail within that transaction.
        problem: What a verification of the file found just before.
        time: UTC, as `audit_trail.utc_now` writes it.
    """
    if schema_version(connection) >= VERSION:
        return
    upgrade_schema(connection)
    detail = {
        "version": VERSION,
        "results": connection.execute("SELECT coalesce(max(id), 0) FROM results").fetchone()[0],
        "seen": {bytes(fingerprint).hex(): result for fingerprint, result in connection.execute("SELECT * FROM seen")},
        "problem": problem,
    }
    appender.append("edge-ct", "upgrade", None, detail, time)


def adopt_pictures(change: Change, read: Callable[[str], Any], clock: Callable[[], str]) -> None:
    """Record the digests of pictures that an earlier version stored, in transactions of their own.

    Args:
        change: Opens a transaction and its appender.
        read: Runs a query and returns the first row.
        clock: Returns the time in UTC.
    """
    while _is_left(read):
        with change() as (connection, appender):
            first, last = _numbers_left(lambda query: connection.execute(query).fetchone())
            rows = connection.execute(
                "SELECT result, png, heat, heat_rows, heat_columns, heat_method FROM pictures "
                "WHERE result BETWEEN ? AND ? ORDER BY result LIMIT ?",
                (first, last, _ADOPTED_AT_ONCE),
            )
            pictures = [(number, picture_digest(png), heat_digest(*heat)) for number, png, *heat in rows]
            if pictures:
                appender.append("edge-ct", "adopt", None, {"pictures": pictures}, clock())


def _is_left(read: Callable[[str], Any]) -> bool:
    first, last = _numbers_left(read)
    return read(f"SELECT 1 FROM pictures WHERE result BETWEEN {first} AND {last} LIMIT 1") is not None


def _numbers_left(read: Callable[[str], Any]) -> tuple[int, int]:
    """Return the first and the last result whose picture is still to be adopted; no number lies between 1 and 0."""
    upgrade = read("SELECT detail FROM audit WHERE action = 'upgrade' ORDER BY seq LIMIT 1")
    if upgrade is None:
        return 1, 0
    adopt = read("SELECT detail FROM audit WHERE action = 'adopt' ORDER BY seq DESC LIMIT 1")
    adopted = msgspec.json.decode(adopt[0])["pictures"][-1][0] if adopt else 0
    return adopted + 1, msgspec.json.decode(upgrade[0])["results"]
