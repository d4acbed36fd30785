"""Latency of runs, in Keras: that every member is asked, and that the command prints what it does for a bundle."""

from pathlib import Path

import msgspec
import pytest

from edge_ct import cli
from edge_ct.benchmarks.measure import keras_run, timing
from edge_ct.benchmarks.measure.bundle import Benchmark
from edge_ct.run import load_run, save_run_info


@pytest.mark.slow
def test_an_ensemble_is_measured_as_a_bundle_is(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = msgspec.structs.replace(
        load_run(trained_run).info, kind="ensemble", members=(str(trained_run), str(trained_run))
    )
    save_run_info(tmp_path / "both", info)
    asked = []
    infer = keras_run._infer
    monkeypatch.setattr(keras_run, "_infer", lambda *given: asked.append(infer(*given)))
    monkeypatch.setattr(timing, "QUICK_QUERIES", 20)
    monkeypatch.setattr(keras_run, "_QUICK_BATCH_SECONDS", 0.0)
    assert cli.run(["benchmark", str(tmp_path / "both"), "--quick", "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Benchmark)
    assert found.quick
    assert found.bytes == 2 * (trained_run / "model.keras").stat().st_size
    assert found.model_only.n == found.end_to_end.n == 20
    # Two members, twice as many queries and the warm-up before each.
    assert len(asked) == 2 * 2 * (20 + timing.WARM_UP)
    assert [own.batch for own in found.by_batch] == list(keras_run.BATCHES)
    assert (found.device, found.precision) == ("cpu", "float32")
    assert found.parameters == 2 * info.network.parameters
    assert 0 < found.model_only.min_ms <= found.model_only.p50_ms <= found.model_only.max_ms
    assert found.cold_start_ms > 500  # a framework is imported
    assert found.peak_rss_mb > 100
    assert found.machine.runtime.startswith("keras ")


def test_what_is_no_finished_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["benchmark", str(tmp_path), "--quick"]) == 7
    assert "not a run folder" in capsys.readouterr().err


def test_probabilities_of_a_run_are_those_that_it_stored(trained_run: Path) -> None:
    run = load_run(trained_run)
    (network,) = keras_run._load_networks(trained_run)
    rows = [line.split(",") for line in (trained_run / "predictions.csv").read_text().splitlines()[1:6]]
    for path, _, _, p in rows:
        content = (Path(run.info.data_path) / path).read_bytes()
        assert keras_run._infer(network, keras_run._preprocess(network, content)) == pytest.approx(float(p), abs=1e-5)
