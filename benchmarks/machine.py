"""What a measurement was made on: as much as the machine tells."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec


class Machine(msgspec.Struct, frozen=True):
    """cores: logical, usable by this process. governor: of the first core, None where the machine does not say."""

    cpu: str
    architecture: str
    cores: int
    memory_gb: float | None
    governor: str | None
    system: str
    python: str
    runtime: str


def describe() -> Machine:
    """Describe this machine."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return Machine(
        cpu=_cpu(),
        architecture=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=_memory_gb(),
        governor=governor.read_text().strip() if governor.exists() else None,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        runtime=_runtime(),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    # A Raspberry Pi names its board, not its processor.
    return named.get("model name") or named.get("Model") or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def _runtime() -> str:
    for name in ("ai-edge-litert", "tflite-runtime"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "none"
