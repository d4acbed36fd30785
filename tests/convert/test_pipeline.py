"""A run through to a bundle: what is written is what was measured, and nothing is written when it must not be."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.convert import pipeline
from edge_ct.convert.networks import load_network, to_deployed_form
from edge_ct.convert.options import ConversionOptions, FileFormat
from edge_ct.convert.quantise import keras_to_tflite
from edge_ct.dataset import load_images
from edge_ct.decision import probability
from edge_ct.errors import DataRejected, EdgeCTError, GateFailed
from edge_ct.run import load_run
from edge_ct.train.score.predict import predict_run

pytestmark = pytest.mark.slow
LENIENT = ConversionOptions(max_drop=100, target_sensitivity=0.95)


@pytest.fixture(scope="module")
def int8(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "model.tflite"
    pipeline.convert(trained_run, out, LENIENT)
    return out


def test_the_file_is_full_integer_and_takes_bytes(int8: Path) -> None:
    manifest = read_bundle(int8).manifest
    keras_to_tflite.check_integer(read_bundle(int8).model, manifest.preprocess, FileFormat("int8"))
    assert b"TFLITE_METADATA" in read_bundle(int8).model
    assert manifest.tensors.input.dtype == "uint8"
    assert manifest.tensors.input.scale == pytest.approx(1 / 127.5, rel=1e-6)
    assert manifest.tensors.input.zero_point == 128
    assert {manifest.tensors.logits.dtype, manifest.tensors.class_map.dtype} == {"int8"}
    assert manifest.tensors.class_map.shape == (1, 6, 6, 2)


def test_a_float_graph_is_not_taken_for_int8(trained_run: Path) -> None:
    run = load_run(trained_run)
    flatbuffer = keras_to_tflite.to_flatbuffer(
        to_deployed_form(load_network(run)), run.info.preprocess, FileFormat("fp32")
    )
    with pytest.raises(EdgeCTError, match="not full integer"):
        keras_to_tflite.check_integer(flatbuffer, run.info.preprocess, FileFormat("int8"))


def test_logits_are_the_mean_of_the_class_map(int8: Path, trained_run: Path) -> None:
    classifier, run = Classifier(int8), load_run(trained_run)
    step = classifier.manifest.tensors.class_map.scale + classifier.manifest.tensors.logits.scale
    images = load_images(run.dataset().take(range(10)), run.info.preprocess).images
    for image in images:
        _, outputs = classifier.infer(image)
        assert outputs.class_map.mean((0, 1)) == pytest.approx(outputs.logits, abs=step)


def test_fp32_file_agrees_with_keras(trained_run: Path, tmp_path: Path) -> None:
    run = load_run(trained_run)
    pipeline.convert(trained_run, tmp_path / "fp32.tflite", ConversionOptions(variants=("fp32",), max_drop=100))
    classifier = Classifier(tmp_path / "fp32.tflite")
    dataset = run.dataset().take(range(20))
    expected = predict_run(run, dataset)
    uncalibrated = msgspec.structs.replace(classifier.manifest.calibration, slope=1.0, intercept=0.0)
    images = load_images(dataset, run.info.preprocess).images
    found = [probability(classifier.infer(image)[1].logits, uncalibrated) for image in images]
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_manifest_says_where_the_figures_come_from(int8: Path, trained_run: Path) -> None:
    bundle, run = read_bundle(int8), load_run(trained_run)
    table = run.split()
    assert bundle.manifest.data == run.info.data
    assert bundle.manifest.data.split == "grouped"
    assert bundle.manifest.metrics_n == len(table.where("test"))
    assert set(bundle.manifest.metrics) == {"fp32", "int8"}
    assert bundle.member("split.csv").decode().count("\n") == 1 + len(set(table.part_of()))
    calibrated = bundle.manifest.calibration
    assert calibrated.positives + calibrated.negatives == len(table.where("validation"))


def test_promises_that_the_cases_do_not_carry_give_one_threshold(int8: Path, trained_run: Path, tmp_path: Path) -> None:
    table = load_run(trained_run).split()
    smallest = np.bincount(table.labels[table.where("validation")]).min()
    assert 19 <= smallest < 99
    manifest = read_bundle(int8).manifest
    assert manifest.rule is not None
    assert min(manifest.rule.positives, manifest.rule.negatives) == smallest
    assert (manifest.rule.sensitivity, manifest.rule.specificity, manifest.rule.source) == (0.95, 0.95, "conformal")
    assert manifest.operating_point.threshold == manifest.rule.negative_below
    pipeline.convert(trained_run, tmp_path / "model.tflite", msgspec.structs.replace(LENIENT, target_sensitivity=0.99))
    without = read_bundle(tmp_path / "model.tflite").manifest
    assert without.rule is None
    assert without.decision_rule.source == "operating point"


def test_golden_slices_pass_where_they_were_made(int8: Path) -> None:
    classifier = Classifier(int8)
    classifier.check_golden()
    assert len(classifier.manifest.golden) == 3


def test_conversion_is_repeatable(int8: Path, trained_run: Path, tmp_path: Path) -> None:
    pipeline.convert(trained_run, tmp_path / "again.tflite", LENIENT)
    first, again = read_bundle(int8), read_bundle(tmp_path / "again.tflite")
    # Tensor names count up within a process, so the flatbuffers differ; nothing that a slice meets does.
    unnamed = {"created": "", "model_sha256": ""}
    assert msgspec.structs.replace(again.manifest, **unnamed) == msgspec.structs.replace(first.manifest, **unnamed)


def test_a_failed_gate_writes_nothing(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = pipeline.gate.compare_with_fp32

    def worse(labels: np.ndarray, fp32: np.ndarray, converted: np.ndarray, *rest: object) -> object:
        return compare(labels, np.where(labels == 1, 0.9, 0.1), 1 - np.where(labels == 1, 0.9, 0.1), *rest)

    monkeypatch.setattr(pipeline.gate, "compare_with_fp32", worse)
    with pytest.raises(GateFailed):
        pipeline.convert(trained_run, tmp_path / "model.tflite", ConversionOptions())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_not_overwritten(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_text("mine")
    with pytest.raises(EdgeCTError, match="already exists"):
        pipeline.convert(trained_run, tmp_path / "model.tflite", LENIENT)
    assert (tmp_path / "model.tflite").read_text() == "mine"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "model.keras").write_bytes(b"PK\x03\x04 nothing"), "cannot be loaded"),
        (lambda run: (run / "model.keras").unlink(), "cannot be loaded"),
        (lambda run: (run / "run.json").write_text("{"), "damaged"),
        (lambda run: (run / "run.json").unlink(), "not a run folder"),
        (lambda run: (run / "split.csv").write_text("path,part\n"), "damaged split|no training split"),
    ],
)
def test_damaged_runs_are_refused(damage: object, message: str, trained_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(trained_run, copy)
    damage(copy)
    with pytest.raises(DataRejected, match=message):
        pipeline.convert(copy, tmp_path / "model.tflite", LENIENT)
    assert not (tmp_path / "model.tflite").exists()


def test_changed_slices_are_noticed(trained_run: Path, tmp_path: Path) -> None:
    run = load_run(trained_run)
    data = tmp_path / "data"
    shutil.copytree(Path(run.info.data_path), data)
    table = run.split()
    first, second = (data / table.paths[i] for i in table.where("test")[:2])
    shutil.copy(first, second)
    with pytest.raises(DataRejected, match="its pixels are not those"):
        pipeline.convert(trained_run, tmp_path / "model.tflite", LENIENT, data=data)
