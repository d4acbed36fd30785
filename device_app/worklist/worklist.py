"""The worklist: results on the disk, the reviews beside them, and an audit trail of both.

    with Worklist(folder) as worklist:
        added = worklist.add(classifier.judge(path), classifier.bundle, origin="classify")
        worklist.rows(state="open")                    # most urgent first
        worklist.review(added.row.id, "Dr Lima", "override", "negative", "motion artefact")

What `add` returns is on the disk, so the slice may be acknowledged to its sender. Threads may share a `Worklist`; each
process opens its own.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from edge_ct.errors import EdgeCTError
from edge_ct.system.files import printable

from ..heatmaps.heatmap import Heat
from ..paths import DEFAULT_STATE
from ..pseudonym import FILE as KEY_FILE
from ..pseudonym import device_key, existing_key, pseudonym
from .audit_trail import (
    REVIEW,
    Appender,
    answer_digest,
    audit_key,
    entry_mac,
    first_bound_entry,
    row_digest,
    utc_now,
)
from .database import MAX_BYTES, MIN_FREE, Store
from .head_file import Head, HeadFile
from .queue import Queue
from .reader import WorklistReader, get_row
from .records import Added, Entry, Label, Review, Verdict, answer_values, heat_digest, heat_values, prepare_entry
from .retention import MAX_KEEP_DAYS, Pruned, count_kept, plan_retention
from .schema import VERSION, schema_version
from .time_evidence import StepWatch, note_time
from .upgrade import adopt_pictures, upgrade_trail

if TYPE_CHECKING:
    from edge_ct.bundle import Bundle
    from edge_ct.classifier import Judgement

_MAX_REVIEWER, _MAX_NOTE = 200, 10_000


class Worklist(WorklistReader):
    """The worklist in one folder."""

    def __init__(
        self,
        folder: Path | str = DEFAULT_STATE,
        max_bytes: int = MAX_BYTES,
        min_free: int = MIN_FREE,
        clock: Callable[[], str] = utc_now,
    ) -> None:
        """Open the worklist in `folder`, or begin one.

        Args:
            folder: The folder of the worklist and of the device key.
            max_bytes: Maximum size of the worklist.
            min_free: Number of bytes that must stay free on the disk.
            clock: Returns the time in UTC, as `audit_trail.utc_now` writes it.

        Raises:
            EdgeCTError: The worklist or the device key cannot be opened or made.
        """
        path = Path(folder).expanduser()
        super().__init__(path, Store(path, max_bytes, min_free))
        self._clock, self._steps = clock, StepWatch()
        try:
            self._key = self._device_key()
            self._audit_key = audit_key(self._key)
            self._head_file = HeadFile(path, self._audit_key)
            self._bring_up()
        except BaseException:
            self._store.close()
            raise

    def __enter__(self) -> Worklist:
        return self

    def add(self, judged: Entry | Judgement, bundle: Bundle | None = None, origin: str | None = None) -> Added:
        """Store a judgement; it is on the disk when this returns.

        Args:
            judged: A judgement that `prepare_entry` has prepared on a worker, or one that is prepared here.
            bundle: The bundle that made the judgement; not needed for a prepared one.
            origin: The command that made the judgement; not needed for a prepared one.

        Raises:
            StorageFull: There is no room; nothing was stored.
        """
        if isinstance(judged, Entry):
            return self.add_all([judged])[0]
        if bundle is None or origin is None:
            raise TypeError("a judgement is stored with its bundle and its origin")
        return self.add_all([prepare_entry(judged, bundle, origin=origin)])[0]

    def add_all(self, entries: Sequence[Entry]) -> list[Added]:
        """Store several prepared judgements, all or none: they share one wait for the disk. Raises `StorageFull`."""
        self._store.check_room(sum(entry.size for entry in entries))
        with self._changing() as (connection, trail):
            time = self._clock()
            stored = [_store_entry(connection, trail, entry, self._patient_key(entry), time) for entry in entries]
            return [Added(get_row(connection, number), new) for number, new in stored]

    def review(
        self,
        result: int,
        reviewer: str,
        verdict: Verdict,
        label: Label | None = None,
        note: str = "",
        patience: float | None = None,
    ) -> Review:
        """Review a result. The latest review of a result counts; earlier ones stay.

        Args:
            result: Id of the result.
            reviewer: Name of the reviewer.
            verdict: `agree` with the model, or `override` its decision.
            label: What the slice shows. Agreeing with `positive` or `negative` implies this label.
            note: A remark.
            patience: How many seconds to wait for another process that writes; by default a minute.

        Raises:
            EdgeCTError: There is no such result, the reviewer has no name, or the label contradicts the verdict.
            WorklistBusy: Another process writes for longer than that.
        """
        reviewer, note = printable(" ".join(reviewer.split())), printable(note.strip())
        if not reviewer:
            raise EdgeCTError("a review needs the name of the reviewer")
        if len(reviewer) > _MAX_REVIEWER or len(note) > _MAX_NOTE:
            raise EdgeCTError(f"a reviewer's name has at most {_MAX_REVIEWER} characters, a note at most {_MAX_NOTE:,}")
        with self._changing(patience) as (connection, trail):
            row = get_row(connection, result)
            implied = row.decision if row.decision in ("positive", "negative") else None
            if verdict == "agree" and label not in (None, implied):
                raise EdgeCTError(f"result {result} is {row.decision}: to label it {label}, override the decision")
            if verdict == "override" and label in (None, implied):
                raise EdgeCTError(f"result {result} is {row.decision}: an override needs a different label")
            time = self._clock()
            given = (result, time, reviewer, verdict, implied if verdict == "agree" else label, note)
            number = connection.execute(
                "INSERT INTO reviews (result, time, reviewer, verdict, label, note) VALUES (?, ?, ?, ?, ?, ?)", given
            ).lastrowid
            assert number is not None
            connection.execute("UPDATE results SET state = 'reviewed', review = ? WHERE id = ?", (number, result))
            review = Review(number, *given)
            detail: dict[str, object] = {
                "review": number,
                "verdict": verdict,
                "label": review.label,
                "digest": row_digest(connection, "reviews", REVIEW, number),
            }
            trail.append(reviewer, "review", result, detail, time)
            return review

    def set_heat(self, result: int, heat: Heat, patience: float | None = None) -> None:
        """Store a heat map that was made after the result was stored, by occlusion. patience: see `review`."""
        with self._changing(patience) as (connection, trail):
            _store_heat(connection, result, heat)
            detail = {"heat": heat_digest(*heat_values(heat))}
            trail.append("edge-ct", "heat", result, detail, self._clock())

    def note(self, actor: str, action: str, detail: Mapping[str, object]) -> None:
        """Append an entry about something else to the audit trail: a start, a change of settings, an export."""
        with self._changing() as (_, trail):
            trail.append(actor, action, None, detail, self._clock())

    def prune(self, keep_days: int, *, unreviewed: bool = False, trust_clock: bool = False) -> Pruned:
        """Delete old results with their pictures and reviews, and finished queue items; the audit trail stays.

        The age of a result is the time that the trail has seen pass: see `time_evidence`. While the clock is behind the
        trail, or far ahead of it, nothing is deleted.

        Args:
            keep_days: Results older than this number of days are deleted.
            unreviewed: Delete results that nobody has reviewed as well.
            trust_clock: Somebody confirms that the clock and all dates of the worklist are right.
        """
        if not 1 <= keep_days <= MAX_KEEP_DAYS:
            raise EdgeCTError(f"results are kept for at least one day, and for at most {MAX_KEEP_DAYS:,}")
        keep = timedelta(days=keep_days)
        with self._changing() as (connection, trail):
            clock = note_time(connection, trail, self._clock(), trust_clock)
            plan = plan_retention(connection, clock.now, keep, unreviewed) if clock.status == "good" else None
        deleted = 0
        while plan:
            with self._changing() as (connection, trail):
                count = plan.delete_some(connection, trail, self._clock())
            deleted += count
            if plan.is_complete(count):
                break
        with self._store.reading() as connection:
            kept, uncertain = count_kept(connection, plan.last if plan else 0, clock.now - keep)
        if deleted:
            self._store.release_free_pages()
        return Pruned(deleted, kept, uncertain, clock)

    def queue(self, name: str) -> Queue:
        """Return a queue in the same file."""
        return Queue(self._store, name)

    def pseudonym(self, patient: str | None) -> str | None:
        """Return the key under which a patient's identifier is stored."""
        return pseudonym(self._key, patient)

    @contextmanager
    def _changing(self, patience: float | None = None) -> Iterator[tuple[sqlite3.Connection, Appender]]:
        """Open a transaction that changes the worklist and appends to its trail. patience: see `Store.writing`."""
        with self._store.writing(patience) as connection:
            trail = Appender(connection, self._audit_key)
            before, agrees = trail.last, self._head_file.agrees(connection)
            step = self._steps.step(connection)
            if step:
                trail.append("edge-ct", "clock", None, {"step": step}, self._clock())
            yield connection, trail
        self._steps.confirm()
        if agrees and trail.last != before:
            self._head_file.advance(Head(*trail.last))

    def _device_key(self) -> bytes:
        """Return the device key, which must be the one that the trail is bound to if it is bound already."""
        with self._store.reading() as connection:
            bound = first_bound_entry(connection)
        if bound is None:
            return device_key(self.folder)
        key = existing_key(self.folder)
        if key is None:
            raise EdgeCTError(
                f"{self.folder / KEY_FILE}: the device key is missing, and the worklist is bound to it; restore it "
                "from a backup, or move the folder away and begin a new worklist"
            )
        if entry_mac(audit_key(key), bound[0]) != bound[1]:
            raise EdgeCTError(
                f"{self.folder / KEY_FILE}: not the key that the worklist is bound to; restore it from a backup, or "
                "run edge-ct worklist verify to see what was changed"
            )
        return key

    def _bring_up(self) -> None:
        """Begin the head file of a new worklist, and upgrade a worklist of an earlier version."""
        with self._store.reading() as connection:
            version = schema_version(connection)
            last = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        if last is None or version < VERSION:
            self._head_file.create(Head(*(last or (0, ""))), like=self._store.path)
        if version < VERSION:
            problem = self.verify().problem
            with self._changing() as (connection, trail):
                upgrade_trail(connection, trail, problem, self._clock())
        adopt_pictures(self._changing, self._store.read_one, self._clock)

    def _patient_key(self, entry: Entry) -> str | None:
        """Return what is stored as the patient of an entry."""
        return printable(entry.patient or "") or None if entry.show_identity else self.pseudonym(entry.patient)


def _store_entry(
    connection: sqlite3.Connection, trail: Appender, entry: Entry, patient: str | None, time: str
) -> tuple[int, bool]:
    """Store an entry, or note its repetition; return the id of the result, and True if it is new."""
    known = connection.execute("SELECT id FROM results WHERE identity = ?", (entry.identity,)).fetchone()
    detail: dict[str, object]
    if known:
        number = int(known[0])
        # The trail is kept longer than the results, so it must not name the file.
        detail = {"source": hashlib.sha256(entry.source.encode()).hexdigest()[:16]}
    else:
        number = _insert(connection, entry, patient, time)
        detail = {
            "decision": entry.decision,
            "digest": answer_digest(connection, number),
            "picture": entry.picture_sha256,
            "heat": entry.heat_sha256,
        }
    if entry.fingerprint is not None:
        connection.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (entry.fingerprint, number))
        detail["seen"] = {entry.fingerprint.hex(): number}
    trail.append(entry.origin, "again" if known else "add", number, detail, time)
    return number, not known


def _insert(connection: sqlite3.Connection, entry: Entry, patient: str | None, time: str) -> int:
    """Insert the row of an entry and its picture; return the id of the result."""
    values = answer_values(entry, patient, time)
    placeholders = ", ".join(f":{name}" for name in values)
    statement = f"INSERT INTO results ({', '.join(values)}) VALUES ({placeholders})"
    number = int(connection.execute(statement, values).lastrowid or 0)
    if entry.png is not None:
        connection.execute("INSERT INTO pictures (result, png) VALUES (?, ?)", (number, entry.png))
        if entry.heat is not None:
            _store_heat(connection, number, entry.heat)
    return number


def _store_heat(connection: sqlite3.Connection, result: int, heat: Heat) -> None:
    connection.execute(
        "UPDATE pictures SET heat = ?, heat_rows = ?, heat_columns = ?, heat_method = ? WHERE result = ?",
        (*heat_values(heat), result),
    )
