"""Networks of the zoo as int8 files, at their least size, against Keras.

Two of them here; all 42, which take minutes, where EDGE_CT_ALL_NETWORKS is set.
"""

import csv
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edge_ct.convert import quantise, rounding
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.runtime import Runtime
from edge_ct.train import zoo

pytestmark = pytest.mark.slow
_IMAGES = 16
BASES = tuple(name for name in zoo.NETWORKS if not zoo.find(name).modified)
TRIED = BASES if os.environ.get("EDGE_CT_ALL_NETWORKS") else ("customcnn", "mobilenetv2")
# Deep networks of random weights carry every rounding on, enlarged: these limits tell a wrong graph from a coarse one.
AGREEMENT, ERROR = 0.7, 0.35


def with_statistics(name: str) -> tuple[Any, Any, np.ndarray]:
    """A network of random weights whose batch statistics are those of phantoms, its Modified form (or None), images."""
    architecture = zoo.find(name)
    keras.utils.set_random_seed(0)
    model = zoo.build(keras, name, architecture.minimum)
    preprocess = Preprocess(architecture.minimum)
    slices = [preprocess(make_slice(i, 2 + i % 5, i % 2 == 0, 96).image) for i in range(_IMAGES)]
    images = np.stack(slices)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(preprocess.normalise(images), training=True)
    twin = zoo.MODIFIED + name
    modified = zoo.with_head(keras, zoo.find(twin), model) if twin in zoo.NETWORKS else None
    return model, modified, images


def centred(model: Any, images: np.ndarray) -> None:
    """Moves the last layer's bias so that the images fall into both classes, as a trained network's do."""
    last = next(layer for layer in reversed(model.layers) if layer.get_weights())
    kernel, bias = last.get_weights()
    logits = model.predict_on_batch(images)
    last.set_weights([kernel, bias - np.median(logits, axis=0)])


@pytest.mark.parametrize("name", TRIED)
def test_network_and_its_modified_form_convert_to_int8_and_agree_with_keras(name: str) -> None:
    model, modified, images = with_statistics(name)
    preprocess = Preprocess(images.shape[1])
    normalised = preprocess.normalise(images)
    forms = [one for one in (model, modified) if one is not None]
    for one in forms:
        centred(one, normalised)
    expected = [one.predict_on_batch(normalised) for one in forms]
    assert rounding.round_kernels(model, normalised) >= 4
    for one, logits in zip(forms, expected, strict=True):
        flatbuffer = quantise.to_int8(quantise.deployed(one), preprocess, images)
        tensors = quantise.tensors_of(flatbuffer)
        assert (tensors.class_map is None) == (one is modified)
        runtime, found = Runtime(flatbuffer, tensors), []
        for image in images:
            runtime.invoke(image)
            found.append(runtime.outputs().logits)
        agreement = float((np.argmax(found, 1) == np.argmax(logits, 1)).mean())
        error = float(np.abs(np.stack(found) - logits).mean() / np.ptp(logits))
        note(one.name, len(flatbuffer), agreement, error)
        assert np.isfinite(found).all()
        assert agreement >= AGREEMENT, (one.name, agreement, error)
        assert error <= ERROR, (one.name, agreement, error)
    keras.backend.clear_session()


def note(*row: object) -> None:
    """To the file that EDGE_CT_NETWORKS_CSV names, if any: for the table of all networks."""
    path = os.environ.get("EDGE_CT_NETWORKS_CSV")
    if path:
        with Path(path).open("a", newline="") as file:
            csv.writer(file).writerow(row)
