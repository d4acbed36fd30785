"""Every format, input and quantiser: what the file takes and gives, and that it says what the network says."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.convert import pipeline, report
from edge_ct.convert.networks import load_network, to_deployed_form
from edge_ct.convert.options import RANGE_METHODS, ConversionOptions, FileFormat, parse_keep
from edge_ct.convert.quantise import ai_edge, keras_to_tflite
from edge_ct.convert.quantise.layer_errors import layer_of, measure_layer_errors
from edge_ct.convert.run_slices import RunSlices
from edge_ct.errors import DataRejected, EdgeCTError, GateFailed
from edge_ct.manifest import Tensor, Tensors
from edge_ct.run import load_run
from edge_ct.runtime import Runtime, read_tensors, stored_bytes

pytestmark = pytest.mark.slow
LENIENT = ConversionOptions(max_drop=100, representative=40)
ALL = ("fp32", "fp16", "dynamic", "int8", "int16x8")
# Largest share of the logits' range by which a file may be off on average.
OFF = {"fp32": 1e-5, "fp16": 2e-3, "dynamic": 0.02, "int8": 0.03, "int16x8": 0.02}


@pytest.fixture(scope="module")
def network(trained_run: Path) -> tuple[Any, RunSlices]:
    run = load_run(trained_run)
    return load_network(run), RunSlices(run)


def logits_of(flatbuffer: bytes, images: np.ndarray, material: RunSlices) -> np.ndarray:
    runtime, logits = Runtime(flatbuffer, read_tensors(flatbuffer, material.preprocess)), []
    for image in images:
        runtime.invoke(image)
        logits.append(runtime.outputs().logits)
    return np.stack(logits)


@pytest.mark.parametrize("float_io", [False, True])
@pytest.mark.parametrize("variant", ALL)
def test_every_format_says_what_the_network_says(variant: Any, float_io: bool, network: tuple[Any, RunSlices]) -> None:
    model, material = network
    images = material.images("validation")
    expected = model.predict_on_batch(material.preprocess.normalise(images))
    form = FileFormat(variant, float_io, fixed_batch=not float_io)
    flatbuffer = keras_to_tflite.to_flatbuffer(to_deployed_form(model), material.preprocess, form, images[:20])
    found = logits_of(flatbuffer, images, material)
    assert np.abs(found - expected).mean() < OFF[variant] * np.ptp(expected)
    tensors = read_tensors(flatbuffer)
    bytes_in = "int16" if variant == "int16x8" else "uint8"
    assert tensors.input.dtype == ("float32" if float_io else bytes_in)
    stored = {"int8": "int8", "int16x8": "int16"}.get(variant, "float32")
    assert tensors.logits.dtype == ("float32" if float_io else stored)


def test_an_input_of_floats_or_16_bits_takes_a_byte_as_the_network_was_taught_it() -> None:
    output = Tensor(0, "float32", (1, 2), 1.0, 0)

    def stored(dtype: Any, scale: float, zero_point: int) -> np.ndarray:
        return stored_bytes(Tensors(Tensor(0, dtype, (1, 4, 4, 1), scale, zero_point), output, None, output))

    real = (np.arange(256) - 128) / 127.5
    assert stored("float32", 1.0, 0) == pytest.approx(real, abs=1e-6)
    assert np.array_equal(stored("int8", 1 / 127.5, 0), np.arange(-128, 128))
    assert stored("int16", 1 / 32000, 0) == pytest.approx(np.rint(real * 32000), abs=1)


def test_several_formats_are_several_bundles_and_a_table(trained_run: Path, tmp_path: Path) -> None:
    options = msgspec.structs.replace(LENIENT, variants=("int8", "fp32", "fp16"), stability=True)
    made = pipeline.convert_all(trained_run, tmp_path / "models", options, debug=True)
    names = [f"customcnn-48-{variant}.tflite" for variant in ("fp32", "fp16", "int8")]
    assert [Path(str(one.bundle)).name for one in made.bundles] == names
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted(names)
    for path in (tmp_path / "models").iterdir():
        Classifier(path).check_golden()
    fp32, fp16, int8 = made.bundles
    assert fp32.bytes > fp16.bytes > int8.bytes
    assert (fp32.gate.agreement, fp32.gate.mcnemar_p) == (1.0, 1.0)
    assert len(int8.stability) == 1
    text = report.describe_conversion(made)
    assert all(name in text for name in names)
    assert "calibration set 2" in text
    assert f"n = {int8.gate.fp32.n}" in text
    assert {error.name.removesuffix("_bn") for error in int8.layers} >= {"stage1_conv1", "class_map", "logits"}
    assert made.peak_memory_mb > 100


def test_of_several_formats_one_that_fails_is_left_out(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = pipeline.gate.compare_with_fp32

    def strict(labels: np.ndarray, fp32: np.ndarray, converted: np.ndarray, *rest: Any, **named: Any) -> Any:
        worse = converted if converted is fp32 else 1 - np.where(labels == 1, 0.9, 0.1)
        return compare(labels, fp32, worse, *rest, **named)

    monkeypatch.setattr(pipeline.gate, "compare_with_fp32", strict)
    out = tmp_path / "{variant}.tflite"
    made = pipeline.convert_all(trained_run, out, ConversionOptions(variants=("fp32", "fp16"), max_drop=5))
    assert [one.bundle is None for one in made.bundles] == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["fp32.tflite"]
    with pytest.raises(GateFailed, match="fp16"):
        made.enforce()


@pytest.mark.parametrize("calibration", RANGE_METHODS)
def test_the_other_quantiser_agrees_with_the_network(calibration: Any, network: tuple[Any, RunSlices]) -> None:
    model, material = network
    images = material.images("validation")
    expected = model.predict_on_batch(material.preprocess.normalise(images))
    fp32 = keras_to_tflite.to_flatbuffer(
        to_deployed_form(model), material.preprocess, FileFormat("fp32", float_io=True)
    )
    made = ai_edge.quantise(fp32, material.preprocess, "int8", images[:20], calibration)
    keras_to_tflite.check_integer(made, material.preprocess, FileFormat("int8"))
    assert np.abs(logits_of(made, images, material) - expected).mean() < 0.1 * np.ptp(expected)


def test_a_layer_kept_in_float_adds_no_noise(network: tuple[Any, RunSlices]) -> None:
    model, material = network
    images = material.images("validation")[:20]
    names = tuple(layer.name for layer in model.layers)
    fp32 = keras_to_tflite.to_flatbuffer(
        to_deployed_form(model), material.preprocess, FileFormat("fp32", float_io=True)
    )
    own = {}
    for keep in ({}, {"stage1_conv1": "fp32"}, {"stage1_conv1": "int16"}):
        made = ai_edge.quantise(fp32, material.preprocess, "int8", images, keep=keep)  # type: ignore[arg-type]
        errors = measure_layer_errors(fp32, made, images, material.preprocess, names)
        own[str(keep)] = next(error.added_noise for error in errors if error.name.startswith("stage1_conv1"))
        assert len(made) < 0.5 * len(fp32)
    plain, in_float, in_16_bits = own.values()
    assert plain > 0
    assert in_float < 0.01 * plain
    assert in_16_bits < plain
    with pytest.raises(EdgeCTError, match="no layer 'stage9'"):
        ai_edge.quantise(fp32, material.preprocess, "int8", images, keep={"stage9": "fp32"})


def test_mixed_precision_stops_at_the_first_file_that_passes(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, calls = pipeline.gate.compare_with_fp32, []

    def third_time(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return msgspec.structs.replace(compare(*arguments, **named), passed=len(calls) >= 3, reason="made up")

    monkeypatch.setattr(pipeline.gate, "compare_with_fp32", third_time)
    options = msgspec.structs.replace(LENIENT, quantizer="ai-edge", auto_mixed=True)
    converted = pipeline.convert(trained_run, tmp_path / "model.tflite", options)
    assert [len(step.layers) for step in converted.mixed] == [0, 1, 2]
    assert [step.passed for step in converted.mixed] == [False, False, True]
    assert converted.mixed[0].bytes < min(step.bytes for step in converted.mixed[1:])
    assert set(converted.mixed[1].layers) < set(converted.mixed[2].layers)
    assert converted.variant == "int8-mixed"
    assert read_bundle(tmp_path / "model.tflite").manifest.name == "customcnn-48-int8-mixed"


@pytest.mark.parametrize(
    ("tensor", "shape", "expected"),
    [
        ("net_1/conv2d_1/Relu;net_1/conv2d_1/convolution", (1, 4, 4, 8), "conv2d"),
        ("net_1/conv2d_1_1/convolution", (1, 4, 4, 8), "conv2d_1"),
        ("Identity_1", (1, 3, 3, 2), "class_map"),
        ("Identity", (1, 2), "logits"),
        ("Identity_2", (1, 64), "embedding"),
        ("made/up", (1, 64), "made/up"),
    ],
)
def test_tensors_are_named_after_their_layers(tensor: str, shape: tuple[int, ...], expected: str) -> None:
    assert layer_of(tensor, shape, ("conv2d", "conv2d_1")) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ConversionOptions(calibration="mse"), "has no --calibration mse"),
        (ConversionOptions(keep={"a": "fp32"}), "has no --keep"),
        (ConversionOptions(auto_mixed=True), "has no --auto-mixed"),
        (ConversionOptions(variants=("fp32",), stability=True), "apply to int8 files"),
        (ConversionOptions(quantizer="ai-edge", fixed_batch=False), "--any-batch"),
    ],
)
def test_what_does_not_go_together_is_refused(options: ConversionOptions, message: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError, match=message):
        pipeline.convert(tmp_path, tmp_path / "model.tflite", options)


@pytest.mark.parametrize("word", ["layer", "layer=", "=fp32", "layer=int4"])
def test_precisions_that_are_none_are_refused(word: str) -> None:
    with pytest.raises(EdgeCTError, match="LAYER=fp32 or LAYER=int16"):
        parse_keep([word])
    assert parse_keep(["a=b=int16"]) == {"a=b": "int16"}


def test_representative_slices_are_half_of_each_class_disjoint_and_of_many_groups(
    network: tuple[Any, RunSlices],
) -> None:
    _, material = network
    table = material.table
    first, second = material.representative_indices(40, seed=3, sets=2)
    assert len(first) == len(second) == 40
    assert not set(first) & set(second)
    assert set(first) | set(second) <= set(table.where("train"))
    assert table.labels[first].sum() == table.labels[second].sum() == 20
    # Two slices a patient: of 40 positives none is the second of its patient.
    positives = [table.groups[i] for i in (*first, *second) if table.labels[i] == 1]
    assert len(set(positives)) == len(positives)
    assert [list(one) for one in material.representative_indices(40, 3, 2)] == [list(first), list(second)]
    assert list(material.representative_indices(40, 4)[0]) != list(first)
    with pytest.raises(DataRejected, match="too few training slices"):
        material.representative_indices(40, 0, sets=1000)
