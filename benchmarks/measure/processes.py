"""Whole processes: their wall time, and the most memory they held; and what this one holds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_ct.errors import EdgeCTError
from edge_ct.system.progress import QUIET, Progress

# Runs a command and prints its wall time and peak memory. A process of its own, and a small one: the kernel counts
# what the parent held at the fork towards the child's peak.
_LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(1000 * (time.perf_counter() - start), usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


def cold_starts(command: Sequence[str], count: int, progress: Progress = QUIET) -> list[tuple[float, float]]:
    """`cold_run` several times."""
    with progress.bar("cold starts", count) as on_done:
        return [cold_run(command, on_done) for _ in range(count)]


def cold_run(command: Sequence[str], on_done: Callable[[int], None] = lambda steps: None) -> tuple[float, float]:
    """Run a command to its end. Returns its wall time in milliseconds and its peak resident memory in MB."""
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command], capture_output=True, text=True, check=True
    )
    wall, peak, code = launched.stdout.split()
    if code != "0":
        raise EdgeCTError(f"exit code {code} from: {' '.join(command)}")
    on_done(1)
    # Linux reports kilobytes, macOS bytes.
    return float(wall), float(peak) / (2**20 if sys.platform == "darwin" else 2**10)


def resident_mb() -> float | None:
    """What this process holds now, in MB; None where the machine does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return float(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
