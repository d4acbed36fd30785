"""Comparing measurements: on an invented clock, with jitter, drift and outliers as a real machine has them."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ct import cli
from edge_ct.benchmarks.measure import bundle, compare, machine, timing
from edge_ct.errors import EdgeCTError, GateFailed


class NoisyMachine:
    """A clock on which a query of `ms` takes that, with jitter, a slow drift, and now and then three times as long."""

    def __init__(self, seed: int) -> None:
        self.generator, self.now, self.drift = np.random.default_rng(seed), 0, 0.0

    def __call__(self) -> int:
        self.now += 40
        return self.now

    def spend(self, ms: float) -> None:
        self.drift = 0.98 * self.drift + self.generator.normal(0, 0.002)
        jitter = self.generator.lognormal(0, 0.05) * (3 if self.generator.random() < 0.01 else 1)
        self.now += round(1e6 * ms * jitter * (1 + self.drift))


def measured(seed: int, slowdown: float = 1.0, name: str = "net-int8@00000000", n: int = 1024) -> bundle.Benchmark:
    clock = NoisyMachine(seed)

    def times(ms: float) -> timing.Latency:
        found, _ = timing.measure(lambda i: clock.spend(ms * slowdown), n, 0, "x", clock=clock)
        return timing.summarise(found, 1)

    row = bundle.ThreadLatency(1, times(2.0), times(3.5))
    starts = tuple((150 * clock.generator.lognormal(0, 0.02, 5)).tolist())
    return bundle.Benchmark(
        model=name,
        bytes=1000,
        slices="phantoms",
        quick=False,
        model_only=row.model_only,
        end_to_end=row.end_to_end,
        cold_start_ms=float(np.median(starts)),
        peak_rss_mb=70.0,
        slices_per_second=300.0,
        machine=machine.describe(),
        by_threads=(row,),
        cold_starts_ms=starts,
    )


def against(first: bundle.Benchmark, second: bundle.Benchmark, tolerance: float = 5.0) -> compare.Comparison:
    return compare.compare({"net": first}, {"net": second}, tolerance)


@pytest.mark.parametrize("seed", range(10))
def test_a_slowdown_of_a_fifth_is_found(seed: int) -> None:
    found = against(measured(seed), measured(1000 + seed, slowdown=1.2))
    assert {change.measure for change in found.regressions} == {
        f"{part} {measure}" for part in ("model_only", "end_to_end") for measure in ("p50_ms", "p90_ms")
    }
    with pytest.raises(GateFailed, match=r"4 regressions past 5 %"):
        compare.enforce(found)


@pytest.mark.parametrize("seed", range(10))
def test_two_equal_runs_are_not_flagged(seed: int) -> None:
    found = against(measured(seed), measured(1000 + seed))
    assert found.regressions == ()
    compare.enforce(found)


@pytest.mark.parametrize("seed", range(10))
def test_nor_a_faster_one(seed: int) -> None:
    found = against(measured(seed, slowdown=1.2), measured(1000 + seed))
    assert found.regressions == ()
    assert {change.measure for change in found.changes if change.verdict == "better"} >= {"model_only p50_ms"}


def test_the_tolerance_is_what_may_be_lost() -> None:
    before, after = measured(1), measured(2, slowdown=1.2)
    assert against(before, after, tolerance=30).regressions == ()
    assert any(change.verdict == "worse" for change in against(before, after, tolerance=30).changes)


def test_a_run_against_itself_is_the_same() -> None:
    own = measured(3)
    assert {change.verdict for change in against(own, own).changes} == {"same"}
    assert all(change.ratio == 1 for change in against(own, own).changes)


def test_bytes_and_memory_go_by_the_tolerance_alone() -> None:
    own = measured(4)
    heavy = msgspec.structs.replace(own, peak_rss_mb=80.0, bytes=1040)
    (memory,) = against(own, heavy).regressions
    assert (memory.measure, memory.low) == ("peak_rss_mb", None)


def test_the_interval_holds_the_ratio_of_known_blocks() -> None:
    low, high = compare.ratio_interval([1.0, 1.1, 0.9, 1.0, 1.05], [2.0, 2.2, 1.8, 2.0, 2.1])
    assert 1.5 < low < 2 < high < 2.6
    assert compare.ratio_interval([1.0] * 5, [1.2] * 5) == (pytest.approx(1.2), pytest.approx(1.2))


def test_what_makes_two_hard_to_compare_is_said() -> None:
    own = measured(5)
    other = msgspec.structs.replace(
        own, quick=True, slices="others", machine=msgspec.structs.replace(own.machine, cpu="Cortex-A76")
    )
    notes = " ".join(against(own, other).notes)
    assert "cpu was" in notes
    assert "quick" in notes
    assert "different slices: phantoms before, others after" in notes


def written(path: Path, *found: bundle.Benchmark) -> Path:
    report = {"subjects": [{"benchmark": msgspec.to_builtins(own)} for own in found]}
    path.write_bytes(msgspec.json.encode(found[0] if len(found) == 1 else report))
    return path


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = written(tmp_path / "a.json", measured(1))
    same, slow = written(tmp_path / "b.json", measured(2)), written(tmp_path / "c.json", measured(3, 1.2))
    assert cli.run(["benchmark", "compare", str(before), str(same)]) == 0
    assert "regression" not in capsys.readouterr().out
    assert cli.run(["benchmark", "compare", str(before), str(slow)]) == 5
    out, err = capsys.readouterr()
    assert out.count("regression") == 4
    assert err.startswith("edge-ct: 4 regressions past 5 %")
    assert cli.run(["benchmark", "compare", str(before), str(slow), "--tolerance", "40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tolerance"] == 40


def test_reports_are_compared_model_by_model(tmp_path: Path) -> None:
    first = written(tmp_path / "a.json", measured(1, name="a@1"), measured(2, name="b@1"), measured(3, name="c@1"))
    second = written(
        tmp_path / "b.json", measured(4, name="a@2"), measured(5, 1.2, name="b@2"), measured(6, name="d@2")
    )
    found = compare.compare(compare.read(first), compare.read(second), 5.0)
    assert {change.model for change in found.changes} == {"a", "b"}
    assert {change.model for change in found.regressions} == {"b"}
    assert "only before: c" in found.notes
    with pytest.raises(EdgeCTError, match="no model is in both"):
        compare.compare({"a": measured(1), "b": measured(1)}, {"c": measured(1), "d": measured(1)}, 5.0)


@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_what_is_no_measurement_is_one_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bad") / "x.json"
    path.write_bytes(content)
    with pytest.raises(EdgeCTError):
        compare.read(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError, match="cannot be read"):
        compare.read(tmp_path / "none.json")
