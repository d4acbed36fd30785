"""Objects to send, in the worklist's file: each goes to each target at least once, through restarts.

Its UID is stable, so a receiver that gets it twice keeps it once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from edge_ct.errors import EdgeCTError

from ...worklist.queue import Item
from ...worklist.worklist import Worklist

LOG = logging.getLogger("edge_ct.send")
QUEUE = "dicom-out"
LEASE_SECONDS = 120.0
_BATCH = 32
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 300.0
# An object that the receiver itself refuses is not tried for ever; one that does not reach it is.
_REFUSALS = 5


class Parcel(msgspec.Struct, frozen=True):
    """An object to send. file: an absolute path."""

    instance: str
    sop_class: str
    file: str


class Sent(msgspec.Struct, frozen=True):
    """What became of a parcel. error: None where it was taken. refused: by the receiver, for good by its status."""

    error: str | None = None
    refused: bool = False


class Target(Protocol):
    """Where objects go."""

    def __str__(self) -> str: ...

    def send(self, parcels: Sequence[Parcel]) -> list[Sent]:
        """Send them in turn; one answer each. A target that cannot be reached is an answer too, never an exception."""
        ...


class Outbox:
    """The queue of parcels."""

    def __init__(self, worklist: Worklist) -> None:
        self._queue = worklist.queue(QUEUE)

    def put(self, parcel: Parcel, target: str) -> bool:
        """Add a parcel, on the disk when this returns; False where this object is for this target already."""
        return self._queue.put(f"{parcel.instance} {target}", parcel, target)

    def deliver(self, target: Target) -> tuple[int, int]:
        """Send what waits for its turn. Returns how many were taken, and how many were not."""
        taken = failed = 0
        while items := self._queue.claim(_BATCH, LEASE_SECONDS, str(target)):
            parcels = [msgspec.json.decode(item.payload, type=Parcel) for item in items]
            answers = target.send(parcels)
            for item, parcel, answer in zip(items, parcels, answers, strict=True):
                if self._settle(item, parcel, answer, target):
                    taken += 1
                else:
                    failed += 1
            if any(answer.error and not answer.refused for answer in answers):
                break  # it is not there: its turn comes later
        return taken, failed

    def again(self) -> int:
        """Let everything that waits or was given up be tried now."""
        return self._queue.again()

    def counts(self) -> dict[str, int]:
        """How many wait, were taken, were given up."""
        return self._queue.counts()

    def targets(self) -> list[str]:
        """Targets for which something waits."""
        return [topic.topic for topic in self._queue.topics()]

    def _settle(self, item: Item, parcel: Parcel, answer: Sent, target: Target) -> bool:
        if answer.error is None:
            self._queue.done(item.id)
            LOG.info("%s taken by %s", parcel.instance, target)
            return True
        if answer.refused and item.attempts + 1 >= _REFUSALS:
            LOG.error("%s given up, refused %d times by %s: %s", parcel.instance, _REFUSALS, target, answer.error)
            self._queue.give_up(item.id, answer.error)
            return False
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(item.attempts, 16))
        LOG.warning("%s not taken by %s, again in %.0f s: %s", parcel.instance, target, wait, answer.error)
        self._queue.retry(item.id, answer.error, wait)
        return False


class Courier(threading.Thread):
    """Delivers to one target whenever something comes, and again when its turn has come."""

    def __init__(self, outbox: Outbox, target: Target, every: float = 1.0) -> None:
        super().__init__(name=f"courier {target}", daemon=True)
        self._outbox, self.target, self._every = outbox, target, every
        self._wake, self._stop_asked = threading.Event(), False

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    def stop(self) -> None:
        """End after what is being sent."""
        self._stop_asked = True
        self._wake.set()

    def run(self) -> None:
        while not self._stop_asked:
            try:
                self._outbox.deliver(self.target)
            except EdgeCTError as error:
                LOG.error("%s", error)
            self._wake.wait(self._every)
            self._wake.clear()


def parcel_of(path: Path) -> Parcel:
    """The parcel of a DICOM file. Raises `EdgeCTError`."""
    from edge_ct.dicom import read_dataset

    with suppress(OSError), path.open("rb") as file:
        dataset = read_dataset(file, str(path), pixels=False)
        return Parcel(str(dataset.get("SOPInstanceUID", "")), str(dataset.get("SOPClassUID", "")), str(path.resolve()))
    raise EdgeCTError(f"{path}: cannot be read")
