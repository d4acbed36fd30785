"""The audit trail: entries in a chain, each holding the SHA-256 of itself and of the one before.

A changed, inserted or removed entry breaks the chain there; a row that is not as its entry says, or is gone without an
entry, is found too. Whoever can write the file can write a whole new chain: against that, note the head elsewhere
(`edge-ct worklist verify` prints it) and ask for it again with `--head`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import msgspec

# Columns of a result whose digest its entry keeps: the model's whole answer.
ANSWER = (
    "id", "identity", "time", "origin", "source", "sha256", "patient", "study", "series", "instance", "decision",
    "probability", "reason", "model", "bundle", "latency_ms",
)  # fmt: skip
REVIEW = ("id", "result", "time", "reviewer", "verdict", "label", "note")


class Verification(msgspec.Struct, frozen=True):
    """What `verify` found. problem: None where all is well, else the first that is not; entry: its number in the trail.

    head: the hash of the last good entry.
    """

    entries: int
    results: int
    reviews: int
    head: str
    problem: str | None = None
    entry: int | None = None


def now() -> str:
    """UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def digest(values: Sequence[object]) -> str:
    """SHA-256 of the values as JSON."""
    return hashlib.sha256(msgspec.json.encode(list(values))).hexdigest()


def append(
    connection: sqlite3.Connection,
    actor: str,
    action: str,
    subject: int | None,
    detail: Mapping[str, object],
    time: str,
) -> None:
    """Add an entry, inside the transaction that does what it tells of. subject: a result's number."""
    last = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    seq, before = (last[0] + 1, last[1]) if last else (1, "")
    text = msgspec.json.encode(detail).decode()
    entry = (seq, time, actor, action, subject, text)
    connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", (*entry, digest((before, *entry))))


def verify(connection: sqlite3.Connection, head: str | None = None) -> Verification:
    """Check the file, the chain, and every row against its entry, in one read transaction.

    head: the hash of an entry that must be in the trail, noted at an earlier verification.
    """
    connection.execute("BEGIN")
    try:
        return _verify(connection, head)
    finally:
        connection.execute("ROLLBACK")


def _verify(connection: sqlite3.Connection, head: str | None) -> Verification:
    counts = [int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in ("results", "reviews")]
    whole = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    before, good, head_found = "", 0, head is None
    gone: set[int] = set()

    def found(problem: str | None, entry: int | None = None) -> Verification:
        return Verification(good, counts[0], counts[1], before, problem, entry)

    if whole != "ok":
        return found(f"the file is damaged: {' '.join(whole.split())}")
    for *entry, written in connection.execute("SELECT * FROM audit ORDER BY seq"):
        seq = entry[0]
        if seq != good + 1:
            return found(f"entry {good + 1} is missing", good + 1)
        if digest((before, *entry)) != written:
            return found(f"entry {seq} was changed, or one before it replaced", seq)
        before, good = written, seq
        head_found = head_found or written == head
        if entry[3] == "prune":
            gone |= _numbers(msgspec.json.decode(entry[5]).get("results", []))
    if not head_found:
        return found(f"no entry has the hash {head}: the trail was shortened or written anew", None)
    for table, columns, action in (("results", ANSWER, "add"), ("reviews", REVIEW, "review")):
        problem = _rows_differ(connection, table, columns, action, gone)
        if problem:
            return found(*problem)
    return found(None)


def _rows_differ(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], action: str, gone: set[int]
) -> tuple[str, int | None] | None:
    """The first row of a table that is not as its audit entry says, or is missing."""
    noun = table[:-1]
    entries: dict[int, tuple[int, str]] = {}
    query = "SELECT seq, subject, detail FROM audit WHERE action = ? ORDER BY seq"
    for seq, subject, text in connection.execute(query, (action,)):
        detail = msgspec.json.decode(text)
        if subject not in gone:
            entries[int(detail.get("review", subject))] = (seq, str(detail.get("digest")))
    for row in connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id"):
        seq, wanted = entries.pop(row[0], (None, None))
        if seq is None:
            return f"{noun} {row[0]} is in no entry: it was put in from outside", None
        if digest(row) != wanted:
            return f"{noun} {row[0]} was changed after entry {seq}", seq
    for number, (seq, _) in sorted(entries.items(), key=lambda item: item[1]):
        return f"{noun} {number} of entry {seq} is gone, and no entry says why", seq
    return None


def ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Sorted numbers as (first, last) of each unbroken run."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _numbers(runs: Sequence[Sequence[int]]) -> set[int]:
    return {number for first, last in runs for number in range(first, last + 1)}
