"""The worklist: every result a row on the disk, what people say of it beside it, and a trail of both.

    with Worklist(folder) as worklist:
        added = worklist.add(classifier.judge(path), classifier.bundle, origin="classify")
        worklist.rows(state="open")                    # most urgent first
        worklist.review(added.row.id, "Dr Lima", "override", "negative", "motion artefact")

What `add` returns is on the disk: it may be acknowledged. Threads may share a `Worklist`; processes open their own.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edge_ct.bundle import Bundle
from edge_ct.classifier import Judgement
from edge_ct.decision import Decision
from edge_ct.errors import EdgeCTError, WorklistDamaged
from edge_ct.system.files import printable

from ..heatmaps.heatmap import Heat
from ..paths import DEFAULT_STATE
from ..pseudonym import device_key, pseudonym
from . import audit_trail
from .audit_trail import Verification
from .database import MAX_BYTES, MIN_FREE, Store
from .queue import Queue
from .records import URGENCY, Added, Entry, Label, Review, Row, State, Verdict, entry

_ROW = (
    "r.id, r.time, r.origin, r.source, r.sha256, r.patient, r.study, r.series, r.instance, r.decision, r.probability, "
    "r.reason, r.model, r.bundle, r.latency_ms, r.state, "
    "v.id, v.result, v.time, v.reviewer, v.verdict, v.label, v.note"
)
_FROM = "FROM results r LEFT JOIN reviews v ON v.id = r.review"
_PRUNED_AT_ONCE = 200


class Worklist:
    """The worklist of a folder."""

    def __init__(
        self,
        folder: Path | str = DEFAULT_STATE,
        max_bytes: int = MAX_BYTES,
        min_free: int = MIN_FREE,
        clock: Callable[[], str] = audit_trail.now,
    ) -> None:
        """Open the worklist in `folder`, or begin one. clock: UTC, as `audit.now` writes it. Raises `EdgeCTError`."""
        self.folder = Path(folder).expanduser()
        self._store = Store(self.folder, max_bytes, min_free)
        self._clock = clock
        try:
            self._key = device_key(self.folder)
        except BaseException:
            self._store.close()
            raise

    def __enter__(self) -> Worklist:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    # Writing.

    def entry(
        self,
        judgement: Judgement,
        bundle: Bundle,
        *,
        origin: str,
        patient: str | None = None,
        key: str | None = None,
        series: str | None = None,
        heat: Heat | None = None,
        seen: bytes | None = None,
        item: int | None = None,
    ) -> Entry:
        """Prepare a judgement for `add_all`: hashing and encoding, which worker threads can do. Arguments: `add`."""
        named = patient or (judgement.slice.dicom.patient if judgement.slice and judgement.slice.dicom else None)
        return entry(judgement, bundle, origin, self.pseudonym(named), key, series, heat, seen, item)

    def add(
        self,
        judgement: Judgement,
        bundle: Bundle,
        *,
        origin: str,
        patient: str | None = None,
        key: str | None = None,
        series: str | None = None,
        heat: Heat | None = None,
        seen: bytes | None = None,
        item: int | None = None,
    ) -> Added:
        """Store a judgement of `bundle`; when this returns it is on the disk.

        origin: the command that judged. patient: identifier in clear, stored as its pseudonym; by default what DICOM
        says. key: two results of one bundle with the same key are one; by default the pixels' hash, with the instance
        of a DICOM object. series: by default what DICOM says. heat: where the graph gives no class map. seen: the
        `fingerprint` of the file, remembered with the row. item: of a queue, done with the row. Raises `StorageFull`.
        """
        prepared = self.entry(
            judgement,
            bundle,
            origin=origin,
            patient=patient,
            key=key,
            series=series,
            heat=heat,
            seen=seen,
            item=item,
        )
        return self.add_all([prepared])[0]

    def add_all(self, entries: Sequence[Entry]) -> list[Added]:
        """Store several, all or none, for the price of one wait for the disk."""
        self._store.check_room(sum(own.size for own in entries))
        with self._store.writing() as connection:
            time = self._clock()
            stored = [self._add(connection, own, time) for own in entries]
            return [Added(_get(connection, number), new) for number, new in stored]

    def _add(self, connection: sqlite3.Connection, own: Entry, time: str) -> tuple[int, bool]:
        found = connection.execute("SELECT id FROM results WHERE identity = ?", (own.identity,)).fetchone()
        if found:
            number = int(found[0])
            # The trail outlives retention, so it does not name the file.
            detail: dict[str, object] = {"source": hashlib.sha256(own.source.encode()).hexdigest()[:16]}
            audit_trail.append(connection, own.origin, "again", number, detail, time)
        else:
            number = int(
                connection.execute(
                    "INSERT INTO results (identity, time, origin, source, sha256, patient, study, series, instance, "
                    "decision, urgency, probability, reason, model, bundle, latency_ms) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        own.identity, time, own.origin, own.source, own.sha256, own.patient, own.study, own.series,
                        own.instance, own.decision, URGENCY[own.decision], own.probability, own.reason, own.model,
                        own.bundle, own.latency_ms,
                    ),
                ).lastrowid
                or 0
            )  # fmt: skip
            if own.png is not None:
                connection.execute("INSERT INTO pictures (result, png) VALUES (?, ?)", (number, own.png))
                if own.heat is not None:
                    _set_heat(connection, number, own.heat)
            detail = {"decision": own.decision, "digest": _digest(connection, "results", audit_trail.ANSWER, number)}
            audit_trail.append(connection, own.origin, "add", number, detail, time)
        if own.seen is not None:
            connection.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (own.seen, number))
        if own.item is not None:
            Queue.done_within(connection, own.item)
        return number, not found

    def review(
        self, result: int, reviewer: str, verdict: Verdict, label: Label | None = None, note: str = ""
    ) -> Review:
        """Sign a result off: agree with the model, or override it with a label. The latest review counts.

        Agreeing with `positive` or `negative` is that label. Raises `EdgeCTError` for an unknown result, a reviewer
        without a name, or an override that says nothing else.
        """
        reviewer, note = printable(" ".join(reviewer.split())), printable(note.strip())
        if not reviewer:
            raise EdgeCTError("a review needs the reviewer's name")
        if len(reviewer) > 200 or len(note) > 10_000:
            raise EdgeCTError("a reviewer's name has at most 200 characters, a note 10,000")
        with self._store.writing() as connection:
            row = _get(connection, result)
            own = row.decision if row.decision in ("positive", "negative") else None
            if verdict == "agree" and label not in (None, own):
                raise EdgeCTError(f"result {result} is {row.decision}: agreeing does not make it {label}; override it")
            if verdict == "override" and label in (None, own):
                raise EdgeCTError(f"result {result} is {row.decision}: an override needs another label than that")
            if verdict == "agree":
                label = own
            time = self._clock()
            number = connection.execute(
                "INSERT INTO reviews (result, time, reviewer, verdict, label, note) VALUES (?, ?, ?, ?, ?, ?)",
                (result, time, reviewer, verdict, label, note),
            ).lastrowid
            assert number is not None
            connection.execute("UPDATE results SET state = 'reviewed', review = ? WHERE id = ?", (number, result))
            detail: dict[str, object] = {
                "review": number,
                "verdict": verdict,
                "label": label,
                "digest": _digest(connection, "reviews", audit_trail.REVIEW, number),
            }
            audit_trail.append(connection, reviewer, "review", result, detail, time)
            return Review(number, result, time, reviewer, verdict, label, note)

    def set_heat(self, result: int, heat: Heat) -> None:
        """Keep a heat map that was made later, by occlusion."""
        with self._store.writing() as connection:
            _set_heat(connection, result, heat)

    def note(self, actor: str, action: str, detail: Mapping[str, object]) -> None:
        """Write something else into the audit trail: a start, a settings change, an export."""
        with self._store.writing() as connection:
            audit_trail.append(connection, actor, action, None, detail, self._clock())

    def prune(self, keep_days: int) -> int:
        """Delete results, pictures and reviews older than `keep_days` days, and finished queue items; the trail stays.

        Returns how many results. Whether somebody has looked at them makes no difference: retention is a promise to
        patients.
        """
        if keep_days < 1:
            raise EdgeCTError("at least one day is kept")
        moment = datetime.fromisoformat(self._clock().replace("Z", "+00:00")) - timedelta(days=keep_days)
        before = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        pruned = 0
        while True:
            with self._store.writing() as connection:
                found = connection.execute(
                    "SELECT id FROM results WHERE time < ? ORDER BY id LIMIT ?", (before, _PRUNED_AT_ONCE)
                )
                numbers = [int(row[0]) for row in found.fetchall()]
                for statement in ("pictures WHERE result", "results WHERE id", "reviews WHERE result"):
                    connection.executemany(f"DELETE FROM {statement} = ?", [(number,) for number in numbers])
                if numbers:
                    detail = {"before": before, "results": audit_trail.ranges(numbers)}
                    audit_trail.append(connection, "prune", "prune", None, detail, self._clock())
                connection.execute("DELETE FROM queue WHERE finished < ?", (moment.timestamp(),))
            pruned += len(numbers)
            if len(numbers) < _PRUNED_AT_ONCE:
                break
        self._store.give_back()
        return pruned

    # Reading.

    def get(self, result: int) -> Row:
        """One row. Raises `EdgeCTError` where there is none of that number."""
        with self._store.reading() as connection:
            return _get(connection, result)

    def rows(
        self,
        *,
        state: State | None = None,
        decision: Decision | None = None,
        series: str | None = None,
        patient: str | None = None,
        after: int = 0,
        by: str = "urgency",
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row]:
        """Rows, most urgent first: open ones, positive by probability, refer, rejected, negative; then reviewed ones.

        patient: the pseudonym. after: only rows with a higher number. by: `urgency`, or `number`, the order they came.
        """
        if by not in ("urgency", "number"):
            raise ValueError(f"rows by {by}")
        wanted = {"state": state, "decision": decision, "series": series, "patient": patient}
        terms = ["r.id > ?", *(f"r.{name} = ?" for name, value in wanted.items() if value is not None)]
        values = [after, *(value for value in wanted.values() if value is not None)]
        order = "r.state, r.urgency, r.probability DESC, r.id" if by == "urgency" else "r.id"
        query = f"SELECT {_ROW} {_FROM} WHERE {' AND '.join(terms)} ORDER BY {order} LIMIT ? OFFSET ?"
        with self._store.reading() as connection:
            found = connection.execute(query, (*values, -1 if limit is None else limit, offset)).fetchall()
        return [_row(row) for row in found]

    def counts(self, state: State | None = None) -> dict[Decision, int]:
        """How many rows there are of each decision."""
        query = "SELECT decision, count(*) FROM results WHERE ? IS NULL OR state = ? GROUP BY decision"
        with self._store.reading() as connection:
            found = dict(connection.execute(query, (state, state)).fetchall())
        return {decision: found.get(decision, 0) for decision in URGENCY}

    def reviews(self, result: int) -> list[Review]:
        """All reviews of a result, the oldest first."""
        query = f"SELECT {', '.join(audit_trail.REVIEW)} FROM reviews WHERE result = ? ORDER BY id"
        with self._store.reading() as connection:
            return [Review(*row) for row in connection.execute(query, (result,))]

    def picture(self, result: int) -> bytes | None:
        """The grey slice of a result as PNG; None where the file could not be read."""
        with self._store.reading() as connection:
            found = connection.execute("SELECT png FROM pictures WHERE result = ?", (result,)).fetchone()
        return bytes(found[0]) if found else None

    def heat(self, result: int) -> Heat | None:
        """What the decision rests on; None where nothing was kept."""
        query = "SELECT heat, heat_rows, heat_columns, heat_method FROM pictures WHERE result = ? AND heat IS NOT NULL"
        with self._store.reading() as connection:
            found = connection.execute(query, (result,)).fetchone()
        if not found:
            return None
        content, rows, columns, method = found
        values = np.frombuffer(content, np.float32)
        evidence, centres = values[: rows * columns].reshape(rows, columns), values[rows * columns :]
        return Heat(evidence, method, tuple(centres.tolist()) or None)

    def version(self) -> int:
        """The number of the last audit entry: it grows with every change that any process makes."""
        with self._store.reading() as connection:
            return int(connection.execute("SELECT coalesce(max(seq), 0) FROM audit").fetchone()[0])

    def trail(self, result: int | None = None, limit: int = 1000) -> list[dict[str, object]]:
        """Entries of the audit trail, of one result or the last of all, the oldest first."""
        query = (
            "SELECT seq, time, actor, action, subject, detail FROM audit WHERE ? IS NULL OR subject = ? "
            "ORDER BY seq DESC LIMIT ?"
        )
        names = ("seq", "time", "actor", "action", "result", "detail")
        with self._store.reading() as connection:
            found = connection.execute(query, (result, result, limit)).fetchall()
        return [dict(zip(names, row, strict=True)) for row in reversed(found)]

    def was_seen(self, fingerprint: bytes) -> int | None:
        """The result of a file that was judged before; None for a new one."""
        with self._store.reading() as connection:
            found = connection.execute("SELECT result FROM seen WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return int(found[0]) if found else None

    def verify(self, head: str | None = None) -> Verification:
        """Check the file, the audit chain and every row. head: the hash of an entry that must be in the trail."""
        with self._store.reading() as connection:
            return audit_trail.verify(connection, head)

    def check(self, head: str | None = None) -> Verification:
        """As `verify`. Raises `WorklistDamaged` at the first thing that is wrong."""
        found = self.verify(head)
        if found.problem:
            raise WorklistDamaged(f"{self._store.path}: {found.problem}")
        return found

    def queue(self, name: str) -> Queue:
        """A queue in the same file."""
        return Queue(self._store, name)

    def used_bytes(self) -> int:
        """Size of what is kept."""
        with self._store.reading() as connection:
            return self._store.used_bytes(connection)

    def check_room(self, coming: int = 0) -> None:
        """Raise `StorageFull` where `coming` bytes more would be too many."""
        self._store.check_room(coming)

    def pseudonym(self, patient: str | None) -> str | None:
        """The key under which a patient's identifier is stored."""
        return pseudonym(self._key, patient)


def fingerprint(path: str, size: int, modified_ns: int) -> bytes:
    """Of a file by its path, size in bytes and time of change: what a watched folder's memory goes by."""
    text = f"{size} {modified_ns} {path}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).digest()[:16]


def _get(connection: sqlite3.Connection, result: int) -> Row:
    found = connection.execute(f"SELECT {_ROW} {_FROM} WHERE r.id = ?", (result,)).fetchone()
    if not found:
        raise EdgeCTError(f"no result {result} in the worklist")
    return _row(found)


def _row(values: Sequence[object]) -> Row:
    review: Any = values[16:]
    found: Any = (*values[:16], Review(*review) if review[0] is not None else None)
    return Row(*found)


def _digest(connection: sqlite3.Connection, table: str, columns: Sequence[str], number: int) -> str:
    return audit_trail.digest(
        connection.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE id = ?", (number,)).fetchone()
    )


def _set_heat(connection: sqlite3.Connection, result: int, heat: Heat) -> None:
    rows, columns = heat.evidence.shape
    content = np.concatenate([heat.evidence.reshape(-1), heat.centres or ()]).astype(np.float32).tobytes()
    connection.execute(
        "UPDATE pictures SET heat = ?, heat_rows = ?, heat_columns = ?, heat_method = ? WHERE result = ?",
        (content, rows, columns, heat.method, result),
    )
