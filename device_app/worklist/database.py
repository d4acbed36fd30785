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
from typing import Any

from edge_ct.errors import EdgeCTError, StorageFull, WorklistBusy, WorklistDamaged

from .schema import VERSION, create_schema, schema_version

FILE = "worklist.sqlite"
BUSY_SECONDS = 60.0
MAX_BYTES = 8 << 30
# A reader waits only for another process that opens, closes or vacuums the file.
_READER_SECONDS = 10.0
MIN_FREE = 256 << 20
# A disk with less free space than SQLite takes for the index of its log is full.
_FULL = 64 << 10
# SQLite's integers have 64 bits and a sign.
LARGEST_NUMBER = (1 << 63) - 1


class Store:
    """The file, open in one process: a connection that writes and one that reads.

    The threads of a process take each connection in turn. In WAL mode a reader waits for no writer, so that pages are
    answered while another thread or process writes.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int = MAX_BYTES,
        min_free: int = MIN_FREE,
        busy_seconds: float = BUSY_SECONDS,
        *,
        read_only: bool = False,
    ) -> None:
        """Open the file in `folder`; make both if they do not exist.

        Args:
            folder: The folder of the worklist.
            max_bytes: Maximum size of the file, without its free pages.
            min_free: Number of bytes that must stay free on the disk.
            busy_seconds: How long to wait for another process that holds the file.
            read_only: Open an existing file without changing it; its disk may be read-only.

        Raises:
            EdgeCTError: The file cannot be opened or made.
        """
        self.folder, self.path = folder, folder / FILE
        self.max_bytes, self.min_free = max_bytes, min_free
        self._busy_seconds = busy_seconds
        self._write_lock, self._read_lock = threading.RLock(), threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._copy: Path | None = None
        try:
            if not read_only:
                self._open_writer()
            elif not self.path.exists():
                raise EdgeCTError(f"{folder}: no worklist in this folder")
            else:
                with self.reading() as connection:
                    self._check_version(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; the last process that does so merges the write-ahead log into it."""
        for lock, connection in ((self._read_lock, self._reader), (self._write_lock, self._writer)):
            with lock, suppress(sqlite3.Error):
                if connection:
                    connection.close()
        if self._copy:
            shutil.rmtree(self._copy, ignore_errors=True)

    @contextmanager
    def writing(self, patience: float | None = None) -> Iterator[sqlite3.Connection]:
        """Open a transaction that excludes all other writers; it is durable when it ends, and undone if it raises.

        Args:
            patience: How many seconds to wait for other writers; by default `busy_seconds`.

        Raises:
            WorklistBusy: Another thread or process writes for longer than that.
            StorageFull: There is no room, when the transaction begins or later.
        """
        seconds = self._busy_seconds if patience is None else patience
        with self._only_writer(seconds) as connection:
            connection.execute(f"PRAGMA busy_timeout={seconds * 1000:.0f}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for queries; each statement sees one consistent state of the file."""
        with self._read_lock, self._errors(_READER_SECONDS):
            if self._reader is None:
                self._reader = self._open_reader()
            yield self._reader

    def read_one(self, query: str) -> Any:
        """Run a query and return its first row; None if it has none."""
        with self.reading() as connection:
            return connection.execute(query).fetchone()

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
        with self._only_writer(self._busy_seconds) as connection:
            # `execute` would take a single step, which frees only one page.
            connection.executescript("PRAGMA incremental_vacuum;")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def _only_writer(self, seconds: float) -> Iterator[sqlite3.Connection]:
        """Lend the connection that writes to one thread. seconds: how long to wait for the other threads."""
        if self._writer is None:
            raise EdgeCTError(f"{self.path}: opened for reading only")
        if not self._write_lock.acquire(timeout=seconds):
            raise self._busy(seconds)
        try:
            with self._errors(seconds):
                yield self._writer
        finally:
            self._write_lock.release()

    def _open_writer(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its two companions the mode of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise EdgeCTError(
                f"{self.folder}: the worklist cannot be stored there: {error.strerror or error}"
            ) from error
        with self._errors(self._busy_seconds):
            self._writer = sqlite3.connect(
                self.path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
            )
            self._prepare(self._writer)

    def _prepare(self, connection: sqlite3.Connection) -> None:
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
        if schema_version(connection) == 0:
            with self.writing():
                if schema_version(connection) == 0:
                    create_schema(connection)
        self._check_version(connection)

    def _check_version(self, connection: sqlite3.Connection) -> None:
        version = schema_version(connection)
        if version > VERSION:
            raise EdgeCTError(f"{self.path}: written by a newer version of edge-ct (schema {version}); update edge-ct")
        if version == 0:
            raise EdgeCTError(f"{self.path}: not a worklist of edge-ct")

    def _open_reader(self) -> sqlite3.Connection:
        """Open a connection for queries, on a read-only or full disk as well."""
        try:
            return self._connect_reader(self.path, "mode=ro")
        except sqlite3.OperationalError:
            log = self.path.with_name(f"{FILE}-wal")
            if os.access(self.folder, os.W_OK) and not self._is_disk_full():
                raise
            if not log.exists() or log.stat().st_size == 0:
                return self._connect_reader(self.path, "immutable=1")
            # The log holds the latest results. SQLite reads it only beside a file that it can make.
            import tempfile

            try:
                self._copy = Path(tempfile.mkdtemp(prefix="edge-ct-"))
                for part in (self.path, log):
                    shutil.copy(part, self._copy)
            except OSError as error:
                raise EdgeCTError(
                    f"{self.path}: on a read-only or full disk, with changes in its log that only a copy can show, and "
                    f"it cannot be copied: {error.strerror or error}"
                ) from error
            return self._connect_reader(self._copy / FILE, "mode=ro")

    def _connect_reader(self, path: Path, options: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{options}",
            uri=True,
            timeout=_READER_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_disk_full(self) -> bool:
        """Return whether the disk is full: SQLite reports an I/O error where it cannot make room for its index."""
        with suppress(OSError):
            return shutil.disk_usage(self.folder).free < _FULL
        return False

    def _busy(self, seconds: float) -> WorklistBusy:
        return WorklistBusy(f"{self.path}: locked for {seconds:.0f} s by another process; stop it, or try again")

    @contextmanager
    def _errors(self, seconds: float) -> Iterator[None]:
        """Translate the exceptions of SQLite into those of edge-ct. seconds: how long it waited for a lock."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "full" in text or ("disk I/O error" in text and self._is_disk_full()):
                raise StorageFull(
                    f"{self.folder}: the disk is full: {text}; nothing was stored; delete files on it"
                ) from error
            if "locked" in text:
                raise self._busy(seconds) from error
            if "readonly" in text:
                raise EdgeCTError(f"{self.path}: on a read-only disk or write-protected; nothing was stored") from error
            if isinstance(error, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text):
                raise WorklistDamaged(
                    f"{self.path}: damaged: {text}; move the folder away and keep it, then begin a new worklist"
                ) from error
            raise EdgeCTError(f"{self.path}: {text}") from error
