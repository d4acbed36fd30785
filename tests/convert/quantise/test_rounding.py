"""Rounding: on the grid, no worse than nearest where it counts, and exact about the mean."""

from typing import Any

import keras
import numpy as np
import pytest

from edge_ct.convert.quantise import rounding
from edge_ct.system.progress import QUIET
from edge_ct.train.zoo.architectures import find
from edge_ct.train.zoo.builder import build


def correlated(taps: int, n: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, 1)) * 3 + generator.normal(size=(n, taps)) * 0.3


def round_one(rows: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Round the filters [filters, taps] of a single group."""
    return rounding.round_groups(rows[np.newaxis], covariance[np.newaxis])[0]


def test_every_weight_lies_on_its_filters_grid_and_the_grid_is_the_converters() -> None:
    rows = np.random.default_rng(1).normal(size=(7, 9))
    rounded = round_one(rows, np.cov(correlated(9, 500).T))
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
    rounded = round_one(rows, np.cov(inputs.T))
    error = (inputs @ (rounded - rows).T).std()
    assert error < 0.5 * (inputs @ (nearest - rows).T).std()


def test_uncorrelated_inputs_are_rounded_to_nearest() -> None:
    rows = np.random.default_rng(3).normal(size=(5, 8))
    steps = np.abs(rows).max(1, keepdims=True) / 127
    assert round_one(rows, np.eye(8)) == pytest.approx(np.rint(rows / steps) * steps)


def test_inputs_that_never_change_are_no_trouble() -> None:
    rows = np.random.default_rng(4).normal(size=(3, 6))
    assert np.isfinite(round_one(rows, np.zeros((6, 6)))).all()
    assert np.isfinite(round_one(np.zeros((3, 6)), np.zeros((6, 6)))).all()


def test_blocks_of_taps_give_what_one_tap_at_a_time_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(7).normal(size=(6, 50))
    covariance = np.cov(correlated(50, 400).T)
    whole = round_one(rows, covariance)
    monkeypatch.setattr(rounding, "_BLOCK", 7)
    assert round_one(rows, covariance) == pytest.approx(whole, abs=1e-9)


def test_groups_are_rounded_each_by_itself() -> None:
    rows = np.random.default_rng(8).normal(size=(5, 1, 9))
    covariance = np.stack([np.cov(correlated(9, 300, seed).T) for seed in range(5)])
    expected = np.stack([round_one(*pair) for pair in zip(rows, covariance, strict=True)])
    assert rounding.round_groups(rows, covariance) == pytest.approx(expected, abs=1e-12)


def test_pruned_weights_stay_pruned() -> None:
    rows = np.random.default_rng(9).normal(size=(8, 12))
    pruned = np.abs(rows) < 0.5
    rows[pruned] = 0
    rounded = round_one(rows, np.cov(correlated(12, 500).T))
    assert 0.2 < pruned.mean() < 0.6
    assert (rounded[pruned] == 0).all()


def test_statistics_are_those_of_the_patches_numpy_cuts_out() -> None:
    keras.utils.set_random_seed(3)
    images = np.random.default_rng(3).normal(3, 1, (8, 9, 9, 2)).astype(np.float32)
    slices = keras.layers.Input((9, 9, 2))
    plain = keras.layers.Conv2D(4, 3)(slices)
    outputs = keras.layers.DepthwiseConv2D(2, padding="same")(plain)
    model = keras.Model(slices, outputs)
    first, second = rounding._statistics(model, model.layers[1:], images, np.random.default_rng(0), QUIET)
    patches = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
    taps = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 18)
    assert first.mean[0] == pytest.approx(taps.mean(0), rel=1e-4)
    assert first.covariance[0] == pytest.approx(np.cov(taps.T, bias=True), abs=1e-3)
    padded = np.pad(
        np.asarray(keras.ops.convert_to_numpy(keras.Model(slices, plain)(images))), ((0, 0), (1, 1), (1, 1), (0, 0))
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), axis=(1, 2)).transpose(3, 0, 1, 2, 4, 5)
    for channel, taps in enumerate(windows.reshape(4, -1, 4)):
        assert second.mean[channel] == pytest.approx(taps.mean(0), abs=1e-3)
        assert second.covariance[channel] == pytest.approx(np.cov(taps.T, bias=True), abs=1e-2)


def images_and_network(network: str) -> tuple[np.ndarray, Any]:
    """A network whose batch statistics are those of the images."""
    keras.utils.set_random_seed(5)
    size = find(network).minimum if network not in ("customcnn", "mobilenetv2") else 64
    images = np.random.default_rng(5).uniform(-1, 1, (24, size, size, 1)).astype(np.float32)
    images = (images + np.linspace(-2, 2, 24).reshape(-1, 1, 1, 1)).astype(np.float32)
    model = build(keras, network, size, alpha=0.35)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)
    return images, model


def round_to_nearest(model: Any) -> None:
    for layer in model.layers:
        if rounding._is_handled(layer):
            rounding._store(layer, rounding._nearest(rounding._rows(layer)))


@pytest.mark.parametrize(("network", "least"), [("customcnn", 0.8), ("mobilenetv2", 0.9), ("resnet50", 1.0)])
def test_a_whole_network_keeps_its_features_better_than_by_nearest(network: str, least: float) -> None:
    images, model = images_and_network(network)
    features = keras.Model(model.inputs, model.get_layer("features").output)
    expected = features.predict_on_batch(images)
    original = model.get_weights()
    count = rounding.round_kernels(model, images)
    smart = np.abs(features.predict_on_batch(images) - expected).mean()
    model.set_weights(original)
    round_to_nearest(model)
    nearest = np.abs(features.predict_on_batch(images) - expected).mean()
    assert count == sum(rounding._is_handled(layer) for layer in model.layers) >= 9
    assert smart < least * nearest


def test_filters_of_too_many_taps_are_rounded_to_nearest_and_their_drift_is_taken_off() -> None:
    keras.utils.set_random_seed(6)
    images = np.random.default_rng(6).normal(2, 1, (16, 6, 6, rounding.MAX_TAPS)).astype(np.float32)
    slices = keras.layers.Input(images.shape[1:])
    model = keras.Model(slices, keras.layers.Conv2D(3, 3)(slices))
    before = model.predict_on_batch(images)
    kernel = model.layers[1].get_weights()[0]
    assert rounding.round_kernels(model, images) == 1
    steps = np.abs(kernel).max((0, 1, 2)) / 127
    assert model.layers[1].get_weights()[0] == pytest.approx(np.rint(kernel / steps) * steps, abs=1e-7)
    drift = (model.predict_on_batch(images) - before).mean((0, 1, 2))
    spread = (model.predict_on_batch(images) - before).std((0, 1, 2))
    assert np.abs(drift).max() < 0.3 * spread.min()
