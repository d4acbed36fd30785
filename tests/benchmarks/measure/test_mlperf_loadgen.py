"""LoadGen: that it and we time the same queries alike, that its logs stay, and what a bad log is."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ct import cli
from edge_ct.benchmarks.measure import mlperf_loadgen
from edge_ct.errors import EdgeCTError

QUERIES, SECONDS = 80, 0.01


def quiet(asked: list[int]):  # type: ignore[no-untyped-def]
    """A query that does nothing for ten milliseconds."""

    def query(index: int) -> None:
        asked.append(index)
        time.sleep(SECONDS)

    return query


def test_both_time_the_same_queries_alike(tmp_path: Path) -> None:
    """Within 5 %, of the very same queries: a busy machine makes both slower."""
    pytest.importorskip("mlperf_loadgen")
    asked: list[int] = []
    found = mlperf_loadgen.single_stream(quiet(asked), 16, QUERIES, 0, tmp_path / "logs")
    assert found.queries == len(asked) >= QUERIES
    assert set(asked) <= set(range(16))
    assert found.p50_ms == pytest.approx(found.own_p50_ms, rel=0.05)
    assert found.p90_ms == pytest.approx(found.own_p90_ms, rel=0.05)
    assert found.p50_ms >= 1000 * SECONDS
    assert found.p90_estimate_ms >= found.p90_ms
    assert found.valid
    assert "SingleStream" in (tmp_path / "logs" / "mlperf_log_summary.txt").read_text()


def test_offline_counts_every_slice(tmp_path: Path) -> None:
    pytest.importorskip("mlperf_loadgen")
    asked: list[int] = []
    found = mlperf_loadgen.offline(quiet(asked), 16, QUERIES, 0, 100.0, tmp_path / "logs")
    assert len(asked) == found.slices >= QUERIES
    assert 0 < found.slices_per_second <= 1 / SECONDS


def test_a_query_that_fails_is_an_error_not_a_crash(tmp_path: Path) -> None:
    pytest.importorskip("mlperf_loadgen")

    def query(index: int) -> None:
        raise EdgeCTError("no")

    with pytest.raises(EdgeCTError, match="no"):
        mlperf_loadgen.single_stream(query, 4, 4, 0, tmp_path)


@pytest.mark.slow
def test_the_command_keeps_the_logs(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlperf_loadgen")
    arguments = ["benchmark", str(tiny_bundle), "--quick", "--loadgen", str(tmp_path / "logs"), "--json"]
    assert cli.run(arguments) == 0
    found = json.loads(capsys.readouterr().out)["loadgen"]
    assert found["single_stream"]["queries"] >= 200
    for scenario in ("single-stream", "offline"):
        assert (tmp_path / "logs" / scenario / "mlperf_log_detail.txt").is_file()


@given(st.binary(max_size=100) | st.text(max_size=60).map(lambda text: f":::MLLOG {text}".encode()))
def test_a_bad_log_is_one_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "mlperf_log_detail.txt"
    path.write_bytes(content)
    with pytest.raises(EdgeCTError):
        mlperf_loadgen.read_log(path)
