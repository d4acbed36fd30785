"""Rounding: on the grid, no worse than nearest where it counts, and exact about the mean."""

import keras
import numpy as np
import pytest

from edge_ct.convert import rounding
from edge_ct.train import zoo


def correlated(taps: int, n: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, 1)) * 3 + generator.normal(size=(n, taps)) * 0.3


def test_every_weight_lies_on_its_filters_grid_and_the_grid_is_the_converters() -> None:
    rows = np.random.default_rng(1).normal(size=(7, 9))
    rounded = rounding.round_rows(rows, np.cov(correlated(9, 500).T))
    steps = np.abs(rows).max(1, keepdims=True) / 127
    levels = rounded / steps
    assert levels == pytest.approx(np.rint(levels), abs=1e-9)
    assert np.abs(levels).max() <= 127 + 1e-9
    again = np.rint(rounded / (np.abs(rounded).max(1, keepdims=True) / 127))
    largest_kept = np.isclose(np.abs(rounded).max(1), np.abs(rows).max(1))
    assert again[largest_kept] == pytest.approx(levels[largest_kept], abs=1e-6)


def test_outputs_change_less_than_by_rounding_to_nearest() -> None:
    inputs = correlated(9, 2000)
    rows = np.random.default_rng(2).normal(size=(64, 9))
    steps = np.abs(rows).max(1, keepdims=True) / 127
    nearest = np.rint(rows / steps) * steps
    rounded = rounding.round_rows(rows, np.cov(inputs.T))
    error = (inputs @ (rounded - rows).T).std()
    assert error < 0.5 * (inputs @ (nearest - rows).T).std()


def test_uncorrelated_inputs_are_rounded_to_nearest() -> None:
    rows = np.random.default_rng(3).normal(size=(5, 8))
    steps = np.abs(rows).max(1, keepdims=True) / 127
    assert rounding.round_rows(rows, np.eye(8)) == pytest.approx(np.rint(rows / steps) * steps)


def test_inputs_that_never_change_are_no_trouble() -> None:
    rows = np.random.default_rng(4).normal(size=(3, 6))
    assert np.isfinite(rounding.round_rows(rows, np.zeros((6, 6)))).all()
    assert np.isfinite(rounding.round_rows(np.zeros((3, 6)), np.zeros((6, 6)))).all()


@pytest.mark.parametrize("network", ["customcnn", "mobilenetv2"])
def test_a_whole_network_keeps_its_outputs_better_than_by_nearest(network: str) -> None:
    keras.utils.set_random_seed(5)
    images = np.random.default_rng(5).uniform(-1, 1, (24, 64, 64, 1)).astype(np.float32)
    images = (images + np.linspace(-2, 2, 24).reshape(-1, 1, 1, 1)).astype(np.float32)
    model = zoo.build(keras, network, 64, alpha=0.35)
    model.compile("adam", "mse")
    for _ in range(5):  # so that batch statistics are those of these images
        model.train_on_batch(images, np.random.default_rng(6).normal(size=(24, 2)))
    expected = model.predict_on_batch(images)
    original = model.get_weights()
    count = rounding.round_kernels(model, images)
    smart = np.abs(model.predict_on_batch(images) - expected).mean()
    model.set_weights(original)
    for layer in model.layers:
        if rounding._is_handled(layer):
            rows = rounding._rows(layer)
            steps = np.abs(rows).max(2, keepdims=True) / 127
            rounding._store(layer, np.rint(rows / steps) * steps)
    nearest = np.abs(model.predict_on_batch(images) - expected).mean()
    assert count == sum(rounding._is_handled(layer) for layer in model.layers) >= 9
    assert smart < 0.8 * nearest
