"""Processors, memory and temperature of a Linux machine. A value is None where the machine does not report it."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that are still available to programs.

    Args:
        root: Root of the file system; tests replace it.
    """
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def temperature(root: Path = Path("/")) -> float | None:
    """Return the temperature of the hottest thermal zone, in degrees Celsius."""
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
    """Return the resident memory of a process, in bytes."""
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


def instruction_sets(root: Path = Path("/")) -> frozenset[str]:
    """Return the instruction sets of the processor as Linux names them; empty if it does not report them."""
    try:
        for line in (root / "proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(value.split())
    except OSError:
        pass
    return frozenset()


def peak_memory() -> int:
    """Return the most memory that this process has held at once, in bytes; Windows does not report it."""
    import resource  # Windows has no such module

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
