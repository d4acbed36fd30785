"""Queries on the worklist: rows in the order of review, pictures, reviews and the audit trail."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path
from types import TracebackType

from edge_ct.decision import Decision
from edge_ct.errors import EdgeCTError, WorklistDamaged
from edge_ct.manifest import DecisionRule

from ..heatmaps.heatmap import Heat
from .database import LARGEST_NUMBER, Store
from .groups import FIRST_GROUPS, GroupPage, GroupQuery, SliceGroup, find_group, group_rows, list_groups
from .quarantine import Quarantine
from .records import URGENCY, Review, Row, State, read_heat, read_row, select_rows
from .time_evidence import ClockState, compare_clock
from .verification import Verification, Verifier


class WorklistReader:
    """What can be read from a worklist."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self._store = store

    @classmethod
    def open(cls, folder: Path) -> WorklistReader:
        """Open a worklist without changing it; its disk may be read-only.

        Raises:
            EdgeCTError: There is no worklist in the folder, or it cannot be read.
        """
        return WorklistReader(folder, Store(folder, read_only=True))

    def __enter__(self) -> WorklistReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def get(self, result: int) -> Row:
        """Return one row; raise `EdgeCTError` if no row has this id."""
        with self._store.reading() as connection:
            return get_row(connection, result)

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
        """Return rows, by default in the order of review.

        Args:
            state: Only rows in this state.
            decision: Only rows with this decision.
            series: Only rows of this series.
            patient: Only rows of this patient, by the pseudonymised key.
            after: Only rows with a higher id.
            by: `urgency`: open rows first, among them positive ones by falling probability, then refer, rejected,
                negative; then reviewed rows. `number`: in the order in which they were stored.
            limit: Maximum number of rows.
            offset: Number of rows to leave out at the start.
        """
        if by not in ("urgency", "number"):
            raise ValueError(f"rows cannot be sorted by {by}")
        filters = {"state": state, "decision": decision, "series": series, "patient": patient}
        terms = ["r.id > ?", *(f"r.{name} = ?" for name, value in filters.items() if value is not None)]
        values = [after, *(value for value in filters.values() if value is not None)]
        order = "r.state, r.urgency, r.probability DESC, r.id" if by == "urgency" else "r.id"
        with self._store.reading() as connection:
            query = f"{select_rows(connection)} WHERE {' AND '.join(terms)} ORDER BY {order} LIMIT ? OFFSET ?"
            selected = connection.execute(query, (*values, -1 if limit is None else limit, offset)).fetchall()
        return [read_row(values) for values in selected]

    def groups(self, rule: DecisionRule, seal: str, query: GroupQuery = FIRST_GROUPS) -> GroupPage:
        """Return one page of the series, folders and single slices; see `list_groups`."""
        with self._store.reading() as connection:
            return list_groups(connection, rule, seal, query)

    def group(self, result: int, rule: DecisionRule, seal: str) -> SliceGroup | None:
        """Return the group that a result belongs to; None if there is no such result."""
        with self._store.reading() as connection:
            return find_group(connection, rule, seal, result)

    def group_rows(self, result: int) -> list[Row]:
        """Return all results of the group that a result belongs to; none if there is no such result."""
        with self._store.reading() as connection:
            return group_rows(connection, result)

    def was_deleted(self, result: int) -> bool:
        """Return whether a result with this id was stored and has been deleted since."""
        with self._store.reading() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'results'").fetchone()
            kept = connection.execute("SELECT 1 FROM results WHERE id = ?", (result,)).fetchone()
        return kept is None and row is not None and 0 < result <= row[0]

    def counts(self, state: State | None = None) -> dict[Decision, int]:
        """Return the number of rows with each decision."""
        query = "SELECT decision, count(*) FROM results WHERE ? IS NULL OR state = ? GROUP BY decision"
        with self._store.reading() as connection:
            counts = dict(connection.execute(query, (state, state)).fetchall())
        return {decision: counts.get(decision, 0) for decision in URGENCY}

    def reviews(self, result: int) -> list[Review]:
        """Return all reviews of a result, the oldest first."""
        query = f"SELECT {', '.join(Review.__struct_fields__)} FROM reviews WHERE result = ? ORDER BY id"
        with self._store.reading() as connection:
            return [Review(*values) for values in connection.execute(query, (result,))]

    def picture(self, result: int) -> bytes | None:
        """Return the grey slice of a result as PNG; None if its file could not be read."""
        with self._store.reading() as connection:
            row = connection.execute("SELECT png FROM pictures WHERE result = ?", (result,)).fetchone()
        return bytes(row[0]) if row else None

    def heat(self, result: int) -> Heat | None:
        """Return the stored heat map of a result; None if there is none."""
        query = "SELECT heat, heat_rows, heat_columns, heat_method FROM pictures WHERE result = ? AND heat IS NOT NULL"
        with self._store.reading() as connection:
            row = connection.execute(query, (result,)).fetchone()
        return read_heat(*row) if row else None

    def version(self) -> int:
        """Return the number of the last audit entry: it grows with every change that any process makes."""
        with self._store.reading() as connection:
            return int(connection.execute("SELECT coalesce(max(seq), 0) FROM audit").fetchone()[0])

    def compare_clock(self, now: datetime) -> ClockState:
        """Compare the clock with the trail; see `time_evidence`. now: what the clock shows, with its time zone."""
        with self._store.reading() as connection:
            return compare_clock(connection, now)

    def trail(self, result: int | None = None, limit: int = 1000) -> list[dict[str, object]]:
        """Return the last entries of the audit trail, of one result or of all, the oldest first."""
        query = (
            "SELECT seq, time, actor, action, subject, detail FROM audit WHERE ? IS NULL OR subject = ? "
            "ORDER BY seq DESC LIMIT ?"
        )
        names = ("seq", "time", "actor", "action", "result", "detail")
        with self._store.reading() as connection:
            entries = connection.execute(query, (result, result, limit)).fetchall()
        return [dict(zip(names, entry, strict=True)) for entry in reversed(entries)]

    def result_of_file(self, fingerprint: bytes) -> int | None:
        """Return the id of the result of a file that was judged before; None for a new file."""
        with self._store.reading() as connection:
            row = connection.execute("SELECT result FROM seen WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return int(row[0]) if row else None

    def verify(self, head: str | None = None) -> Verification:
        """Check the file, the audit chain and every row.

        Args:
            head: Hash of an entry that the trail must contain, noted at an earlier verification.
        """
        with self._store.reading() as connection:
            return Verifier(connection, self.folder).verify(head)

    def check(self, head: str | None = None) -> Verification:
        """Verify, and raise `WorklistDamaged` if there is a problem."""
        verification = self.verify(head)
        if verification.problem:
            raise WorklistDamaged(f"{self._store.path}: {'; '.join(verification.problems)}")
        return verification

    def quarantine(self, max_ends: int) -> Quarantine:
        """Return the files over which workers have ended. max_ends: ends after which a file is not tried again."""
        return Quarantine(self._store, max_ends)

    def used_bytes(self) -> int:
        """Return the size in bytes of what is stored."""
        with self._store.reading() as connection:
            return self._store.used_bytes(connection)

    def check_room(self, coming: int = 0) -> None:
        """Raise `StorageFull` if `coming` more bytes cannot be stored."""
        self._store.check_room(coming)


def get_row(connection: sqlite3.Connection, result: int) -> Row:
    """Return one row; raise `EdgeCTError` if no row has this id."""
    in_range = abs(result) <= LARGEST_NUMBER
    values = connection.execute(f"{select_rows(connection)} WHERE r.id = ?", (result,)).fetchone() if in_range else None
    if not values:
        raise EdgeCTError(f"no result {result} in the worklist; edge-ct worklist list shows the numbers")
    return read_row(values)
