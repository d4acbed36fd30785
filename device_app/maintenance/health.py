"""The state of the machine, and the limits by which the web page and `edge-ct doctor` both judge it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from edge_ct.manifest import Manifest
from edge_ct.system import host

from ..worklist.database import MIN_FREE
from ..worklist.reader import WorklistReader
from ..worklist.time_evidence import parse_time

Status = Literal["good", "warning", "failure"]
MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Two limits of a measurement: at the first it deserves a warning, at the second it is a failure."""

    warning: float
    failure: float


# Degrees Celsius, upper limits: a Raspberry Pi begins to slow down at 80 degrees, and slows down severely at 85.
TEMPERATURE = Limits(78, 85)
# Free bytes, lower limits. Below `MIN_FREE` the worklist stores nothing.
DISK = Limits(4 * MIN_FREE, MIN_FREE)
# Available bytes, lower limits.
MEMORY = Limits(192 * MIB, 64 * MIB)
# Running processes for each processor: above it slices are judged late, but not wrongly, so that it is no failure.
LOAD_WARNING = 2
# A clock may be this much behind the latest known moment, and this much ahead of it without a warning.
CLOCK_BEHIND, CLOCK_AHEAD = timedelta(minutes=5), timedelta(days=3650)


@dataclass(frozen=True)
class KnownMoment:
    """A moment that has passed, so that a clock which shows an earlier time is wrong.

    Attributes:
        event: What happened then.
    """

    time: datetime
    event: str


def temperature_status(degrees: float | None) -> Status:
    """Judge the temperature in degrees Celsius; None, a machine without a sensor, is good."""
    if degrees is None or degrees < TEMPERATURE.warning:
        return "good"
    return "warning" if degrees < TEMPERATURE.failure else "failure"


def disk_status(free: int) -> Status:
    """Judge the free bytes of the disk."""
    return _status_above(free, DISK)


def memory_status(available: int | None) -> Status:
    """Judge the available bytes of memory; None, a machine that does not report them, deserves a warning."""
    return "warning" if available is None else _status_above(available, MEMORY)


def load_status(load: float, processors: int) -> Status:
    """Judge the average number of running processes in the last minute."""
    return "good" if load / max(1, processors) < LOAD_WARNING else "warning"


def clock_status(now: datetime, known: Sequence[KnownMoment]) -> Status:
    """Judge the clock. A machine without a battery starts in the past, and its results would have wrong times."""
    if any(moment.time - now > CLOCK_BEHIND for moment in known):
        return "failure"
    return "warning" if known and now - max(moment.time for moment in known) > CLOCK_AHEAD else "good"


def known_moments(manifest: Manifest | None, worklist: WorklistReader | None) -> list[KnownMoment]:
    """Return when the bundle was made and when the latest entry of the audit trail was written, as far as known."""
    moments = []
    if manifest:
        with suppress(ValueError):
            moments.append(KnownMoment(parse_time(manifest.created), "the bundle was made"))
    latest = worklist.compare_clock(datetime.now(timezone.utc)).latest if worklist else None
    if latest:
        moments.append(KnownMoment(latest, "the worklist's latest entry was written"))
    return moments


@dataclass(frozen=True)
class Health:
    """The state of the machine. Sizes are in bytes; None is a measurement that the machine does not report.

    Attributes:
        temperature: Degrees Celsius of the hottest sensor.
        memory: Resident memory of this process.
        memory_free: Memory that programs can still allocate.
        load: Average number of running processes in the last minute.
        processors: Number of processors that this process may use.
        clock: How `clock_status` judges the clock.
    """

    temperature: float | None
    disk_free: int
    disk_total: int
    memory: int | None
    memory_free: int | None
    load: float
    processors: int
    clock: Status

    def statuses(self) -> dict[str, Status]:
        """Return how each measurement is judged, the gravest first."""
        judged: dict[str, Status] = {
            "disk": disk_status(self.disk_free),
            "clock": self.clock,
            "memory": memory_status(self.memory_free),
            "temperature": temperature_status(self.temperature),
            "load": load_status(self.load, self.processors),
        }
        rank: list[Status] = ["failure", "warning", "good"]
        return dict(sorted(judged.items(), key=lambda item: rank.index(item[1])))


def read_health(
    worklist: WorklistReader, manifest: Manifest, root: Path = Path("/"), now: datetime | None = None
) -> Health:
    """Return the state of the machine.

    Args:
        worklist: The worklist; its disk is the one that counts.
        manifest: The manifest of the bundle in use.
        root: Root of the file system whose `/proc` and `/sys` are read.
        now: The current time, with its time zone.
    """
    try:
        disk = shutil.disk_usage(worklist.folder)
        free, total = disk.free, disk.total
    except OSError:
        free, total = 0, 0
    return Health(
        temperature=host.temperature(root),
        disk_free=free,
        disk_total=total,
        memory=host.resident_memory(root),
        memory_free=host.available_memory(root),
        load=os.getloadavg()[0],
        processors=host.processors(),
        clock=clock_status(now or datetime.now(timezone.utc), known_moments(manifest, worklist)),
    )


def _status_above(value: float, limits: Limits) -> Status:
    return "failure" if value < limits.failure else "warning" if value < limits.warning else "good"
