"""What a machine says of itself, on made-up ones."""

from pathlib import Path

import pytest

from edge_ct.benchmarks.measure import machine


def test_machine_says_what_it_knows() -> None:
    found = machine.describe()
    assert found.cores >= 1
    assert found.runtime.startswith(("ai-edge-litert", "tflite-runtime"))
    assert found.memory_gb is None or found.memory_gb > 0


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert machine.condition(tmp_path) == machine.Condition(None, None, None, None)


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ("0", ()),
        ("0x1", ("under-voltage",)),
        ("50005", ("under-voltage", "throttled", "under-voltage since start", "throttled since start")),
    ],
)
def test_a_raspberry_pi(tmp_path: Path, bits: str, words: tuple[str, ...]) -> None:
    """Bits as the firmware's documentation has them: 0 and 2, and 16 higher those since the start."""
    root = tmp_path
    firmware = root / "sys/devices/platform/soc/soc:firmware/get_throttled"
    firmware.parent.mkdir(parents=True)
    firmware.write_text(f"{bits}\n")
    for zone, temperature in (("thermal_zone0", "48312"), ("thermal_zone1", "61000")):
        path = root / "sys/class/thermal" / zone / "temp"
        path.parent.mkdir(parents=True)
        path.write_text(temperature)
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    frequency.parent.mkdir(parents=True)
    frequency.write_text("1800000")
    (root / "proc").mkdir()
    (root / "proc/loadavg").write_text("0.52 0.58 0.59 1/467 12345")
    found = machine.condition(root)
    assert (found.mhz, found.celsius, found.load, found.throttled) == (1800, 61, 0.52, words)


def test_what_throttled_meanwhile() -> None:
    before = machine.Condition(None, None, None, ("under-voltage since start",))
    after = machine.Condition(None, None, None, ("under-voltage since start", "throttled"))
    assert machine.throttled_since(before, after) == ("throttled",)
    assert machine.throttled_since(after, machine.Condition(None, None, None, None)) == ()


def test_a_processor_that_counts_thermal_events(tmp_path: Path) -> None:
    path = tmp_path / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    path.parent.mkdir(parents=True)
    path.write_text("0")
    assert machine.condition(tmp_path).throttled == ()
    path.write_text("7")
    assert machine.condition(tmp_path).throttled == ("7 thermal events since start",)
