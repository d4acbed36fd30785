"""The worklist's file: SQLite in WAL mode, synchronous=FULL, shared by several processes.

What `writing` has left is on the disk: the commit waits for it. A write-ahead log needs a local file system.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_ct.errors import EdgeCTError, StorageFull

FILE = "worklist.sqlite"
BUSY_SECONDS = 60.0
MAX_BYTES = 8 << 30
MIN_FREE = 256 << 20
_VERSION = 1

# The model's answer is never written again; what people say of it stands in `reviews`, beside it.
_SCHEMA = """
CREATE TABLE results (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  identity TEXT NOT NULL UNIQUE,
  time TEXT NOT NULL,
  origin TEXT NOT NULL,
  source TEXT NOT NULL,
  sha256 TEXT,
  patient TEXT,
  study TEXT,
  series TEXT,
  instance TEXT,
  decision TEXT NOT NULL CHECK (decision IN ('positive', 'refer', 'rejected', 'negative')),
  urgency INTEGER NOT NULL,
  probability REAL,
  reason TEXT,
  model TEXT NOT NULL,
  bundle TEXT NOT NULL,
  latency_ms REAL,
  state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'reviewed')),
  review INTEGER REFERENCES reviews (id)
);
CREATE INDEX results_by_urgency ON results (state, urgency, probability DESC, id);
CREATE INDEX results_by_series ON results (series);
CREATE INDEX results_by_patient ON results (patient);
CREATE INDEX results_by_pixels ON results (sha256);
CREATE INDEX results_by_time ON results (time);
CREATE TABLE pictures (
  result INTEGER PRIMARY KEY REFERENCES results (id),
  png BLOB NOT NULL,
  heat BLOB,  -- float32: its cells, row by row, and then where its rows and columns look, if that was measured
  heat_rows INTEGER,
  heat_columns INTEGER,
  heat_method TEXT
);
CREATE TABLE reviews (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  result INTEGER NOT NULL,
  time TEXT NOT NULL,
  reviewer TEXT NOT NULL,
  verdict TEXT NOT NULL CHECK (verdict IN ('agree', 'override')),
  label TEXT CHECK (label IN ('positive', 'negative', 'unusable')),
  note TEXT NOT NULL
);
CREATE INDEX reviews_by_result ON reviews (result);
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  time TEXT NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject INTEGER,
  detail TEXT NOT NULL,
  hash TEXT NOT NULL
);
CREATE INDEX audit_by_subject ON audit (action, subject);
CREATE TABLE seen (fingerprint BLOB PRIMARY KEY, result INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL,
  key TEXT NOT NULL,
  topic TEXT NOT NULL,
  payload TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed')),
  attempts INTEGER NOT NULL DEFAULT 0,
  created REAL NOT NULL,
  next_try REAL NOT NULL,
  finished REAL,
  error TEXT,
  UNIQUE (queue, key)
);
CREATE INDEX queue_by_turn ON queue (queue, state, next_try);
CREATE INDEX queue_by_topic ON queue (queue, topic, state);
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TRIGGER answers_stay BEFORE UPDATE OF
  id, identity, time, origin, source, sha256, patient, study, series, instance, decision, urgency, probability, reason,
  model, bundle, latency_ms
ON results BEGIN SELECT RAISE(ABORT, 'the answer of a model is never changed'); END;
CREATE TRIGGER reviews_stay BEFORE UPDATE ON reviews
BEGIN SELECT RAISE(ABORT, 'a review is never changed; add another'); END;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is never changed'); END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is never shortened'); END;
CREATE TRIGGER audit_is_appended BEFORE INSERT ON audit
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
BEGIN SELECT RAISE(ABORT, 'the audit trail is written at its end alone'); END;
"""


class Store:
    """One connection, which the threads of a process share in turn; other processes have their own.

    max_bytes: of the file, free pages aside. min_free: bytes that must stay free on the disk.
    """

    def __init__(
        self, folder: Path, max_bytes: int = MAX_BYTES, min_free: int = MIN_FREE, busy_seconds: float = BUSY_SECONDS
    ) -> None:
        """Open the file in `folder`, or make both. Raises `EdgeCTError` where that cannot be."""
        self.folder, self.path = folder, folder / FILE
        self.max_bytes, self.min_free = max_bytes, min_free
        self._busy_seconds = busy_seconds
        self._lock = threading.RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its two companions the mode of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise EdgeCTError(f"{folder}: the worklist cannot be kept there: {error.strerror or error}") from error
        with self._errors():
            self._connection = sqlite3.connect(
                self.path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the connection; the last process to do so folds the log into the file."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, alone among all processes; on the disk when it ends, undone where it raises.

        Raises `StorageFull`, before or within, where there is no room.
        """
        with self._lock, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for statements that each see one state of the file."""
        with self._lock, self._errors():
            yield self._connection

    def check_room(self, coming: int = 0) -> None:
        """Raise `StorageFull` where `coming` bytes more would be too many, before anything is half stored."""
        with self.reading() as connection:
            used = self.used_bytes(connection)
        if used + coming > self.max_bytes:
            raise StorageFull(
                f"{self.folder}: the worklist holds {used / 2**20:.0f} MiB and may hold {self.max_bytes / 2**20:.0f}; "
                "edge-ct worklist prune --keep-days N makes room"
            )
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise EdgeCTError(f"{self.folder}: the worklist is gone: {error.strerror}") from error
        # Twice: a page is in the log before it is in the file.
        if free - 2 * coming < self.min_free:
            raise StorageFull(
                f"{self.folder}: {free / 2**20:.0f} MiB free on the disk, {self.min_free / 2**20:.0f} are kept back; "
                "nothing more is stored; free some, or edge-ct worklist prune --keep-days N"
            )

    @staticmethod
    def used_bytes(connection: sqlite3.Connection) -> int:
        """Size of the file's pages that hold something."""
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def give_back(self) -> None:
        """Return free pages, and what the log holds, to the file system."""
        with self.reading() as connection:
            # `execute` would take one step, which frees one page.
            connection.executescript("PRAGMA incremental_vacuum;")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # heeded by a new file alone
        # Two processes that make a file at once can meet here, where SQLite does not wait by itself.
        end = time.monotonic() + self._busy_seconds
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise EdgeCTError(f"{self.folder}: this file system has no write-ahead log; keep the worklist on another")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")  # what retention takes away is gone
        connection.execute(f"PRAGMA journal_size_limit={16 << 20}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with self.writing():
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    for statement in _statements(_SCHEMA):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={_VERSION}")
                    version = _VERSION
        if version != _VERSION:
            raise EdgeCTError(f"{self.path}: made by a newer edge-ct (schema {version}); update this one")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's exceptions as this project's."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "full" in text:
                raise StorageFull(f"{self.folder}: no room for the worklist: {text}; nothing was stored") from error
            if "locked" in text:
                raise EdgeCTError(
                    f"{self.path}: busy for {self._busy_seconds:.0f} s: another process holds the worklist"
                ) from error
            if isinstance(error, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text):
                raise EdgeCTError(f"{self.path}: damaged: {text}; keep a copy of it, then begin a new one") from error
            raise EdgeCTError(f"{self.path}: {text}") from error


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
