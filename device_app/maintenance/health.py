"""The device as the page shows it: temperature, disk, memory, clock; what the machine does not tell is None."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from edge_ct.system import host

_HOT = 80.0  # degrees Celsius: a Raspberry Pi slows down from here
_LOW_DISK = 512 << 20
_LOW_MEMORY = 100 << 20
# A machine without a battery clock starts in the past.
_NOT_BEFORE = 1_767_225_600  # 2026-01-01


@dataclass(frozen=True)
class Health:
    """temperature: degrees Celsius, the hottest sensor. Sizes in bytes. memory: resident, of this process."""

    temperature: float | None
    disk_free: int
    disk_total: int
    memory: int | None
    memory_free: int | None
    load: float
    clock_good: bool

    @property
    def hot(self) -> bool:
        """So hot that it slows down."""
        return self.temperature is not None and self.temperature >= _HOT

    @property
    def disk_low(self) -> bool:
        """Nearly full."""
        return self.disk_free < _LOW_DISK

    @property
    def memory_low(self) -> bool:
        """Nearly none left."""
        return self.memory_free is not None and self.memory_free < _LOW_MEMORY


def look(folder: Path, now: float | None = None) -> Health:
    """How the device is. folder: on the disk that counts."""
    try:
        disk = shutil.disk_usage(folder)
        free, total = disk.free, disk.total
    except OSError:
        free, total = 0, 0
    return Health(
        temperature=host.temperature(),
        disk_free=free,
        disk_total=total,
        memory=host.resident_memory(),
        memory_free=host.available_memory(),
        load=os.getloadavg()[0],
        clock_good=(time.time() if now is None else now) >= _NOT_BEFORE,
    )
