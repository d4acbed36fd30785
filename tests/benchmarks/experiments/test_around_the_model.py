"""What surrounds the model: the arithmetic by an invented clock, and a row for a real bundle."""

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_ct.benchmarks.experiments import around_the_model
from edge_ct.benchmarks.measure.tflite_graph import without_output
from edge_ct.bundle import read_bundle
from edge_ct.runtime import interpreter_class
from edge_ct.shipped_models import find_bundle


def test_a_ratio_is_the_median_of_those_of_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load that meets both steps of a round, or one step in one round, changes nothing."""
    now = {"wall": 0.0, "cpu": 0.0}
    calls: list[str] = []

    def step(name: str, seconds: float) -> around_the_model.Step:
        def call(number: int) -> None:
            calls.append(name)
            load = 7 if len(calls) in range(5, 9) else 90 if len(calls) == 9 else 1
            now["wall"] += seconds * load
            now["cpu"] += seconds

        return call

    monkeypatch.setattr(around_the_model, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(around_the_model, "process_time", lambda: now["cpu"])
    times = around_the_model.measure_steps({"model": step("model", 2.0), "file": step("file", 3.0)}, 2, 5)
    assert calls[:4] == ["model", "model", "file", "file"]
    assert len(calls) == 2 * 2 * 6
    assert times["model"].shape == (5, 2)
    assert around_the_model.median_ratio(times["file"], times["model"], 0) == pytest.approx(1.5)
    assert around_the_model.median_ratio(times["file"], times["model"], 1) == pytest.approx(1.5)
    assert times["file"][-1].tolist() == pytest.approx([3000, 3000])


def test_a_graph_without_its_lesion_map_computes_the_same_otherwise() -> None:
    bundle = read_bundle(find_bundle("fast"))
    tensors = bundle.manifest.tensors
    assert tensors.lesion_map is not None
    outputs, operators = [], []
    for model in (bundle.model, without_output(bundle.model, tensors.lesion_map.position)):
        interpreter = interpreter_class()(model_content=model)
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        noise = np.random.default_rng(0).integers(0, 256, detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], noise)
        interpreter.invoke()
        outputs.append([interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()])
        operators.append(sum(one["op_name"] != "DELEGATE" for one in interpreter._get_ops_details()))
    whole, cut = outputs
    assert len(cut) == len(whole) - 1
    assert operators[1] < operators[0]
    kept = [value for place, value in enumerate(whole) if place != tensors.lesion_map.position]
    assert all(np.array_equal(*pair) for pair in zip(kept, cut, strict=True))


def test_a_row_is_written_for_each_bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(around_the_model, "compare_engines", lambda bundle: ())
    options = ["--rounds", "3", "--no-folder"]
    done = CliRunner().invoke(around_the_model.command, [str(tiny_bundle), str(tiny_bundle), *options])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(StringIO(done.stdout)))
    assert len(rows) == 2
    for row in rows:
        assert float(row["file_over_model_cpu"]) > 1
        assert float(row["file_cpu_ms"]) > float(row["decode_cpu_ms"]) > 0
        assert row["folder_share"] == row["lesion_map_over_none"] == row["openvino_of_litert"] == ""
        assert int(row["cores"]) > 0
