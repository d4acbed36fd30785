"""The networks: shapes, parameter counts from the literature, folded weights, twins."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.network_analysis.macs import count_macs
from edge_ct.preprocess import Preprocess
from edge_ct.train.zoo import catalogue
from edge_ct.train.zoo.architectures import find
from edge_ct.train.zoo.builder import build
from edge_ct.train.zoo.pretrained import channel_scaling

SMALL = ("mobilenetv2", "customcnn")


def test_mobilenetv2_has_the_published_parameters_less_two_input_channels() -> None:
    # Sandler et al.: 3.4 M with a 1000-way top; Keras' documentation: 2,257,984 without. Two of three input channels
    # of the 3x3, 32-filter stem are gone (576), and the class map has 1280 x 2 + 2.
    assert build(keras, "mobilenetv2", 96).count_params() == 2_257_984 - 2 * 9 * 32 + 1280 * 2 + 2


@pytest.mark.parametrize("network", SMALL)
def test_logits_are_the_mean_of_the_class_map(network: str) -> None:
    model = build(keras, network, 64, alpha=0.35)
    both = keras.Model(model.input, [model.output, model.get_layer("class_map").output])
    images = np.random.default_rng(0).uniform(-1, 1, (3, 64, 64, 1)).astype(np.float32)
    logits, class_map = (keras.ops.convert_to_numpy(output) for output in both(images, training=False))
    assert logits.shape == (3, 2)
    assert logits == pytest.approx(class_map.mean((1, 2)), abs=1e-6)


@pytest.mark.parametrize("network", SMALL)
def test_batch_norm_forgets_fast_enough_for_small_sets(network: str) -> None:
    layers = [layer for layer in build(keras, network, 32).layers if type(layer).__name__ == "BatchNormalization"]
    assert len(layers) >= 8
    assert {layer.momentum for layer in layers} == {0.9}


@pytest.mark.parametrize("network", ["efficientnetb0", "modified-efficientnetb0"])
def test_without_dropout_nothing_in_an_efficientnet_is_drawn(network: str) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 1)).astype(np.float32)

    def drawn(dropout: float) -> bool:
        model = build(keras, network, 32, dropout=dropout)
        # A checkpoint is of the model's variables, in order; a state of random numbers not made again shifts it.
        assert len(model.variables) == len(keras.Model.from_config(model.get_config()).variables)
        once, again = (keras.ops.convert_to_numpy(model(images, training=True)) for _ in range(2))
        return not np.array_equal(once, again)

    assert drawn(0.2)
    assert not drawn(0)


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
    model = build(keras, "mobilenetv2", 64, alpha=0.35, weights=colour_weights)
    grey = keras.Model(model.input, model.get_layer("features").output)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 1)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(colour(np.repeat(images, 3, axis=3), training=False))
    found = keras.ops.convert_to_numpy(grey(images, training=False))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nosuch.h5"
    with pytest.raises(DataRejected) as raised:
        build(keras, "mobilenetv2", 64, weights=path)
    expected = f"{path}: no such file of weights; name a file with --weights, or write imagenet or none"
    assert str(raised.value) == expected


def test_weights_of_another_width_are_refused(colour_weights: Path) -> None:
    with pytest.raises(DataRejected, match="does not hold MobileNetV2 weights for alpha 1"):
        build(keras, "mobilenetv2", 64, alpha=1.0, weights=colour_weights)


@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_files_that_hold_no_weights_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.weights.h5").write_bytes(content)
    with pytest.raises(DataRejected, match="does not hold MobileNetV2 weights"):
        build(keras, "mobilenetv2", 64, alpha=0.35, weights=tmp_path / "bad.weights.h5")


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRejected, match=r"none\.weights\.h5"):
        build(keras, "mobilenetv2", 64, alpha=0.35, weights=tmp_path / "none.weights.h5")


def test_customcnn_takes_no_weights(colour_weights: Path) -> None:
    with pytest.raises(DataRejected, match="no pretrained weights"):
        build(keras, "customcnn", 64, weights=colour_weights)


def test_small_sizes_and_unknown_networks_are_refused() -> None:
    with pytest.raises(EdgeCTError, match="at least 32"):
        build(keras, "mobilenetv2", 31)
    with pytest.raises(EdgeCTError, match=r"'mobilenet'; did you mean mobilenetv2"):
        build(keras, "mobilenet", 64)
    with pytest.raises(EdgeCTError, match="edge-ct models lists them"):
        build(keras, "transformer", 64)


def colour_file(application: str, folder: Path) -> tuple[Any, Path]:
    """A Keras network of three channels and random weights, 64 px, and the file of its weights."""
    keras.utils.set_random_seed(3)
    colour = getattr(keras.applications, application)(input_shape=(64, 64, 3), include_top=False, weights=None)
    for layer in colour.layers:
        if type(layer).__name__ == "Normalization":  # as Keras' files hold them
            count = layer.get_weights()[2]
            layer.set_weights([np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225]), count])
            layer.finalize_state()
    path = folder / "colour.weights.h5"
    colour.save_weights(path)
    return colour, path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "application", "prepare"),
    [
        ("resnet50v2", "ResNet50V2", keras.applications.resnet_v2.preprocess_input),
        ("vgg16", "VGG16", keras.applications.vgg16.preprocess_input),
        ("modified-densenet121", "DenseNet121", keras.applications.densenet.preprocess_input),
        ("efficientnetb0", "EfficientNetB0", None),
    ],
)
def test_grey_slices_go_through_pretrained_networks_as_grey_photographs_did(
    network: str, application: str, prepare: Any, tmp_path: Path
) -> None:
    colour, path = colour_file(application, tmp_path)
    grey = build(keras, network, 64, weights=path)
    grey = keras.Model(grey.inputs[0], grey.get_layer("features").output)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1), np.uint8)
    photographs = np.repeat(images, 3, axis=3).astype(np.float32)
    if prepare:
        expected = colour(prepare(photographs.copy()), training=False)
    else:
        # What Keras does to these weights where it downloads them: two normalisations one after the other.
        inner = keras.Model(colour.get_layer("stem_conv_pad").output, colour.output)
        normalised = (photographs / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        expected = inner(np.pad(normalised, ((0, 0), (0, 1), (0, 1), (0, 0))).astype(np.float32), training=False)
    expected = keras.ops.convert_to_numpy(expected)
    found = keras.ops.convert_to_numpy(grey(Preprocess(64).normalise(images), training=False))
    # ResNet50V2's centre is half a grey level from ours.
    tolerance = 0.02 if network == "resnet50v2" else 1e-4
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_the_scaling_of_vgg_is_that_of_its_documentation() -> None:
    # Blue, green, red; less the means of ImageNet, not scaled.
    scale, offset = channel_scaling(keras, find("vgg16"), None)
    assert scale == pytest.approx([127.5] * 3, abs=1e-4)
    assert offset == pytest.approx([128 - 103.939, 128 - 116.779, 128 - 123.68], abs=1e-4)


def test_multiply_accumulates_are_those_of_the_literature() -> None:
    # Sandler et al.: 300 M for MobileNetV2 at 224 px; less two of the stem's three channels and the 1000-way top.
    found = count_macs(build(keras, "mobilenetv2", 224))
    published = 300e6 - 2 * 9 * 32 * 112**2 - 1280 * 1000 + 1280 * 2 * 49
    assert found == pytest.approx(published, rel=0.01)
    # By hand: two 3x3 convolutions a stage, halved between stages, and the class map.
    stages = [(1, 16, 32), (16, 32, 16), (32, 64, 8), (64, 128, 4)]
    by_hand = sum(9 * side**2 * (before * after + after * after) for before, after, side in stages) + 128 * 2 * 16
    assert count_macs(build(keras, "customcnn", 32)) == by_hand


def test_described_networks_are_those_that_are_built() -> None:
    found = catalogue.summarise_networks(["resnet50v2", "modified-resnet50v2", "customcnn"], 64)
    assert [one.name for one in found] == ["resnet50v2", "modified-resnet50v2", "customcnn"]
    for one in found:
        model = build(keras, one.name, 64)
        assert (one.params, one.macs, one.class_map) == (model.count_params(), count_macs(model), not one.modified)
    with pytest.raises(EdgeCTError, match="at least 75"):
        catalogue.summarise_networks(["inceptionv3"], 64)


@pytest.mark.slow
def test_tf_keras_builds_the_same_network() -> None:
    import tf_keras

    keras.utils.set_random_seed(4)
    model = build(keras, "mobilenetv2", 64, alpha=0.35)
    twin = build(tf_keras, "mobilenetv2", 64, alpha=0.35)
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
    stem = build(keras, "mobilenetv2", 224, weights=path).get_layer("Conv1").get_weights()[0]
    assert stem.shape == (3, 3, 1, 32)
