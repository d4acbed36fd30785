"""Every network of both papers: its parameters; and of some a training step, saving, loading, the class map.

Those are the smallest network of each family and its Modified form; with EDGE_CT_LONG_TESTS=1 they are all 42.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edge_ct.train.published_results import PARAMETERS
from edge_ct.train.zoo.architectures import GARG_NETWORKS, MODIFIED_PREFIX, NETWORK_NAMES, SEED_STUDY_NETWORKS, find
from edge_ct.train.zoo.backbones import keras_backbone
from edge_ct.train.zoo.builder import build, replace_head

from ...conftest import LONG

BASES = tuple(name for name in NETWORK_NAMES if not find(name).modified)
_SMALLEST = (
    "customcnn",
    "mobilenetv2",
    "efficientnetb0",
    "resnet50",
    "inceptionv3",
    "xception",
    "densenet121",
    "vgg16",
)
REPRESENTATIVES = tuple(name for base in _SMALLEST for name in (base, MODIFIED_PREFIX + base) if name in NETWORK_NAMES)


def test_all_networks_of_both_papers_are_there() -> None:
    expected = {"customcnn", "mobilenetv2", *PARAMETERS, *(f"modified-{name}" for name in PARAMETERS)}
    assert set(NETWORK_NAMES) == expected
    assert len(GARG_NETWORKS) == 40
    assert set(SEED_STUDY_NETWORKS) <= expected


def assert_parameters_are_published(model: Any) -> None:
    """The paper rounds most of its figures and cuts some (EfficientNetB1, B2)."""
    architecture = find(model.name)
    base = model.name.removeprefix(MODIFIED_PREFIX)
    if base in PARAMETERS:
        published = PARAMETERS[base][architecture.modified]
        millions = model.count_params() / 1e6
        assert published in (round(millions, 1), math.floor(millions * 10) / 10)


@pytest.mark.slow
@pytest.mark.parametrize("network", [name for name in BASES if name not in REPRESENTATIVES])
def test_a_network_and_its_modified_form_have_the_published_parameters(network: str) -> None:
    """The Modified form is built on the base network's backbone: their descriptions differ in nothing else.

    The test below asserts the parameters of the representatives.
    """
    architecture = find(network)
    model = build(keras, network, architecture.minimum)
    assert model.name == network
    assert_parameters_are_published(model)
    if network in PARAMETERS:
        twin = find(MODIFIED_PREFIX + network)
        assert replace(architecture, name=twin.name, modified=True) == twin
        assert_parameters_are_published(replace_head(keras, twin, model))
    keras.backend.clear_session()


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORK_NAMES if LONG else REPRESENTATIVES)
def test_a_network_trains_and_is_the_same_after_loading(network: str, tmp_path: Path) -> None:
    architecture = find(network)
    size = architecture.minimum
    keras.utils.set_random_seed(0)
    model = build(keras, network, size)
    assert_parameters_are_published(model)

    images = np.random.default_rng(0).uniform(-1, 1, (4, size, size, 1)).astype(np.float32)
    trained = [layer for layer in model.layers if layer.trainable_variables]
    before = [layer.get_weights()[0].copy() for layer in (trained[0], trained[-1])]
    # A short step: batch statistics of one pixel in four slices make gradients wild.
    optimizer = keras.optimizers.SGD(1e-2, global_clipnorm=1.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(True), run_eagerly=True)
    assert np.isfinite(model.train_on_batch(images, np.array([0, 1, 0, 1])))
    for layer, weights in zip((trained[0], trained[-1]), before, strict=True):
        assert not np.array_equal(layer.get_weights()[0], weights), layer.name

    logits = np.asarray(model(images, training=False))
    assert logits.shape == (4, 2)
    if architecture.class_map:
        maps = keras.Model(model.inputs[0], model.get_layer("class_map").output)
        assert np.asarray(maps(images, training=False)).mean((1, 2)) == pytest.approx(logits, rel=1e-4, abs=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert np.asarray(again(images, training=False)) == pytest.approx(logits, rel=1e-5, abs=1e-6)
    keras.backend.clear_session()


def test_every_family_and_form_is_represented() -> None:
    def kinds(networks: Iterable[str]) -> set[tuple[str, bool]]:
        return {(find(name).family, find(name).modified) for name in networks}

    assert kinds(REPRESENTATIVES) == kinds(NETWORK_NAMES)


def test_the_signal_reaches_the_end_of_vgg_before_training() -> None:
    """He et al. 2015: their weights keep a signal's size through rectifiers. Glorot's leave a thousandth of it here."""
    keras.utils.set_random_seed(0)
    model = build(keras, "vgg16", 32)
    features = keras.Model(model.inputs[0], model.get_layer("features").output)
    images = np.random.default_rng(0).normal(0, 1, (8, 32, 32, 1)).astype(np.float32)
    assert 0.1 < np.sqrt((np.asarray(features(images)) ** 2).mean()) < 10


@pytest.mark.parametrize("network", ["inceptionv3", "xception", "vgg16"])
def test_the_stated_minimum_is_the_networks_own(network: str) -> None:
    architecture = find(network)
    entry = keras.layers.Input((architecture.minimum - 1, architecture.minimum - 1, 1))
    with pytest.raises(ValueError, match="at least"):
        keras_backbone(keras, architecture, 1.0, entry)
