"""Received objects and objects to send, on the disk; a received object is also an item of the worklist's queue.

Files are named after digests of UIDs, so that nothing that a peer sends becomes part of a path.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from edge_ct.errors import EdgeCTError, StorageFull
from edge_ct.system.files import write_durably

from ...judging.dicom_frames import FrameAttributes
from ...worklist.queue import OUTGOING, RECEIVED, Item
from ...worklist.worklist import Worklist

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ALL = 1 << 24


class Arrival(msgspec.Struct, frozen=True):
    """A received object.

    Attributes:
        instance: SOP instance UID.
        topic: Key of its series, see `Spool.topic_of`.
        file: Path of its file, relative to the spool folder.
        size: Size of the file in bytes.
        sha256: Digest of the file.
        expected: Number of instances in its series, if the sender states it.
        item: Number of its queue item.
    """

    instance: str
    topic: str
    file: str
    size: int
    sha256: str
    expected: int | None
    item: int = 0


class InstanceConflict(EdgeCTError):
    """An object has the SOP instance UID of another object that is stored already."""


class _Instances:
    """Instance UIDs that are being stored, so that two objects of one UID are stored one after the other."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, instance: str) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: instance not in self._held)
            self._held.add(instance)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(instance)
                self._changed.notify_all()


class Spool:
    """A folder of DICOM objects: `in/` holds received ones, `out/` those to be sent."""

    def __init__(self, folder: Path, worklist: Worklist, max_bytes: int = 16 << 30, min_free: int = 256 << 20) -> None:
        """Open the spool, and delete what a crash left: partial files, and files that were never acknowledged.

        Args:
            folder: The folder of the spool.
            worklist: The worklist that holds the queue.
            max_bytes: Maximum size of all objects in bytes.
            min_free: Bytes that must stay free on the disk.

        Raises:
            EdgeCTError: The folder cannot be used.
        """
        self.folder, self.worklist = folder, worklist
        self.max_bytes, self.min_free = max_bytes, min_free
        self.queue = worklist.queue(RECEIVED)
        self._lock = threading.Lock()
        self._instances = _Instances()
        try:
            for name in ("in", "out"):
                (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            self.used = self._sweep()
        except OSError as error:
            raise EdgeCTError(f"{folder}: cannot be used as the spool: {error.strerror or error}") from error

    def store(self, data: bytes, attributes: FrameAttributes) -> Arrival | None:
        """Store a received object; when this returns, the file and its queue item are on the disk.

        Args:
            data: The content of the DICOM file.
            attributes: The attributes of its first frame.

        Returns:
            The arrival; None if the object was stored before.

        Raises:
            StorageFull: There is no room; nothing was stored.
            InstanceConflict: Another object with the same SOP instance UID was stored before.
        """
        with self._instances.reserve(attributes.instance):
            return self._store(data, attributes)

    def _store(self, data: bytes, attributes: FrameAttributes) -> Arrival | None:
        arrival = Arrival(
            attributes.instance,
            self.topic_of(attributes),
            f"in/{_file_stem(attributes.instance)}.dcm",
            len(data),
            hashlib.sha256(data).hexdigest(),
            attributes.expected,
        )
        if self._is_stored(arrival):
            return None
        path = self.folder / arrival.file
        self._reserve(len(data))
        self.worklist.check_room()
        try:
            _store(path, data)
            item = self.queue.put(arrival.instance, arrival, arrival.topic)
            if item is None:
                self._release(len(data))  # Another process stored the same instance in the meantime.
                return None
        except StorageFull:
            self._release(len(data))
            if not self.queue.get(arrival.instance):
                with suppress(OSError):
                    path.unlink()
            raise
        return msgspec.structs.replace(arrival, item=item.id)

    def _is_stored(self, arrival: Arrival) -> bool:
        """Return whether the same object was stored before. Raises `InstanceConflict` if another one was."""
        item = self.queue.get(arrival.instance)
        if item is None:
            return False
        if _arrival_of(item).sha256 != arrival.sha256:
            raise InstanceConflict("another object with this SOP instance UID is stored already")
        return True

    def topic_of(self, attributes: FrameAttributes) -> str:
        """Return the key of a series: its UID with a digest of study and patient.

        Objects of two patients are never one series, whatever their UIDs state.
        """
        patient = self.worklist.pseudonym(attributes.patient) or "-"
        return f"{attributes.series} {hashlib.sha256(f'{attributes.study} {patient}'.encode()).hexdigest()[:8]}"

    def arrivals(self, topic: str) -> list[Arrival]:
        """Return all objects of a series, including those whose files have been deleted."""
        return [_arrival_of(item) for item in self.queue.items(topic=topic, limit=_ALL)]

    def finish(self, arrivals: Sequence[Arrival]) -> None:
        """Mark objects as finished: the result of their series is on the disk."""
        self.queue.finish([arrival.item for arrival in arrivals])

    def write_out(self, instance: str, data: bytes) -> str:
        """Store an object that is to be sent; return its path relative to the spool folder.

        Raises:
            StorageFull: There is no room.
        """
        self._reserve(len(data))
        file = f"out/{_file_stem(instance)}.dcm"
        _store(self.folder / file, data)
        return file

    def delete_old(self, keep_seconds: float) -> int:
        """Delete files older than `keep_seconds` that no queue waits for; return their number. Queue items stay."""
        before, deleted = time.time() - keep_seconds, 0
        waiting = {
            _file_stem(item.key.split(" ")[0])
            for name in (RECEIVED, OUTGOING)
            for item in self.worklist.queue(name).items(state="waiting", limit=_ALL)
        }
        for path in self._files():
            with suppress(OSError):
                status = path.stat()
                if status.st_mtime < before and path.stem not in waiting:
                    path.unlink()
                    self._release(status.st_size)
                    deleted += 1
        return deleted

    def _files(self) -> list[Path]:
        return [path for name in ("in", "out") for path in (self.folder / name).glob("*.dcm")]

    def _reserve(self, size: int) -> None:
        """Count `size` bytes as used. Raises `StorageFull` if they would exceed a limit."""
        with self._lock:
            if self.used + size > self.max_bytes:
                raise StorageFull(f"{self.folder}: the spool holds {self.used >> 20} of {self.max_bytes >> 20} MiB")
            free = shutil.disk_usage(self.folder).free
            if free - size < self.min_free:
                raise StorageFull(f"{self.folder}: {free >> 20} MiB free; {self.min_free >> 20} MiB must stay free")
            self.used += size

    def _release(self, size: int) -> None:
        with self._lock:
            self.used -= size

    def _sweep(self) -> int:
        """Delete temporary files and received files without a queue item; return the size of the others in bytes."""
        used = 0
        names = {Path(_arrival_of(item).file).name for item in self.queue.items(limit=_ALL)}
        for folder in (self.folder / "in", self.folder / "out"):
            for path in folder.iterdir():
                if path.name.startswith(".tmp-") or (folder.name == "in" and path.name not in names):
                    path.unlink()
                else:
                    used += path.stat().st_size
        return used


def _store(path: Path, data: bytes) -> None:
    """Write a file of the spool durably.

    Raises:
        StorageFull: The disk is full; no file was left.
        EdgeCTError: The file cannot be written for another reason.
    """
    try:
        write_durably(path, data)
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise StorageFull(f"{path.parent}: the disk is full; nothing was stored") from error
        raise EdgeCTError(f"{path.parent}: cannot be written: {error.strerror}") from error


def _arrival_of(item: Item) -> Arrival:
    return msgspec.structs.replace(msgspec.json.decode(item.payload, type=Arrival), item=item.id)


def _file_stem(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:40]
