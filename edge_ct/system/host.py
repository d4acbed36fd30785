"""What a Linux machine tells of itself: memory, temperature, clock. None where it tells nothing."""

from __future__ import annotations

import os
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that programs can still have."""
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def temperature(root: Path = Path("/")) -> float | None:
    """Degrees Celsius of the hottest thermal zone."""
    found = []
    try:
        zones = sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))
    except OSError:
        return None
    for zone in zones:
        try:
            found.append(int(zone.read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError):
            continue
    return max((degrees for degrees in found if -40 < degrees < 150), default=None)


def resident_memory(root: Path = Path("/"), process: str = "self") -> int | None:
    """Bytes of memory that a process holds."""
    try:
        for line in (root / "proc" / process / "status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def processors() -> int:
    """Return the number of processors that this process may use: `taskset` and containers may allow fewer."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
