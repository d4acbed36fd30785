"""Wall time and peak memory of whole processes, and the memory of this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edge_ct.errors import EdgeCTError
from edge_ct.system.host import resident_memory
from edge_ct.system.progress import QUIET, Progress

# Runs a command and prints its wall time, peak memory, exit code and processor time. It is a small process of its own,
# because the kernel counts the parent's memory at the fork towards the child's peak.
_LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
wall = 1000 * (time.perf_counter() - start)
print(wall, usage.ru_maxrss, os.waitstatus_to_exitcode(status), 1000 * (usage.ru_utime + usage.ru_stime))
"""


class ProcessCost(NamedTuple):
    """What a process took: wall time and processor time in milliseconds, and peak resident memory in MB."""

    wall_ms: float
    peak_mb: float
    cpu_ms: float


def cold_starts(command: Sequence[str], count: int, progress: Progress = QUIET) -> list[tuple[float, float]]:
    """Run a command `count` times; each entry is what `cold_run` returns."""
    with progress.bar("cold starts", count) as on_done:
        return [cold_run(command, on_done) for _ in range(count)]


def cold_run(command: Sequence[str], on_done: Callable[[int], None] = lambda steps: None) -> tuple[float, float]:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        on_done: Called with 1 afterwards.

    Returns:
        Wall time in milliseconds and peak resident memory in MB.

    Raises:
        EdgeCTError: The command did not end with exit code 0.
    """
    cost = process_cost(command)
    on_done(1)
    return cost.wall_ms, cost.peak_mb


def process_cost(command: Sequence[str]) -> ProcessCost:
    """Run a command to its end and return what it took.

    Raises:
        EdgeCTError: The command did not end with exit code 0.
    """
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command], capture_output=True, text=True, check=True
    )
    wall, peak, code, cpu = launched.stdout.split()
    if code != "0":
        raise EdgeCTError(f"exit code {code} from: {' '.join(command)}")
    # Linux reports kilobytes, macOS bytes.
    return ProcessCost(float(wall), float(peak) / (2**20 if sys.platform == "darwin" else 2**10), float(cpu))


def resident_mb() -> float | None:
    """Return the resident memory of this process in MB, or None if the machine does not report it."""
    memory = resident_memory()
    return None if memory is None else memory / 2**20
