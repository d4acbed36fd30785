"""The audit trail: a chain of entries, each with the SHA-256 of its content and of the entry before it.

An entry that was changed, inserted or removed breaks the chain. Each result and review has an entry with a digest, so
a row that was changed, or that is missing without an entry that deletes it, is detected as well. Somebody who can write
the file can also write a complete new chain: to detect that, note the head elsewhere (`edge-ct worklist verify` prints
it) and pass it to a later verification with `--head`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import msgspec

from .records import COLUMNS, Review

# Columns that the digest of a result covers: the whole answer of the model. The urgency follows from the decision.
ANSWER = tuple(name for name in COLUMNS if name != "urgency")
REVIEW = Review.__struct_fields__


class Verification(msgspec.Struct, frozen=True):
    """The outcome of `verify`.

    Attributes:
        entries: Number of intact entries before the first problem.
        head: Hash of the last intact entry.
        problem: The first problem; None if there is none.
        entry: Number of the entry that the problem concerns, if it concerns one.
    """

    entries: int
    results: int
    reviews: int
    head: str
    problem: str | None = None
    entry: int | None = None


def utc_now() -> str:
    """Return the current time in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def digest(values: Sequence[object]) -> str:
    """Return the SHA-256 of the values as JSON."""
    return hashlib.sha256(msgspec.json.encode(list(values))).hexdigest()


def row_digest(connection: sqlite3.Connection, table: str, columns: Sequence[str], number: int) -> str:
    """Return the digest of one row of a table."""
    return digest(connection.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE id = ?", (number,)).fetchone())


def append(
    connection: sqlite3.Connection,
    actor: str,
    action: str,
    subject: int | None,
    detail: Mapping[str, object],
    time: str,
) -> None:
    """Append an entry, within the transaction that makes the change.

    Args:
        connection: The connection, in a transaction.
        actor: The command or the reviewer.
        action: What was done: `add`, `again`, `review`, `prune`, `export`, ...
        subject: Id of the result concerned; None if there is none.
        detail: Anything else, stored as JSON.
        time: UTC, as `utc_now` writes it.
    """
    last = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    seq, before = (last[0] + 1, last[1]) if last else (1, "")
    text = msgspec.json.encode(detail).decode()
    entry = (seq, time, actor, action, subject, text)
    connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", (*entry, digest((before, *entry))))


def verify(connection: sqlite3.Connection, head: str | None = None) -> Verification:
    """Check the file, the chain, and every row against its entry, in one read transaction.

    Args:
        connection: The connection, outside a transaction.
        head: Hash of an entry that the trail must contain, noted at an earlier verification.
    """
    connection.execute("BEGIN")
    try:
        return _verify(connection, head)
    finally:
        connection.execute("ROLLBACK")


def _verify(connection: sqlite3.Connection, head: str | None) -> Verification:
    results, reviews = (
        int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in ("results", "reviews")
    )
    before, intact, head_seen = "", 0, head is None
    pruned: set[int] = set()

    def outcome(problem: str | None, entry: int | None = None) -> Verification:
        return Verification(intact, results, reviews, before, problem, entry)

    integrity = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if integrity != "ok":
        return outcome(f"the file is damaged: {' '.join(integrity.split())}")
    for *entry, stored_hash in connection.execute("SELECT * FROM audit ORDER BY seq"):
        seq = entry[0]
        if seq != intact + 1:
            return outcome(f"entry {intact + 1} is missing", intact + 1)
        if digest((before, *entry)) != stored_hash:
            return outcome(f"entry {seq} was changed, or the entry before it was replaced", seq)
        before, intact = stored_hash, seq
        head_seen = head_seen or stored_hash == head
        if entry[3] == "prune":
            pruned |= _expand_runs(msgspec.json.decode(entry[5]).get("results", []))
    if not head_seen:
        return outcome(f"no entry has the hash {head}: the trail was shortened or rewritten")
    for table, columns, action in (("results", ANSWER, "add"), ("reviews", REVIEW, "review")):
        problem = _first_difference(connection, table, columns, action, pruned)
        if problem:
            return outcome(*problem)
    return outcome(None)


def _first_difference(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], action: str, pruned: set[int]
) -> tuple[str, int | None] | None:
    """Return the first row of a table that differs from its audit entry or is missing, and the number of the entry."""
    noun = table[:-1]
    expected: dict[int, tuple[int, str]] = {}
    query = "SELECT seq, subject, detail FROM audit WHERE action = ? ORDER BY seq"
    for seq, subject, text in connection.execute(query, (action,)):
        detail = msgspec.json.decode(text)
        if subject not in pruned:
            expected[int(detail.get("review", subject))] = (seq, str(detail.get("digest")))
    for row in connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id"):
        seq, stored_digest = expected.pop(row[0], (None, None))
        if seq is None:
            return f"{noun} {row[0]} has no audit entry: it was inserted by another program", None
        if digest(row) != stored_digest:
            return f"{noun} {row[0]} was changed after entry {seq}", seq
    for number, (seq, _) in sorted(expected.items(), key=lambda item: item[1]):
        return f"{noun} {number} of entry {seq} is missing, and no entry deletes it", seq
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


def _expand_runs(runs: Sequence[Sequence[int]]) -> set[int]:
    return {number for first, last in runs for number in range(first, last + 1)}
