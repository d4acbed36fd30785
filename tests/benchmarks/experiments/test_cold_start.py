"""A cold start against a bare script: the arithmetic by invented processes."""

import sys
from pathlib import Path

import pytest

from edge_ct.benchmarks.experiments import cold_start
from edge_ct.benchmarks.measure.processes import ProcessCost, process_cost


def test_ratios_are_of_medians_after_the_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def invented(command: list[str]) -> ProcessCost:
        name = "edge-ct" if command[0].endswith("edge-ct") else "bare"
        calls.append(name)
        slow = 9 if len(calls) <= 4 or len(calls) == 7 else 1  # the warm-up, and one disturbed process
        return ProcessCost(*((240 * slow, 78, 210 * slow) if name == "edge-ct" else (200 * slow, 60, 140 * slow)))

    monkeypatch.setattr(cold_start, "process_cost", invented)
    result = cold_start.compare_starts(tmp_path / "a.tflite", tmp_path / "a.png", 5)
    assert calls == ["bare", "edge-ct"] * 7
    assert (result.wall_ratio, result.cpu_ratio, result.memory_ratio) == (1.2, 1.5, 1.3)
    assert result.bare == ProcessCost(200, 60, 140)


def test_processor_time_is_that_of_the_process() -> None:
    idle = process_cost([sys.executable, "-c", "import time; time.sleep(0.5)"])
    busy = process_cost([sys.executable, "-c", "sum(range(20_000_000))"])
    assert idle.wall_ms > 500
    assert busy.cpu_ms > 3 * idle.cpu_ms
