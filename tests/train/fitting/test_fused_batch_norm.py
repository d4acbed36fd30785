"""Batch normalisation as one kernel: what Keras' own operations give, and what is saved."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from edge_ct.train.fitting.fused_batch_norm import fuse_batch_norms

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the kernel is TensorFlow's")


def network(**options: Any) -> Any:
    inputs = keras.Input((9, 7, 3))
    x = keras.layers.Conv2D(5, 3, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(seed=1))(inputs)
    x = keras.layers.BatchNormalization(momentum=0.9, **options)(x)
    return keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(keras.layers.Flatten()(x * x)))


def trained(model: Any, steps: int = 3) -> list[np.ndarray]:
    """Return the weights after a few steps of plain gradient descent on fixed slices."""
    generator = np.random.default_rng(0)
    images, targets = generator.normal(2, 3, (4, 9, 7, 3)), generator.normal(size=(4, 1))
    model.compile(keras.optimizers.SGD(1e-4), "mse", jit_compile=False)
    for _ in range(steps):
        model.train_on_batch(images, targets)
    return [np.array(weight) for weight in model.get_weights()]


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.1}])
def test_training_moves_all_weights_and_statistics_as_keras_does(options: dict[str, Any]) -> None:
    fused, plain = network(**options), network(**options)
    fused.set_weights(plain.get_weights())
    before = [np.array(weight) for weight in plain.get_weights()]
    assert fuse_batch_norms(fused) == 1
    ours, theirs = trained(fused), trained(plain)
    for start, one, other in zip(before, ours, theirs, strict=True):
        change = other - start
        np.testing.assert_allclose(one - start, change, rtol=0, atol=1e-3 * np.abs(change).max())
    assert all(np.abs(other - start).max() > 1e-4 for start, other in zip(before, theirs, strict=True))


def test_output_of_a_batch_is_that_of_its_own_mean_and_variance() -> None:
    inputs = keras.Input((2, 2, 1))
    model = keras.Model(inputs, keras.layers.BatchNormalization(epsilon=0.75, momentum=0.0)(inputs))
    fuse_batch_norms(model)
    values = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1)
    # mean 3.5, variance 5.25 over 8 values
    np.testing.assert_allclose(model(values, training=True), (values - 3.5) / np.sqrt(5.25 + 0.75), rtol=1e-5)
    mean, variance = model.get_weights()[2:]
    assert (mean[0], variance[0]) == (pytest.approx(3.5), pytest.approx(5.25))


def test_saved_network_is_keras_own(tmp_path: Any) -> None:
    model = network()
    before = model.to_json()
    fuse_batch_norms(model)
    assert model.to_json() == before
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(1).normal(size=(2, 9, 7, 3)).astype(np.float32)
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.layers[2]) is keras.layers.BatchNormalization
    np.testing.assert_array_equal(again.predict(images, verbose=0), model.predict(images, verbose=0))


def test_frozen_and_other_layers_keep_keras_operations() -> None:
    model = network()
    model.layers[2].trainable = False
    fuse_batch_norms(model)
    statistics = model.layers[2].get_weights()[2:]
    trained(model)
    for before, after in zip(statistics, model.layers[2].get_weights()[2:], strict=True):
        np.testing.assert_array_equal(before, after)
    inputs = keras.Input((4,))
    assert fuse_batch_norms(keras.Model(inputs, keras.layers.BatchNormalization()(inputs))) == 0
