"""Received objects: on the disk and in the worklist's queue before they are acknowledged; and those to be sent.

Files are named after digests of UIDs: nothing that a peer writes becomes part of a path.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_ct.errors import EdgeCTError, StorageFull

from ...judging.dicom_frames import FrameAttributes
from ...worklist.queue import Item
from ...worklist.worklist import Worklist

RECEIVED = "dicom-received"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Arrival(msgspec.Struct, frozen=True):
    """A received object. topic: its series, of one patient and study. file: below the spool. sha256: of the file.

    item: its number in the queue. expected: instances that its series has, where the sender says so.
    """

    instance: str
    topic: str
    file: str
    size: int
    sha256: str
    expected: int | None
    item: int = 0


class Spool:
    """A folder of objects, beside the worklist.

    max_bytes: of all objects together. min_free: bytes that must stay free on the disk.
    """

    def __init__(self, folder: Path, worklist: Worklist, max_bytes: int = 16 << 30, min_free: int = 256 << 20) -> None:
        """Open the spool; what a crash has left half received, or received and not acknowledged, is removed."""
        self.folder, self.worklist = folder, worklist
        self.max_bytes, self.min_free = max_bytes, min_free
        self.queue = worklist.queue(RECEIVED)
        self._lock = threading.Lock()
        try:
            for name in ("in", "out"):
                (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            self.used = self._sweep()
        except OSError as error:
            raise EdgeCTError(f"{folder}: the spool cannot be kept there: {error.strerror or error}") from error

    def store(self, data: bytes, facts: FrameAttributes) -> Arrival | None:
        """Keep an object; when this returns, it and its row are on the disk. None where it is held already.

        Raises `StorageFull`, with nothing half stored.
        """
        arrival = Arrival(
            facts.instance,
            self.topic(facts),
            f"in/{_name(facts.instance)}.dcm",
            len(data),
            hashlib.sha256(data).hexdigest(),
            facts.expected,
        )
        if self.queue.get(arrival.instance):
            return None
        path = self.folder / arrival.file
        self._make_room(len(data))
        self.worklist.check_room()
        try:
            write_durably(path, data)
            if not self.queue.put(arrival.instance, arrival, arrival.topic):
                self._count(-len(data))  # another association was quicker; the file is the same instance's
                return None
        except StorageFull:
            self._count(-len(data))
            if not self.queue.get(arrival.instance):
                with suppress(OSError):
                    path.unlink()
            raise
        item = self.queue.get(arrival.instance)
        return msgspec.structs.replace(arrival, item=item.id if item else 0)

    def topic(self, facts: FrameAttributes) -> str:
        """What a series is known by. Objects of two patients never become one series, whatever their UIDs say."""
        patient = self.worklist.pseudonym(facts.patient) or "-"
        return f"{facts.series} {hashlib.sha256(f'{facts.study} {patient}'.encode()).hexdigest()[:8]}"

    def arrivals(self, topic: str) -> list[Arrival]:
        """All objects of a series that are held or were."""
        return [_arrival(item) for item in self.queue.items(topic=topic, limit=1 << 20)]

    def finish(self, arrivals: Sequence[Arrival]) -> None:
        """These belong to a result that is on the disk."""
        self.queue.finish([arrival.item for arrival in arrivals])

    def write_out(self, instance: str, data: bytes) -> str:
        """Keep an object that is to be sent; returns its place below the spool. Raises `StorageFull`."""
        self._make_room(len(data))
        file = f"out/{_name(instance)}.dcm"
        write_durably(self.folder / file, data)
        return file

    def forget(self, keep_seconds: float) -> int:
        """Delete objects that were judged, or sent, so long ago; returns how many. Their rows in the queues stay."""
        before, gone = time.time() - keep_seconds, 0
        waiting = {item.key for name in (RECEIVED, "dicom-out") for item in self._waiting(name)}
        for path in self._files():
            with suppress(OSError):
                status = path.stat()
                if status.st_mtime < before and path.stem not in {_name(key.split(" ")[0]) for key in waiting}:
                    path.unlink()
                    self._count(-status.st_size)
                    gone += 1
        return gone

    def _waiting(self, name: str) -> list[Item]:
        return self.worklist.queue(name).items(state="waiting", limit=1 << 20)

    def _files(self) -> list[Path]:
        return [path for name in ("in", "out") for path in (self.folder / name).glob("*.dcm")]

    def _make_room(self, coming: int) -> None:
        with self._lock:
            if self.used + coming > self.max_bytes:
                raise StorageFull(f"{self.folder}: holds {self.used >> 20} of {self.max_bytes >> 20} MiB")
            free = shutil.disk_usage(self.folder).free
            if free - coming < self.min_free:
                raise StorageFull(f"{self.folder}: {free >> 20} MiB free, {self.min_free >> 20} are kept back")
            self.used += coming

    def _count(self, size: int) -> None:
        with self._lock:
            self.used += size

    def _sweep(self) -> int:
        """Remove temporary files, and files without a row; returns the bytes that are left."""
        used = 0
        names = {Path(_arrival(item).file).name for item in self.queue.items(limit=1 << 24)}
        for folder in (self.folder / "in", self.folder / "out"):
            for path in folder.iterdir():
                if path.name.startswith(".tmp-") or (folder.name == "in" and path.name not in names):
                    path.unlink()
                else:
                    used += path.stat().st_size
        return used


def write_durably(path: Path, data: bytes) -> None:
    """Write a file; it is on the disk, under its name, when this returns. Raises `StorageFull`, `EdgeCTError`."""
    temporary = path.with_name(f".tmp-{os.getpid()}-{threading.get_ident()}-{path.name[:32]}")
    try:
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        if error.errno in _FULL:
            raise StorageFull(f"{path.parent}: the disk is full; nothing was stored") from error
        raise EdgeCTError(f"{path.parent}: cannot be written: {error.strerror}") from error


def _arrival(item: Item) -> Arrival:
    return msgspec.structs.replace(msgspec.json.decode(item.payload, type=Arrival), item=item.id)


def _name(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:40]
