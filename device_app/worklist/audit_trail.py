"""The audit trail: a chain of entries, each with the SHA-256 of its content and of the entry before it.

Each entry also carries an HMAC of that hash under a key that is derived from the device key: only a program that has
the device key can append to the trail. The entries of results, heat maps and reviews hold digests of what they
describe. `verification` compares the file with its trail.
"""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import msgspec

from .records import COLUMNS, LATER_COLUMNS, Review
from .schema import schema_version

# Columns that the digest of a result covers: the whole answer of the model. The urgency follows from the decision.
_FIRST_ANSWER = tuple(name for name in COLUMNS if name != "urgency")
ANSWER = (*_FIRST_ANSWER, *LATER_COLUMNS)
REVIEW = Review.__struct_fields__


def utc_now() -> str:
    """Return the current time in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def digest(values: Sequence[object]) -> str:
    """Return the SHA-256 of the values as JSON."""
    return hashlib.sha256(msgspec.json.encode(list(values))).hexdigest()


def answer_columns(version: int) -> tuple[str, ...]:
    """Return the columns of a model's answer in a file of a version of the schema."""
    return ANSWER if version > 1 else _FIRST_ANSWER


def without_empty_columns(answer: Sequence[object]) -> Sequence[object]:
    """Return the values of `ANSWER` that the digest of a result covers: without later columns that are all empty."""
    first, later = answer[: len(_FIRST_ANSWER)], answer[len(_FIRST_ANSWER) :]
    return first if all(value is None for value in later) else answer


def answer_digest(connection: sqlite3.Connection, number: int) -> str:
    """Return the digest of the answer of one result."""
    query = f"SELECT {', '.join(ANSWER)} FROM results WHERE id = ?"
    return digest(without_empty_columns(connection.execute(query, (number,)).fetchone()))


def row_digest(connection: sqlite3.Connection, table: str, columns: Sequence[str], number: int) -> str:
    """Return the digest of one row of a table."""
    return digest(connection.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE id = ?", (number,)).fetchone())


def audit_key(device_key: bytes) -> bytes:
    """Return the key of the trail's HMACs, which must differ from the key of the pseudonyms."""
    return hmac.digest(device_key, b"edge-ct audit trail", "sha256")


def entry_mac(key: bytes, entry_hash: str) -> str:
    """Return the HMAC-SHA256 of an entry's hash (RFC 2104). key: see `audit_key`."""
    return hmac.digest(key, entry_hash.encode(), "sha256").hex()


class Appender:
    """Appends entries within one transaction, the one that makes the changes they describe."""

    def __init__(self, connection: sqlite3.Connection, key: bytes) -> None:
        """Begin behind the last entry. key: see `audit_key`."""
        self._connection, self._key = connection, key
        last = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        self.last: tuple[int, str] = last or (0, "")

    def append(self, actor: str, action: str, subject: int | None, detail: Mapping[str, object], time: str) -> None:
        """Append an entry.

        Args:
            actor: The command or the reviewer.
            action: What was done: `add`, `again`, `heat`, `review`, `prune`, `export`, ...
            subject: Id of the result concerned; None if there is none.
            detail: Anything else, stored as JSON.
            time: UTC, as `utc_now` writes it.
        """
        seq, before = self.last[0] + 1, self.last[1]
        entry = (seq, time, actor, action, subject, msgspec.json.encode(detail).decode())
        entry_hash = digest((before, *entry))
        values = (*entry, entry_hash, entry_mac(self._key, entry_hash))
        self._connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        self.last = (seq, entry_hash)


def first_bound_entry(connection: sqlite3.Connection) -> tuple[str, str] | None:
    """Return hash and HMAC of the first entry that is bound to a device key; None if the trail is not bound."""
    if schema_version(connection) < 2:
        return None
    for condition in ("seq = 1", "action = 'upgrade' ORDER BY seq LIMIT 1"):
        query = f"SELECT hash, mac FROM (SELECT * FROM audit WHERE {condition}) WHERE mac IS NOT NULL"
        row = connection.execute(query).fetchone()
        if row:
            return str(row[0]), str(row[1])
    return None


def runs_of(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return sorted numbers as the first and the last number of each unbroken run."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
