"""Verification: whether the file of a worklist is what its audit trail says.

Results, their urgency and state, pictures, heat maps, reviews, files seen, the numbers that SQLite gives next, and the
schema with its triggers are compared with the trail. Entries are compared with their hashes, their HMACs and the head
file. What other tables hold (queues, quarantine, notes) is work in progress and is not in the trail.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_ct.errors import EdgeCTError

from ..pseudonym import FILE as KEY_FILE
from ..pseudonym import existing_key
from .audit_trail import REVIEW, answer_columns, audit_key, without_empty_columns
from .head_file import Head, HeadFile, contains
from .recorded_state import Problem, RecordedState, stored_digest_of
from .records import URGENCY, heat_digest, picture_digest
from .schema import schema_differences, schema_version

_MAX_PROBLEMS = 20


class Verification(msgspec.Struct, frozen=True):
    """The outcome of `verify`.

    Attributes:
        entries: Number of intact entries before the first problem of the chain.
        head: Hash of the last intact entry.
        problem: The first problem; None if there is none.
        entry: Number of the entry that the first problem concerns, if it concerns one.
        bound: Number of the first entry that is bound to the device key; None if an earlier version wrote them all.
        problems: The first problems, at most 20.
    """

    entries: int
    results: int
    reviews: int
    head: str
    problem: str | None = None
    entry: int | None = None
    bound: int | None = None
    problems: tuple[str, ...] = ()


class Verifier:
    """One verification, within one read transaction."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        """Prepare the verification.

        Args:
            connection: A connection outside a transaction.
            folder: The folder of the worklist, with the device key and the head file.
        """
        self._connection = connection
        self._key: bytes | None = None
        self._key_problem: str | None = None
        try:
            key = existing_key(folder)
            self._key = audit_key(key) if key is not None else None
        except EdgeCTError as error:
            self._key_problem = str(error)
        self._head_file = HeadFile(folder, self._key)
        self._recorded = RecordedState()
        self._results_stored = self._reviews_stored = 0

    def verify(self, head: str | None = None) -> Verification:
        """Compare the file with its trail.

        Args:
            head: Hash of an entry that the trail must contain, noted at an earlier verification.
        """
        # Before the transaction: afterwards, another process may write a head that the transaction does not see.
        try:
            kept_head, head_problem = self._head_file.read(), None
        except EdgeCTError as error:
            kept_head, head_problem = None, str(error)
        self._connection.execute("BEGIN")
        try:
            problems: list[Problem] = []
            for problem in self._problems(head, kept_head, head_problem):
                problems.append(problem)
                if len(problems) == _MAX_PROBLEMS:
                    break
        finally:
            self._connection.execute("ROLLBACK")
        first = problems[0] if problems else Problem("")
        return Verification(
            entries=self._recorded.entries,
            results=self._results_stored,
            reviews=self._reviews_stored,
            head=self._recorded.last_hash,
            problem=first.text or None,
            entry=first.entry,
            bound=self._recorded.bound,
            problems=tuple(problem.text for problem in problems),
        )

    def _problems(self, head: str | None, kept_head: Head | None, head_problem: str | None) -> Iterator[Problem]:
        integrity = str(self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if integrity != "ok":
            yield Problem(f"the file is damaged: {' '.join(integrity.split())}")
            return
        differences = schema_differences(self._connection)
        if any(difference.startswith("table ") for difference in differences):
            yield from map(Problem, differences)
            return
        self._results_stored, self._reviews_stored = self._count("results"), self._count("reviews")
        broken = self._recorded.read(self._connection, self._key)
        if broken:
            # What follows a broken entry cannot be trusted, so rows are not compared with it.
            yield broken
            return
        if head is not None and not self._exists("audit WHERE hash = ?", head):
            yield Problem(f"no entry has the hash {head}: the trail was shortened or rewritten")
        if head_problem:
            yield Problem(head_problem)
        elif kept_head and not contains(self._connection, kept_head):
            yield Problem(
                f"{self._head_file.path.name} names entry {kept_head.entry}, and the trail of {self._recorded.entries} "
                "entries does not contain it: the trail was shortened or rewritten"
            )
        elif kept_head is None and schema_version(self._connection) > 1:
            yield Problem(f"{self._head_file.path.name} is missing: entries may have been cut from the trail's end")
        yield from self._recorded.problems
        yield from self._results()
        yield from self._pictures()
        yield from self._reviews()
        yield from self._seen()
        yield from self._sequences()
        yield from map(Problem, differences)
        if self._key is None and self._recorded.bound is not None:
            reason = self._key_problem or f"{KEY_FILE} is missing; restore it from a backup"
            yield Problem(f"nothing shows that edge-ct wrote the trail: {reason}")

    def _results(self) -> Iterator[Problem]:
        """Compare each result with its entry, and its state with its reviews."""
        recorded = self._recorded
        expected = {number: entry for number, entry in recorded.added.items() if number not in recorded.pruned}
        columns = ", ".join(answer_columns(schema_version(self._connection)))
        query = f"SELECT state, review, urgency, decision, {columns} FROM results ORDER BY id"
        for state, review, urgency, decision, *answer in self._connection.execute(query):
            number = answer[0]
            seq, stored_digest = expected.pop(number, (None, ""))
            if seq is None:
                yield _absent("result", number, recorded.pruned.get(number))
                continue
            if stored_digest_of(without_empty_columns(answer)) != stored_digest:
                yield Problem(f"result {number} was changed after entry {seq}", seq)
            if urgency != URGENCY.get(decision):
                yield Problem(f"the urgency of result {number} is not that of its decision, {decision}", seq)
            latest = recorded.latest.get(number)
            if (state, review) != ("open" if latest is None else "reviewed", latest):
                says = "has no review" if latest is None else f"was last reviewed by review {latest}"
                found = state if review is None else f"{state} by review {review}"
                yield Problem(f"result {number} {says}, but the file says it is {found}", seq)
        yield from _missing("result", expected)

    def _pictures(self) -> Iterator[Problem]:
        """Compare each picture and heat map with its digest."""
        recorded = self._recorded
        expected = {number: known for number, known in recorded.pictures.items() if number not in recorded.pruned}
        query = (
            "SELECT p.result, p.png, p.heat, p.heat_rows, p.heat_columns, p.heat_method, r.id "
            "FROM pictures p LEFT JOIN results r ON r.id = p.result ORDER BY p.result"
        )
        for number, png, heat, rows, columns, method, result in self._connection.execute(query):
            known = expected.pop(number, None)
            if result is None:
                yield Problem(f"the picture of result {number} was inserted by another program")
                continue
            if known is None:  # Of an earlier version, which kept no digests of pictures.
                continue
            seq, picture_known, heat_known = known
            if not isinstance(png, bytes) or picture_digest(png) != picture_known:
                yield Problem(f"the picture of result {number} was changed after entry {seq}", seq)
            if isinstance(heat, str) or heat_digest(heat, rows, columns, method) != heat_known:
                yield Problem(f"the heat map of result {number} was changed after entry {seq}", seq)
        for number, (seq, picture, _) in sorted(expected.items()):
            if picture is not None:
                yield Problem(f"the picture of result {number} of entry {seq} is missing", seq)
        query = (
            "SELECT id FROM results WHERE sha256 IS NOT NULL AND id NOT IN (SELECT result FROM pictures) ORDER BY id"
        )
        for (number,) in self._connection.execute(query):
            if number not in expected:
                yield Problem(f"the picture of result {number} is missing")

    def _reviews(self) -> Iterator[Problem]:
        recorded = self._recorded
        expected = {
            number: (seq, stored_digest)
            for number, (seq, stored_digest, result) in recorded.reviewed.items()
            if result not in recorded.pruned
        }
        for row in self._connection.execute(f"SELECT {', '.join(REVIEW)} FROM reviews ORDER BY id"):
            seq, stored_digest = expected.pop(row[0], (None, ""))
            if seq is None:
                yield _absent("review", row[0], None)
            elif stored_digest_of(row) != stored_digest or row[1] != recorded.reviewed[row[0]][2]:
                yield Problem(f"review {row[0]} was changed after entry {seq}", seq)
        yield from _missing("review", expected)

    def _seen(self) -> Iterator[Problem]:
        """Compare the files that are not judged again with what the trail says of them."""
        if self._recorded.seen is None:
            return
        expected = dict(self._recorded.seen)
        for fingerprint, result in self._connection.execute("SELECT fingerprint, result FROM seen ORDER BY result"):
            known = expected.pop(fingerprint.hex(), None) if isinstance(fingerprint, bytes) else None
            if known is None:
                yield Problem(f"another program marked a file as seen, as result {result}, so that it is not judged")
            elif known != result:
                yield Problem(f"a file seen as result {known} was changed to result {result}")
        for result in sorted(expected.values()):
            yield Problem(f"a file seen as result {result} is no longer marked as seen")

    def _sequences(self) -> Iterator[Problem]:
        """Check the numbers after which SQLite counts on: a lower one would give a number twice."""
        stored = dict(self._connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        for table, numbers in (("results", self._recorded.added), ("reviews", self._recorded.reviewed)):
            last = max(numbers, default=0)
            if stored.get(table, 0) != last:
                yield Problem(f"the number of the next row of {table} was changed: {stored.get(table, 0)}, not {last}")

    def _count(self, table: str) -> int:
        return int(self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def _exists(self, rows: str, value: object) -> bool:
        return self._connection.execute(f"SELECT 1 FROM {rows} LIMIT 1", (value,)).fetchone() is not None


def _absent(noun: str, number: int, pruned: int | None) -> Problem:
    if pruned is not None:
        return Problem(f"{noun} {number} was deleted by entry {pruned}, but it is in the file", pruned)
    return Problem(f"{noun} {number} has no audit entry: it was inserted by another program")


def _missing(noun: str, expected: dict[int, tuple[int, str]]) -> Iterator[Problem]:
    for number, (seq, _) in sorted(expected.items(), key=lambda item: item[1]):
        yield Problem(f"{noun} {number} of entry {seq} is missing, and no entry deletes it", seq)
