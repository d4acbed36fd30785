"""Networks of the zoo as int8 files, at a small size, against Keras.

One network of some families, with its Modified form; with EDGE_CT_LONG_TESTS=1 all 42, which take many minutes.
"""

import csv
import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edge_ct.convert.networks import to_deployed_form
from edge_ct.convert.options import FileFormat
from edge_ct.convert.quantise import keras_to_tflite, rounding
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.runtime import Runtime, read_tensors
from edge_ct.train.zoo import build
from edge_ct.train.zoo.architectures import MODIFIED_PREFIX, NETWORK_NAMES, find
from edge_ct.train.zoo.builder import replace_head

from ...conftest import LONG

pytestmark = pytest.mark.slow
# Pictures that statistics and the last layer are set on, those of them that conversion sees, and those it is judged by.
_SEEN, _REPRESENTATIVE, _UNSEEN = 64, 16, 32
_SIZE = 64
BASES = tuple(name for name in NETWORK_NAMES if not find(name).modified)
FAMILIES = ("customcnn", "mobilenetv2", "efficientnetb0", "densenet121", "vgg16")
TRIED = BASES if LONG else FAMILIES
HIDDEN = ("dense1", "dense2", "dense3")
# Three of 32 pictures may change: those of a Modified head can lie close to the limit in Keras already.
AGREEMENT, ERROR = 0.9, 0.1
# Times are of the processor, on all threads.
COLUMNS = ("network", "size", "bytes", "agreement", "error", "keras_accuracy", "int8_accuracy", "rounding_s", "int8_s")


def pictures(preprocess: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    """Phantoms over one phantom (label 0) or over its negative (label 1): uint8 [96, s, s, 1], labels [96]."""
    labels = np.arange(_SEEN + _UNSEEN) % 2
    slices = [make_slice(i, 2 + i % 5, False, 96).image.astype(np.float32) for i in range(len(labels))]
    under = (slices[0], 255 - slices[0])
    blends = [0.7 * under[label] + 0.3 * image for image, label in zip(slices, labels, strict=True)]
    return np.stack([preprocess(np.rint(blend).astype(np.uint8)) for blend in blends]), labels


def with_statistics(name: str, size: int, images: np.ndarray) -> Any:
    """A network of random weights whose batch statistics are those of the images (normalised, float32 [n, s, s, 1]).

    Every normalisation shifts by one deviation, so that most units pass most of what they get. Left at Keras' zero, a
    deep random network is chaotic: it tears pictures of one label apart, and enlarges a rounding like any difference.
    """
    keras.utils.set_random_seed(0)
    model = build(keras, name, size)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.beta.assign(np.ones(layer.beta.shape, np.float32))
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    model(images, training=True)
    return model


def pooled_features(model: Any, images: np.ndarray) -> np.ndarray:
    """float64 [n, e]"""
    features = keras.Model(model.inputs[0], model.get_layer("features").output)(images, training=False)
    return np.asarray(features, np.float64).mean((1, 2))


def ridge(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction [e] and offset [] along which values [n, e] come nearest to -1 or 1, by label."""
    centred = values - values.mean(0)
    gram = centred @ centred.T
    damping = 0.1 * np.trace(gram) / len(gram) * np.eye(len(gram))
    direction = centred.T @ np.linalg.solve(gram + damping, 2.0 * labels - 1)
    return direction, -values.mean(0) @ direction


def regress(model: Any, values: np.ndarray, labels: np.ndarray) -> None:
    """Sets the head by the pooled features [n, e] and their labels: its last layer by ridge regression.

    Logits then follow a direction that pictures really differ in, as a trained network's do, and not a random one in
    which they hardly differ. In a Modified head every unit of the first layer has that direction, up or down, beside a
    random one: 128 random ones alone keep too little of it. The next two layers stay random, biases centre them.
    """
    modified = find(model.name).modified
    *hidden, last = (model.get_layer(name) for name in ((*HIDDEN, "logits") if modified else ("class_map",)))
    for layer in hidden:
        kernel, _ = layer.get_weights()
        kernel = kernel / (values @ kernel).std(0)
        if layer.name == HIDDEN[0]:
            kernel += ridge(values, labels)[0][:, np.newaxis] * np.where(np.arange(kernel.shape[1]) % 2, 1, -1)
        outputs = values @ kernel
        layer.set_weights([kernel, -outputs.mean(0)])
        values = np.maximum(outputs - outputs.mean(0), 0)
    direction, offset = ridge(values, labels)
    kernel, _ = last.get_weights()
    last.set_weights([np.stack([-direction, direction], 1).reshape(kernel.shape), np.array([-offset, offset])])


def logits_of(flatbuffer: bytes, images: np.ndarray) -> np.ndarray:
    runtime, found = Runtime(flatbuffer, read_tensors(flatbuffer)), []
    for image in images:
        runtime.invoke(image)
        found.append(runtime.outputs().logits)
    return np.stack(found)


@pytest.mark.parametrize("name", TRIED)
def test_network_and_its_modified_form_convert_to_int8_and_agree_with_keras(name: str) -> None:
    preprocess = Preprocess(max(_SIZE, find(name).minimum))
    images, labels = pictures(preprocess)
    seen, unseen = preprocess.normalise(images[:_SEEN]), preprocess.normalise(images[_SEEN:])
    model = with_statistics(name, preprocess.size, seen)
    twin = MODIFIED_PREFIX + name
    forms = [model, replace_head(keras, find(twin), model)] if twin in NETWORK_NAMES else [model]
    pooled = pooled_features(model, seen)
    for one in forms:
        regress(one, pooled, labels[:_SEEN])
    expected = [np.asarray(one(unseen, training=False)) for one in forms]
    representative = images[:_REPRESENTATIVE]
    start = time.process_time()
    assert rounding.round_kernels(model, seen[:_REPRESENTATIVE]) >= 4
    rounding_s = time.process_time() - start
    for one, logits in zip(forms, expected, strict=True):
        start = time.process_time()
        flatbuffer = keras_to_tflite.to_flatbuffer(
            to_deployed_form(one), preprocess, FileFormat("int8"), representative
        )
        int8_s = time.process_time() - start
        assert (read_tensors(flatbuffer).class_map is None) == (one is not model)
        found = logits_of(flatbuffer, images[_SEEN:])
        assert np.isfinite(found).all()
        agreement = float((found.argmax(1) == logits.argmax(1)).mean())
        error = float(np.abs(found - logits).mean() / np.ptp(logits))
        right = [float((each.argmax(1) == labels[_SEEN:]).mean()) for each in (logits, found)]
        row = (one.name, preprocess.size, len(flatbuffer), agreement, error, *right, rounding_s, int8_s)
        note(row)
        assert right[0] >= 0.9, ("the network does not see the label: nothing to agree on", row)
        assert agreement >= AGREEMENT, row
        assert error <= ERROR, row
    keras.backend.clear_session()


def note(row: tuple[object, ...]) -> None:
    """To the file that EDGE_CT_NETWORKS_CSV names, if any: for the table of all networks."""
    path = Path(os.environ.get("EDGE_CT_NETWORKS_CSV") or os.devnull)
    written = [f"{value:.4g}" if isinstance(value, float) else value for value in row]
    with path.open("a", newline="") as file:
        if not path.is_file() or not path.stat().st_size:
            csv.writer(file, lineterminator="\n").writerow(COLUMNS)
        csv.writer(file, lineterminator="\n").writerow(written)
