"""Objects to send, as items of a queue in the worklist: each is delivered to each target at least once.

Deliveries survive restarts. An object has a reproducible UID, so a receiver that gets it twice stores it once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.imaging.slice_files import list_slices

from ...worklist.queue import OUTGOING, Item
from ...worklist.worklist import Worklist

LOG = logging.getLogger("edge_ct.send")
LEASE_SECONDS = 120.0
_BATCH = 32
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 300.0
# An object that the receiver refuses is given up in the end; one that does not reach it is retried without limit.
_MAX_REFUSALS = 5


class Parcel(msgspec.Struct, frozen=True):
    """An object to send; `file` is the absolute path of its DICOM file."""

    instance: str
    sop_class: str
    file: str


class SendResult(msgspec.Struct, frozen=True):
    """Outcome of sending one parcel.

    Attributes:
        error: Why the receiver did not store the object; None if it did.
        refused: True if the receiver refused the object itself, so that sending it again is unlikely to help.
    """

    error: str | None = None
    refused: bool = False


class Target(Protocol):
    """A receiver of objects."""

    def __str__(self) -> str: ...

    def send(self, parcels: Sequence[Parcel]) -> list[SendResult]:
        """Send parcels in order; return one result each. An unreachable receiver is a result, not an exception."""
        ...


@dataclass(frozen=True)
class SendCounts:
    """Number of parcels delivered, not delivered, and left waiting in the outbox."""

    delivered: int
    failed: int
    waiting: int


class Outbox:
    """The queue of parcels."""

    def __init__(self, worklist: Worklist) -> None:
        """Open the outbox of a worklist."""
        self._queue = worklist.queue(OUTGOING)

    def put(self, parcel: Parcel, target: str) -> bool:
        """Add a parcel durably; return False if the outbox already has this object for this target."""
        return self._queue.put(f"{parcel.instance} {target}", parcel, target) is not None

    def deliver(self, target: Target) -> tuple[int, int]:
        """Send the parcels that are due; return how many were delivered and how many were not."""
        delivered = failed = 0
        while items := self._queue.claim(_BATCH, LEASE_SECONDS, str(target)):
            parcels = [msgspec.json.decode(item.payload, type=Parcel) for item in items]
            results = target.send(parcels)
            for item, parcel, result in zip(items, parcels, results, strict=True):
                if self._record(item, parcel, result, target):
                    delivered += 1
                else:
                    failed += 1
            if any(result.error and not result.refused for result in results):
                break  # The receiver is unreachable; the parcels are retried later.
        return delivered, failed

    def retry_now(self) -> int:
        """Make all parcels that wait or were given up due now; return their number."""
        return self._queue.retry_all()

    def counts(self) -> dict[str, int]:
        """Return the number of parcels by state: waiting, done, failed."""
        return self._queue.counts()

    def targets(self) -> list[str]:
        """Return the targets for which parcels wait."""
        return [topic.topic for topic in self._queue.topics()]

    def _record(self, item: Item, parcel: Parcel, result: SendResult, target: Target) -> bool:
        """Record the result of one parcel; return whether it was delivered."""
        if result.error is None:
            self._queue.finish([item.id])
            LOG.info("%s delivered to %s", parcel.instance, target)
            return True
        if result.refused and item.attempts + 1 >= _MAX_REFUSALS:
            LOG.error("%s given up after %d refusals by %s: %s", parcel.instance, _MAX_REFUSALS, target, result.error)
            self._queue.give_up(item.id, result.error)
            return False
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(item.attempts, 16))
        LOG.warning("%s not delivered to %s, next try in %.0f s: %s", parcel.instance, target, wait, result.error)
        self._queue.retry(item.id, result.error, wait)
        return False


class Courier(threading.Thread):
    """A thread that delivers the parcels of one target when it is woken, and when a retry is due."""

    def __init__(self, outbox: Outbox, target: Target, every: float = 1.0) -> None:
        """Prepare the thread; it looks into the outbox at least every `every` seconds."""
        super().__init__(name=f"courier {target}", daemon=True)
        self._outbox, self.target, self._every = outbox, target, every
        self._wake, self._stopping = threading.Event(), False

    def wake(self) -> None:
        """Report that the outbox has a new parcel."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to end after the current delivery."""
        self._stopping = True
        self._wake.set()

    def run(self) -> None:
        """Deliver until `stop` is called."""
        while not self._stopping:
            try:
                self._outbox.deliver(self.target)
            except EdgeCTError as error:
                LOG.error("%s", error)
            self._wake.wait(self._every)
            self._wake.clear()


def send_files(worklist: Worklist, sources: Iterable[Path], targets: Sequence[Target], retry: bool) -> SendCounts:
    """Put files and folders into the outbox, and deliver what is due for the targets.

    Args:
        worklist: The worklist that holds the outbox.
        sources: DICOM files, and folders of them.
        targets: Where to send, at least one.
        retry: Also try now what was given up or waits for its next try.

    Raises:
        EdgeCTError: A source is not a readable DICOM file.
    """
    outbox = Outbox(worklist)
    for source in sources:
        for path in list_slices(source).with_unreadable if source.is_dir() else [source]:
            parcel = read_parcel(path)
            for target in targets:
                outbox.put(parcel, str(target))
    if retry:
        outbox.retry_now()
    delivered, failed = (sum(counts) for counts in zip(*map(outbox.deliver, targets), strict=True))
    return SendCounts(delivered, failed, outbox.counts()["waiting"])


def read_parcel(path: Path) -> Parcel:
    """Return the parcel of a DICOM file.

    Raises:
        EdgeCTError: The file cannot be read.
    """
    from edge_ct.dicom import read_dataset

    with suppress(OSError), path.open("rb") as file:
        dataset = read_dataset(file, str(path), pixels=False)
        return Parcel(str(dataset.get("SOPInstanceUID", "")), str(dataset.get("SOPClassUID", "")), str(path.resolve()))
    raise EdgeCTError(f"{path}: cannot be read")
