from __future__ import annotations

import importlib

import keras
import numpy as np
import pytest

from edge_ct.errors import EdgeCTError
from edge_ct.network_analysis.macs import count_macs
from edge_ct.train.zoo.builder import build
from edge_ct.train.zoo.lesion_decoder import add_lesion_map, has_lesion_map


@pytest.mark.parametrize(("alpha", "size"), [(1.0, 96), (0.35, 64)])
def test_map_has_a_logit_for_each_eighth_of_the_side(alpha: float, size: int) -> None:
    plain = build(keras, "mobilenetv2", size, alpha)
    model = add_lesion_map(keras, plain)
    assert has_lesion_map(model) and not has_lesion_map(plain)
    image = np.random.default_rng(0).normal(size=(2, size, size, 1)).astype(np.float32)
    logits, lesion_map = model(image, training=False)
    assert tuple(logits.shape) == (2, 2) and tuple(lesion_map.shape) == (2, size // 8, size // 8, 1)
    # The decoder changes nothing of what the network decides, and an untrained one sees next to no lesion.
    assert np.array_equal(logits, plain(image, training=False))
    assert np.abs(np.asarray(lesion_map) + 3).mean() < 1.5


def test_decoder_is_light() -> None:
    for alpha, most in ((1.0, 0.045), (0.35, 0.065)):
        plain = build(keras, "mobilenetv2", 224, alpha)
        before = count_macs(plain)
        assert before < count_macs(add_lesion_map(keras, plain)) < (1 + most) * before


def test_twins_of_both_apis_agree() -> None:
    tf_keras = importlib.import_module("tf_keras")
    ours = add_lesion_map(keras, build(keras, "mobilenetv2", 64, 0.35))
    twin = add_lesion_map(tf_keras, build(tf_keras, "mobilenetv2", 64, 0.35))
    for layer in ours.layers:
        if layer.weights:
            twin.get_layer(layer.name).set_weights(layer.get_weights())
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 1)).astype(np.float32)
    for mine, other in zip(ours(image, training=False), twin(image, training=False), strict=True):
        assert np.abs(np.asarray(mine) - np.asarray(other)).max() < 1e-4


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(EdgeCTError, match="customcnn has no lesion map"):
        add_lesion_map(keras, build(keras, "customcnn", 64))
    with pytest.raises(EdgeCTError, match="multiple of 32"):
        add_lesion_map(keras, build(keras, "mobilenetv2", 72, 0.35))
