"""Ranges of activations: TensorFlow's calibrator's, and Keras' own values where it errs."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from tensorflow.lite.python.optimize.calibrator import Calibrator
from tensorflow.lite.tools import flatbuffer_utils

from edge_ct.convert.networks import to_deployed_form
from edge_ct.convert.options import FileFormat
from edge_ct.convert.quantise import calibration_ranges, keras_to_tflite
from edge_ct.preprocess import Preprocess


def network(residual: bool) -> Any:
    keras.utils.set_random_seed(3)
    inputs = keras.layers.Input((16, 16, 1), name="slice")
    first = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="stem")(inputs)
    inner = keras.layers.Conv2D(6, 1, name="project")(first)
    features = keras.layers.Activation("linear", name="features")(
        keras.layers.Add(name="sum")([inner, first]) if residual else inner
    )
    class_map = keras.layers.Conv2D(2, 1, name="class_map")(features)
    logits = keras.layers.GlobalAveragePooling2D(name="logits")(class_map)
    return to_deployed_form(keras.Model(inputs, logits))


def ranges_of(flatbuffer: bytes) -> dict[str, tuple[float, float]]:
    """Least and greatest value of each tensor that has them, by name."""
    [subgraph] = flatbuffer_utils.convert_bytearray_to_object(flatbuffer).subgraphs
    return {
        tensor.name.decode(): (float(tensor.quantization.min[0]), float(tensor.quantization.max[0]))
        for tensor in subgraph.tensors
        if tensor.quantization is not None and tensor.quantization.min is not None and len(tensor.quantization.min)
    }


def both(model: Any, slices: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, tuple[float, float]]]:
    """The ranges that our calibration and TensorFlow's find in one conversion."""
    found = []

    def calibrated(content: bytes, feed: Any) -> bytes:
        ours = original(content, feed)
        found.extend((ranges_of(ours), ranges_of(Calibrator(content).calibrate(feed))))
        return ours

    original = calibration_ranges.write_ranges
    monkeypatch.setattr(calibration_ranges, "write_ranges", calibrated)
    keras_to_tflite.to_flatbuffer(model, Preprocess(16), FileFormat("int8"), slices)
    return found


@pytest.fixture
def slices() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), dtype=np.uint8)


def test_they_are_what_tensorflows_calibrator_finds(slices: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = both(network(residual=False), slices, monkeypatch)
    assert ours.keys() == theirs.keys()
    assert len(ours) >= 6
    for name, found in ours.items():
        assert found == pytest.approx(theirs[name], rel=1e-5, abs=1e-5), name


def test_a_term_of_a_sum_has_its_own_range(slices: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model, preprocess = network(residual=True), Preprocess(16)
    ours, _ = both(model, slices, monkeypatch)
    slices[0, 0, 0, 0], slices[0, 0, 1, 0] = 0, 255  # as the conversion pins the input's range
    probe = keras.Model(model.inputs[0], [model.get_layer(name).output for name in ("project", "sum")])
    term, total = (np.asarray(values) for values in probe(preprocess.normalise(slices), training=False))
    expected = [(float(values.min()), float(values.max())) for values in (term, total)]
    assert not np.allclose(*expected, rtol=0.01)
    for values in expected:
        assert any(found == pytest.approx(values, rel=1e-4, abs=1e-5) for found in ours.values()), values


def test_a_graph_that_is_fed_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> Iterator[list[np.ndarray]]:
        yield from ()

    flatbuffer = keras_to_tflite.to_flatbuffer(network(False), Preprocess(16), FileFormat("fp32", float_io=True))
    with pytest.raises(ValueError, match="no representative"):
        calibration_ranges.write_ranges(flatbuffer, nothing)
