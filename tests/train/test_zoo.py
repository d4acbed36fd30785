"""The networks: shapes, parameter counts from the literature, folded weights, twins."""

from pathlib import Path

import keras
import numpy as np
import pytest

from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.train import zoo


def test_mobilenetv2_has_the_published_parameters_less_two_input_channels() -> None:
    # Sandler et al.: 3.4 M with a 1000-way top; Keras' documentation: 2,257,984 without. Two of three input channels
    # of the 3x3, 32-filter stem are gone (576), and the class map has 1280 x 2 + 2.
    assert zoo.build(keras, "mobilenetv2", 96).count_params() == 2_257_984 - 2 * 9 * 32 + 1280 * 2 + 2


@pytest.mark.parametrize("network", zoo.NETWORKS)
def test_logits_are_the_mean_of_the_class_map(network: str) -> None:
    model = zoo.build(keras, network, 64, alpha=0.35)
    both = keras.Model(model.input, [model.output, model.get_layer("class_map").output])
    images = np.random.default_rng(0).uniform(-1, 1, (3, 64, 64, 1)).astype(np.float32)
    logits, class_map = (keras.ops.convert_to_numpy(output) for output in both(images, training=False))
    assert logits.shape == (3, 2)
    assert logits == pytest.approx(class_map.mean((1, 2)), abs=1e-6)


@pytest.mark.parametrize("network", zoo.NETWORKS)
def test_batch_norm_forgets_fast_enough_for_small_sets(network: str) -> None:
    layers = [layer for layer in zoo.build(keras, network, 32).layers if type(layer).__name__ == "BatchNormalization"]
    assert len(layers) >= 8
    assert {layer.momentum for layer in layers} == {0.9}


@pytest.fixture(scope="module")
def colour_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(3)
    colour = keras.applications.MobileNetV2(input_shape=(64, 64, 3), alpha=0.35, include_top=False, weights=None)
    path = tmp_path_factory.mktemp("weights") / "colour.weights.h5"
    colour.save_weights(path)
    return path


def test_folding_three_channels_into_one_changes_nothing_for_grey(colour_weights: Path) -> None:
    colour = keras.applications.MobileNetV2(
        input_shape=(64, 64, 3), alpha=0.35, include_top=False, weights=str(colour_weights)
    )
    model = zoo.build(keras, "mobilenetv2", 64, alpha=0.35, weights=colour_weights)
    grey = keras.Model(model.input, model.get_layer("features").output)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 1)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(colour(np.repeat(images, 3, axis=3), training=False))
    found = keras.ops.convert_to_numpy(grey(images, training=False))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_weights_of_another_width_are_refused(colour_weights: Path) -> None:
    with pytest.raises(DataRejected, match="not MobileNetV2 weights of alpha 1"):
        zoo.build(keras, "mobilenetv2", 64, alpha=1.0, weights=colour_weights)


@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_files_that_hold_no_weights_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.weights.h5").write_bytes(content)
    with pytest.raises(DataRejected, match="not MobileNetV2 weights"):
        zoo.build(keras, "mobilenetv2", 64, alpha=0.35, weights=tmp_path / "bad.weights.h5")


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRejected, match=r"none\.weights\.h5"):
        zoo.build(keras, "mobilenetv2", 64, alpha=0.35, weights=tmp_path / "none.weights.h5")


def test_customcnn_takes_no_weights(colour_weights: Path) -> None:
    with pytest.raises(DataRejected, match="no pretrained weights"):
        zoo.build(keras, "customcnn", 64, weights=colour_weights)


def test_small_sizes_and_unknown_networks_are_refused() -> None:
    with pytest.raises(EdgeCTError, match="at least 32"):
        zoo.build(keras, "mobilenetv2", 31)
    with pytest.raises(EdgeCTError, match="mobilenetv2, customcnn"):
        zoo.build(keras, "mobilenet", 64)


@pytest.mark.slow
def test_tf_keras_builds_the_same_network() -> None:
    import tf_keras

    keras.utils.set_random_seed(4)
    model = zoo.build(keras, "mobilenetv2", 64, alpha=0.35)
    twin = zoo.build(tf_keras, "mobilenetv2", 64, alpha=0.35)
    for layer in twin.layers:
        if layer.get_weights():
            layer.set_weights(model.get_layer(layer.name).get_weights())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 1)).astype(np.float32)
    assert np.abs(np.asarray(model(images, training=False)) - np.asarray(twin(images, training=False))).max() < 1e-6


@pytest.mark.real
def test_the_shared_imagenet_weights_load(real_data: Path) -> None:
    path = real_data.parent / "weights" / "mobilenet_v2_1.0_224_imagenet_no_top.weights.h5"
    if not path.exists():
        pytest.skip("no ImageNet weights beside the data")
    stem = zoo.build(keras, "mobilenetv2", 224, weights=path).get_layer("Conv1").get_weights()[0]
    assert stem.shape == (3, 3, 1, 32)
