"""Latency: percentiles by hand, counts and seconds kept, memory and exit codes of real processes."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_ct import cli
from edge_ct.benchmarks import latency, machine
from edge_ct.errors import EdgeCTError, InputRejected, ModelRejected


def test_summary_of_known_times() -> None:
    found = latency.summarise([float(ms) for ms in range(1, 102)], threads=2)
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == (51, 91, 100)
    assert (found.mean_ms, found.min_ms, found.max_ms, found.n, found.threads) == (51, 1, 101, 101, 2)
    assert found.std_ms == pytest.approx(29.300170647967224)  # sqrt(101 * 102 / 12)


def test_queries_are_counted_after_the_warm_up_and_last_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(latency, "perf_counter", lambda: next(seconds) * 0.5)
    nanoseconds = itertools.count(step=2_000_000)
    monkeypatch.setattr(latency, "perf_counter_ns", lambda: next(nanoseconds))
    asked = []
    times, _ = latency.measure(asked.append, queries=5, seconds=0, label="x")
    assert times == [2.0] * 5
    assert asked == [*range(latency.WARM_UP), *range(5)]
    times, _ = latency.measure(asked.append, queries=5, seconds=20, label="x")
    assert len(times) == 5 + 39  # the clock is first looked at after the fifth, and every look takes half a second


def test_a_cold_run_reports_its_memory_and_fails_with_its_process() -> None:
    _, small = latency.cold_run([sys.executable, "-c", "pass"])
    _, large = latency.cold_run([sys.executable, "-c", "x = bytearray(100 << 20)"])
    assert 90 < large - small < 115
    with pytest.raises(EdgeCTError, match="exit code 3"):
        latency.cold_run([sys.executable, "-c", "raise SystemExit(3)"])


def test_phantom_files_are_slices_of_the_stated_size() -> None:
    from edge_ct import slices

    pixels = slices.decode(latency.phantom_files(1)[0], "phantom").pixels
    assert pixels.shape == (512, 512)


def test_machine_says_what_it_knows() -> None:
    found = machine.describe()
    assert found.cores >= 1
    assert found.runtime.startswith(("ai-edge-litert", "tflite-runtime"))
    assert found.memory_gb is None or found.memory_gb > 0


@pytest.mark.slow
def test_the_command_prints_what_the_design_names(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["benchmark", str(tiny_bundle), "--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["quick"] is True
    for part in ("model_only", "end_to_end"):
        assert {"p50_ms", "p90_ms", "p99_ms", "mean_ms", "n", "threads"} <= set(found[part])
        assert 0 < found[part]["p50_ms"] <= found[part]["p90_ms"] <= found[part]["p99_ms"]
        assert found[part]["n"] == latency.QUICK_QUERIES
    assert found["end_to_end"]["p50_ms"] > found["model_only"]["p50_ms"]
    assert found["cold_start_ms"] > 10 * found["end_to_end"]["p50_ms"]
    assert 20 < found["peak_rss_mb"] < 300
    assert found["slices_per_second"] == pytest.approx(1000 / found["end_to_end"]["mean_ms"], rel=0.1)


def test_a_damaged_bundle_is_not_measured(tiny_bundle: Path, tmp_path: Path) -> None:
    content = bytearray(tiny_bundle.read_bytes())
    content[5000] ^= 1
    (tmp_path / "bad.tflite").write_bytes(content)
    with pytest.raises(ModelRejected, match="damaged"):
        latency.benchmark(tmp_path / "bad.tflite", None, 1, quick=True)


def test_a_folder_without_slices_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no")
    with pytest.raises(InputRejected, match="no readable slice"):
        latency.benchmark(tiny_bundle, tmp_path, 1, quick=True)


def test_timing_the_timer_is_negligible() -> None:
    times, _ = latency.measure(lambda i: None, queries=2000, seconds=0, label="nothing")
    assert np.median(times) < 0.005
