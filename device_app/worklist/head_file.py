"""The head of the audit trail, kept beside the worklist's file: entries that are cut from the end are missed.

The file holds the number and the hash of the last entry, and an HMAC of both. It is written after each transaction
without waiting for the disk, so after a power failure it may be some seconds behind, but never ahead of the trail.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.system.files import create_once

from .audit_trail import entry_mac

FILE = "worklist.head"
# A fixed length below that of a disk sector: one write replaces the whole content.
_LENGTH = 256


class Head(msgspec.Struct, frozen=True):
    """Number and hash of the last entry of the trail; 0 and an empty hash for an empty trail."""

    entry: int
    hash: str


class _Record(msgspec.Struct, frozen=True):
    entry: int
    hash: str
    mac: str


class HeadFile:
    """The head file of one worklist."""

    def __init__(self, folder: Path, key: bytes | None) -> None:
        """Prepare access to the file.

        Args:
            folder: The folder of the worklist.
            key: The key of the trail's HMACs; None if it is not known, which leaves the HMAC unchecked.
        """
        self.path, self._key = folder / FILE, key

    def create(self, head: Head, like: Path) -> None:
        """Make the file if it does not exist. like: a file whose owner it gets, if the super-user makes it."""
        try:
            if create_once(self.path, self._content(head), 0o600) and hasattr(os, "geteuid") and os.geteuid() == 0:
                owner = like.stat()
                os.chown(self.path, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise EdgeCTError(f"{self.path}: cannot be made: {error.strerror}") from error

    def agrees(self, connection: sqlite3.Connection) -> bool:
        """Return whether the trail contains the entry that the file names; False if the file is missing or damaged."""
        try:
            head = self.read()
        except EdgeCTError:
            return False
        return head is not None and contains(connection, head)

    def advance(self, head: Head) -> None:
        """Write the head, unless the file holds a later one. A missing file stays missing: verification must find it.

        Call this only if the file agreed with the trail when the transaction began. Otherwise new entries would soon
        hide that older ones were cut off.

        Args:
            head: Number and hash of an entry that is on the disk.
        """
        try:
            with self._locked() as number:
                current = _decode(os.read(number, _LENGTH))
                if current is not None and current.entry < head.entry:
                    os.lseek(number, 0, os.SEEK_SET)
                    os.write(number, self._content(head))
        except OSError:
            # The entries that it describes are on the disk. The next transaction tries again.
            return

    def read(self) -> Head | None:
        """Return the head; None if there is no file.

        Raises:
            EdgeCTError: The file cannot be read, is damaged, or was written without the device key.
        """
        try:
            record = _decode(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EdgeCTError(f"{FILE} cannot be read: {error.strerror}") from error
        if record is None:
            raise EdgeCTError(f"{FILE} is damaged or was changed")
        if self._key is not None and record.mac != self._mac(record):
            raise EdgeCTError(f"{FILE} was changed, or written with another device key")
        return Head(record.entry, record.hash)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        number = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            try:
                import fcntl

                fcntl.flock(number, fcntl.LOCK_EX)
            except ImportError:  # Windows
                pass
            yield number
        finally:
            os.close(number)

    def _content(self, head: Head) -> bytes:
        record = _Record(head.entry, head.hash, self._mac(head))
        return msgspec.json.encode(record).ljust(_LENGTH - 1) + b"\n"

    def _mac(self, head: Head | _Record) -> str:
        return "" if self._key is None else entry_mac(self._key, f"head {head.entry} {head.hash}")


def contains(connection: sqlite3.Connection, head: Head) -> bool:
    """Return whether the trail contains an entry with this number and hash."""
    row = connection.execute("SELECT hash FROM audit WHERE seq = ?", (head.entry,)).fetchone()
    return head.entry == 0 or (row is not None and row[0] == head.hash)


def _decode(content: bytes) -> _Record | None:
    try:
        return msgspec.json.decode(content, type=_Record)
    except msgspec.DecodeError:
        return None
