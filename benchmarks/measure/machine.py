"""The machine that a measurement was made on, and its condition meanwhile, as far as it reports them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

from edge_ct.engines.names import DEFAULT_ENGINE, describe_engine
from edge_ct.system.host import instruction_sets, processors, temperature

_CPUFREQ = "devices/system/cpu/cpu0/cpufreq"
# Bits of `get_throttled` of a Raspberry Pi's firmware: the present state, and 16 bits higher the state since the start.
_THROTTLED = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_SINCE_START = 16


class Machine(msgspec.Struct, frozen=True):
    """Hardware and software of a machine.

    Attributes:
        cpu: Name of the processor; a Raspberry Pi reports its board instead.
        architecture: `x86_64`, `aarch64`, ...
        cores: Logical cores that this process may use.
        memory_gb: Memory in GB, or None if unknown.
        governor: Frequency governor of the first core, or None if unknown.
        system: Operating system and kernel.
        python: Version of Python.
        runtime: TFLite runtime and its version, or `none`.
        max_mhz: Highest clock frequency, or None if unknown.
        vectors: Vector instruction sets of the processor that decide how fast a network runs.
    """

    cpu: str
    architecture: str
    cores: int
    memory_gb: float | None
    governor: str | None
    system: str
    python: str
    runtime: str
    max_mhz: float | None = None
    vectors: tuple[str, ...] = ()


class Condition(msgspec.Struct, frozen=True):
    """Condition of the machine at one moment; a field is None if the machine does not report it.

    Attributes:
        mhz: Clock frequency.
        celsius: Temperature of the hottest thermal zone.
        load: Mean number of runnable processes over the last minute, this one included.
        throttled: What a Raspberry Pi's firmware, or the processor's count of thermal events, reports.
    """

    mhz: float | None
    celsius: float | None
    load: float | None
    throttled: tuple[str, ...] | None


def describe() -> Machine:
    """Describe this machine."""
    governor = _read(Path("/sys") / _CPUFREQ / "scaling_governor")
    flags = instruction_sets()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
    return Machine(
        cpu=_cpu(),
        architecture=platform.machine(),
        cores=processors(),
        memory_gb=_memory_gb(),
        governor=governor,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        runtime=describe_engine(DEFAULT_ENGINE),
        max_mhz=_scaled(_read(Path("/sys") / _CPUFREQ / "cpuinfo_max_freq"), 1e-3),
        vectors=tuple(name for name in wanted if name in flags),
    )


def condition(root: Path = Path("/")) -> Condition:
    """Return the present condition of the machine; `root` is the folder that holds /sys and /proc."""
    frequency = _scaled(_read(root / "sys" / _CPUFREQ / "scaling_cur_freq"), 1e-3)
    return Condition(
        mhz=frequency or _scaled(_cpuinfo(root).get("cpu MHz"), 1),
        celsius=temperature(root),
        load=_scaled((_read(root / "proc/loadavg") or "").partition(" ")[0], 1),
        throttled=_throttled(root),
    )


def throttled_since(before: Condition, after: Condition) -> tuple[str, ...]:
    """Return the causes of throttling that were reported after, and not before."""
    return tuple(word for word in after.throttled or () if word not in (before.throttled or ()))


def _throttled(root: Path) -> tuple[str, ...] | None:
    firmware = _read(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if firmware is not None:
        bits = int(firmware, 16)
        now = [name for bit, name in _THROTTLED.items() if bits >> bit & 1]
        once = [f"{name} since start" for bit, name in _THROTTLED.items() if bits >> (bit + _SINCE_START) & 1]
        return (*now, *once)
    events = _read(root / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count")
    if events is None:
        return None
    return () if events == "0" else (f"{events} thermal events since start",)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _scaled(text: str | None, factor: float) -> float | None:
    try:
        return round(float(text or ""), 3) * factor
    except ValueError:
        return None


def _cpuinfo(root: Path = Path("/")) -> dict[str, str]:
    lines = (_read(root / "proc/cpuinfo") or "").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in fields.items()}


def _cpu() -> str:
    info = _cpuinfo()
    # A Raspberry Pi names its board, not its processor.
    return info.get("model name") or info.get("Model") or platform.processor() or platform.machine() or "unknown"


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
