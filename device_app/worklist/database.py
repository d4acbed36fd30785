"""The worklist's file: SQLite in WAL mode with synchronous=FULL, shared by several processes.

A commit waits for the disk, so what `Store.writing` wrote is durable when it ends. The write-ahead log needs a local
file system.
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

from .records import COLUMNS

FILE = "worklist.sqlite"
BUSY_SECONDS = 60.0
MAX_BYTES = 8 << 30
MIN_FREE = 256 << 20
_VERSION = 1

# The model's answer is never changed; what reviewers say about it is kept beside it, in `reviews`.
_SCHEMA = """
CREATE TABLE results (
{columns},
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
  heat BLOB,  -- float32: the cells row by row, then the centres of rows and columns, if they were measured
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
CREATE TRIGGER answers_stay BEFORE UPDATE OF {names}
ON results BEGIN SELECT RAISE(ABORT, 'the answer of a model cannot be changed'); END;
CREATE TRIGGER reviews_stay BEFORE UPDATE ON reviews
BEGIN SELECT RAISE(ABORT, 'a review cannot be changed; add another one'); END;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail cannot be changed'); END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail cannot be shortened'); END;
CREATE TRIGGER audit_is_appended BEFORE INSERT ON audit
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
BEGIN SELECT RAISE(ABORT, 'audit entries can only be appended'); END;
""".format(columns=",\n".join(f"  {name} {kind}" for name, kind in COLUMNS.items()), names=", ".join(COLUMNS))


class Store:
    """One connection, which the threads of a process take in turn; every other process has a connection of its own."""

    def __init__(
        self, folder: Path, max_bytes: int = MAX_BYTES, min_free: int = MIN_FREE, busy_seconds: float = BUSY_SECONDS
    ) -> None:
        """Open the file in `folder`; make both if they do not exist.

        Args:
            folder: The folder of the worklist.
            max_bytes: Maximum size of the file, without its free pages.
            min_free: Number of bytes that must stay free on the disk.
            busy_seconds: How long to wait for another process that holds the file.

        Raises:
            EdgeCTError: The file cannot be opened or made.
        """
        self.folder, self.path = folder, folder / FILE
        self.max_bytes, self.min_free = max_bytes, min_free
        self._busy_seconds = busy_seconds
        self._lock = threading.RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its two companions the mode of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise EdgeCTError(f"{folder}: the worklist cannot be stored there: {error.strerror or error}") from error
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
        """Close the connection; the last process that does so merges the write-ahead log into the file."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that excludes all other writers; it is durable when it ends, and undone if it raises.

        Raises:
            StorageFull: There is no room, when the transaction begins or later.
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
        """Lend the connection for queries; each statement sees one consistent state of the file."""
        with self._lock, self._errors():
            yield self._connection

    def check_room(self, coming: int = 0) -> None:
        """Check that `coming` more bytes can be stored, before any of them is written.

        Raises:
            StorageFull: The worklist or the disk would be too full.
        """
        with self.reading() as connection:
            used = self.used_bytes(connection)
        if used + coming > self.max_bytes:
            raise StorageFull(
                f"{self.folder}: the worklist has reached {used / 2**20:.0f} of {self.max_bytes / 2**20:.0f} MiB and "
                "stores nothing more; delete old results with: edge-ct worklist prune --keep-days N"
            )
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise EdgeCTError(f"{self.folder}: the folder of the worklist has disappeared: {error.strerror}") from error
        # Counted twice: a page is written to the log before it is written to the file.
        if free - 2 * coming < self.min_free:
            raise StorageFull(
                f"{self.folder}: {free / 2**20:.0f} MiB free on the disk, {self.min_free / 2**20:.0f} must stay free; "
                "nothing more is stored; delete files, or old results with: edge-ct worklist prune --keep-days N"
            )

    @staticmethod
    def used_bytes(connection: sqlite3.Connection) -> int:
        """Return the size in bytes of the pages in use."""
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def release_free_pages(self) -> None:
        """Return free pages and the space of the log to the file system."""
        with self.reading() as connection:
            # `execute` would take a single step, which frees only one page.
            connection.executescript("PRAGMA incremental_vacuum;")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # has an effect on a new file only
        # If two processes make the file at the same time, this statement can fail at once: SQLite does not wait here.
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
            raise EdgeCTError(
                f"{self.folder}: this file system does not support a write-ahead log; use a folder on a local disk"
            )
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")  # so that pruned results cannot be recovered from the file
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
            raise EdgeCTError(f"{self.path}: written by a newer version of edge-ct (schema {version}); update edge-ct")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate the exceptions of SQLite into those of edge-ct."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "full" in text:
                raise StorageFull(f"{self.folder}: the disk is full: {text}; nothing was stored") from error
            if "locked" in text:
                raise EdgeCTError(
                    f"{self.path}: locked for {self._busy_seconds:.0f} s by another process; stop it, or try again"
                ) from error
            if isinstance(error, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text):
                raise EdgeCTError(
                    f"{self.path}: damaged: {text}; move the folder away and keep it, then begin a new worklist"
                ) from error
            raise EdgeCTError(f"{self.path}: {text}") from error


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script one by one: `executescript` would commit the open transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
