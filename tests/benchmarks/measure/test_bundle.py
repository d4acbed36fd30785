"""Latency of bundles: what the command prints, and what it refuses; memory and exit codes of real processes."""

import json
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_ct import cli
from edge_ct.benchmarks.measure import bundle, operator_times, processes, throughput, timing
from edge_ct.bundle import read_bundle
from edge_ct.engines.names import installed_engines
from edge_ct.errors import EdgeCTError, InputRejected, ModelRejected


def test_a_cold_run_reports_its_memory_and_fails_with_its_process() -> None:
    _, small = processes.cold_run([sys.executable, "-c", "pass"])
    _, large = processes.cold_run([sys.executable, "-c", "x = bytearray(100 << 20)"])
    assert 90 < large - small < 115
    with pytest.raises(EdgeCTError, match="exit code 3"):
        processes.cold_run([sys.executable, "-c", "raise SystemExit(3)"])


def test_resident_memory_grows_with_what_is_held() -> None:
    before = processes.resident_mb()
    if before is None:
        pytest.skip("this machine does not tell")
    # Mapped: what is allocated may be memory kept since an earlier test (`allocation.keep_freed`).
    held = np.frombuffer(mmap.mmap(-1, 50 << 20), np.uint8)
    held[:] = 1
    assert 40 < (processes.resident_mb() or 0) - before < 60
    assert held[0]


def test_phantom_files_are_slices_of_the_stated_size() -> None:
    from edge_ct import slices

    pixels = slices.decode(bundle.phantom_files(1)[0], "phantom").pixels
    assert pixels.shape == (512, 512)


def test_slices_are_taken_from_a_table_too(tmp_path: Path) -> None:
    content = bundle.phantom_files(1)[0]
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "slices.csv").write_text("path,label\na.png,COVID\nmissing.png,COVID\n")
    assert bundle.read_slice_files(tmp_path / "slices.csv") == [content]


@pytest.mark.slow
def test_the_command_prints_what_the_design_names(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "MANY", 300)
    options = ["--threads", "1,2", "--workers", "1-2", "--profile", "--quick", "--json"]
    assert cli.run(["benchmark", str(tiny_bundle), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["quick"] is True
    for part in ("model_only", "end_to_end"):
        assert {"p50_ms", "p90_ms", "p99_ms", "mean_ms", "n", "threads"} <= set(found[part])
        assert 0 < found[part]["p50_ms"] <= found[part]["p90_ms"] <= found[part]["p99_ms"]
        assert found[part]["n"] == timing.QUICK_QUERIES
    assert found["end_to_end"]["min_ms"] > found["model_only"]["min_ms"]
    assert len(found["cold_starts_ms"]) == bundle.COLD_STARTS
    assert 20 < found["peak_rss_mb"] < 300
    assert found["parameters"] == read_bundle(tiny_bundle).manifest.network.parameters
    assert [row["threads"] for row in found["by_threads"]] == [1, 2]
    assert [(row["workers"], row["slices"]) for row in found["by_workers"]] == [(1, 300), (2, 300)]
    assert sum(operator["macs"] for operator in found["profile"]["operators"]) == found["macs"] > 0
    assert found["backend"].startswith("ai-edge-litert")
    installed = installed_engines()
    assert [time["engine"] for time in found["engines"]] == list(installed if len(installed) > 1 else ())


def test_people_are_shown_the_same(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["benchmark", "run", str(tiny_bundle), "--quick"]) == 0
    text = capsys.readouterr().out
    assert ("the fastest engine here is" in text) == (len(installed_engines()) > 1)
    assert "(quick: too few queries for a report)" in text
    for word in ("model only", "end to end", "cold start", "sustained", "timer", "governor", "throttl"):
        assert word in text


def test_macs_are_those_of_the_layers(tiny_bundle: Path) -> None:
    """Of the network that the bundle was made of, counted from Keras' layers."""
    import keras

    from edge_ct.network_analysis.macs import count_macs
    from edge_ct.train.zoo.builder import build

    assert operator_times.count_macs(read_bundle(tiny_bundle).model) == count_macs(build(keras, "customcnn", 32))


def test_a_profile_is_the_differences_of_growing_pieces(tiny_bundle: Path) -> None:
    """On a clock that gives the k-th piece k times 10 microseconds, every operator takes 10."""
    model = read_bundle(tiny_bundle).model
    looks, calls = 0, 2 * (operator_times.REPEATS + operator_times._WARM_UP)

    def clock() -> int:
        nonlocal looks
        piece, odd = looks // calls + 1, looks % 2
        looks += 1
        return odd * piece * 10_000

    found = operator_times.profile(model, clock=clock)
    assert [operator.ms for operator in found.operators] == pytest.approx([0.01] * len(found.operators))
    assert found.whole_ms == pytest.approx(0.01 * (len(found.operators) + 1))


def test_pieces_compute_what_the_whole_does(tiny_bundle: Path) -> None:
    from edge_ct.runtime import interpreter_class

    model = read_bundle(tiny_bundle).model
    *_, last = operator_times._pieces(model)
    outputs = []
    for graph in (model, last):
        interpreter = interpreter_class()(model_content=graph)
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        interpreter.set_tensor(detail["index"], np.full(detail["shape"], 77, detail["dtype"]))
        interpreter.invoke()
        outputs.append([interpreter.get_tensor(one["index"]).tolist() for one in interpreter.get_output_details()])
    assert all(own in outputs[0] for own in outputs[1])


def test_throughput_is_held_against_the_model_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds to start, 2 ms a slice: 500 slices a second, of which two cores of 3 ms could do 667."""
    asked = []

    def invented(command, on_done):  # type: ignore[no-untyped-def]
        count = len(list(Path(command[-1]).iterdir()))
        asked.append((command[command.index("--workers") + 1], count))
        return 2000 + 2 * count, 70 + count / 1000

    monkeypatch.setattr(throughput, "cold_run", invented)
    one, eight = throughput.throughput(tmp_path / "x.tflite", [b"a", b"b"], (1, 8), cores=2, model_ms=3.0)
    assert asked == [("1", 200), ("1", 2000), ("8", 200), ("8", 2000)]
    assert (eight.slices_per_second, eight.seconds) == (pytest.approx(500), 6)
    assert eight.of_possible == pytest.approx(500 / (2 / 0.003))
    assert one.of_possible == pytest.approx(500 / (1 / 0.003))
    assert eight.growth_mb == pytest.approx(1.8)


def test_a_damaged_bundle_is_not_measured(tiny_bundle: Path, tmp_path: Path) -> None:
    content = bytearray(tiny_bundle.read_bytes())
    content[5000] ^= 1
    (tmp_path / "bad.tflite").write_bytes(content)
    with pytest.raises(ModelRejected, match="damaged"):
        bundle.measure_bundle(tmp_path / "bad.tflite", bundle.BundleOptions(quick=True))


def test_a_folder_without_slices_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no")
    with pytest.raises(InputRejected, match="no readable slice"):
        bundle.measure_bundle(tiny_bundle, bundle.BundleOptions(tmp_path, quick=True))


@pytest.mark.parametrize(
    "options",
    [["--threads", "0"], ["--threads", "1,x"], ["--threads", "3-2"], ["--workers", "65"], ["--device", "gpu"]],
)
def test_wrong_usage(options: list[str], tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["benchmark", str(tiny_bundle), *options]) == 2
    assert capsys.readouterr().err.startswith("Usage: edge-ct benchmark run ")


def test_a_file_named_as_a_command_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["benchmark", "run", "compare"]) == 4
    assert "compare: no such bundle" in capsys.readouterr().err
    assert cli.run(["benchmark"]) == 2
    assert cli.run(["benchmark", "--help"]) == 0
    assert "compare" in capsys.readouterr().out
