"""Twins compute what their Keras 3 networks do; roundings in training are the file's; what tfmot refuses is named."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from edge_ct.convert.options import FileFormat
from edge_ct.convert.quantise import keras_to_tflite
from edge_ct.convert.shrink import qat, tf_keras_twin
from edge_ct.errors import EdgeCTError
from edge_ct.preprocess import Preprocess
from edge_ct.train.zoo.architectures import find
from edge_ct.train.zoo.builder import build


def settled(model: keras.Model, seed: int = 1) -> keras.Model:
    """Weights at random, the statistics of normalisations too."""
    generator = np.random.default_rng(seed)
    model.set_weights([generator.uniform(0.2, 1, values.shape) * 0.5 for values in model.get_weights()])
    return model


def pre_activated() -> keras.Model:
    """As DenseNet's layers are: a normalisation, its activation, then a convolution; joined with what came before."""
    inputs = keras.layers.Input((8, 8, 1), name="slice")
    first = keras.layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    outputs = keras.layers.BatchNormalization(name="early_bn")(first)
    outputs = keras.layers.Activation("relu", name="early_relu")(outputs)
    outputs = keras.layers.Conv2D(4, 1, name="inner")(outputs)
    outputs = keras.layers.Concatenate(name="join")([first, outputs])
    outputs = keras.layers.BatchNormalization(name="late_bn")(outputs)
    outputs = keras.layers.ReLU(name="late_relu")(outputs)
    outputs = keras.layers.Conv2D(2, 1, name="class_map")(outputs)
    return settled(keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="logits")(outputs), name="dense"))


def scaled() -> keras.Model:
    """As InceptionResNetV2's blocks are: what a convolution gives is scaled, then added."""
    inputs = keras.layers.Input((8, 8, 1), name="slice")
    first = keras.layers.Conv2D(4, 3, activation="relu", name="stem")(inputs)
    up = keras.layers.Conv2D(4, 1, name="up")(first)
    added = CustomScaleLayer(0.17, name="block")([first, up])
    outputs = keras.layers.Conv2D(2, 1, name="class_map")(added)
    return settled(keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="logits")(outputs), name="scaled"))


def separable() -> keras.Model:
    """As Xception's blocks are; with a name that tfmot gives a layer of its own."""
    inputs = keras.layers.Input((8, 8, 1), name="slice")
    first = keras.layers.Conv2D(4, 1, strides=2, use_bias=False, name="conv2d")(inputs)
    first = keras.layers.BatchNormalization(name="first_bn")(first)
    outputs = keras.layers.SeparableConv2D(4, 3, padding="same", use_bias=False, name="sepconv")(inputs)
    outputs = keras.layers.BatchNormalization(name="sepconv_bn")(outputs)
    outputs = keras.layers.MaxPooling2D(2, name="pool")(outputs)
    added = keras.layers.Add(name="add")([first, outputs])
    outputs = keras.layers.Conv2D(2, 1, name="class_map")(added)
    return settled(keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="logits")(outputs), name="separable"))


def images(size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (3, size, size, 1)).astype(np.float32)


@pytest.mark.parametrize("network", ["customcnn", "mobilenetv2"])
def test_a_twin_computes_the_same(network: str) -> None:
    keras.utils.set_random_seed(2)
    model = build(keras, network, 32, alpha=0.35)
    found, expected = (np.asarray(one(images(32), training=False)) for one in (tf_keras_twin.build_twin(model), model))
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("make", [pre_activated, scaled, separable])
def test_a_twin_for_tfmot_computes_the_same(make: object) -> None:
    model = make()
    found, _ = tf_keras_twin.build_quantisable_twin(model)
    assert np.asarray(found(images(8), training=False)) == pytest.approx(np.asarray(model(images(8))), rel=1e-5)


def test_what_is_folded_is_named() -> None:
    # Behind a concatenation, and behind a convolution whose output is wanted elsewhere as well.
    assert tf_keras_twin.build_quantisable_twin(pre_activated())[1] == ("early_bn", "late_bn")
    assert tf_keras_twin.build_quantisable_twin(separable())[1] == ("sepconv",)
    assert tf_keras_twin.build_quantisable_twin(attended())[1] == ()
    assert tf_keras_twin.build_quantisable_twin(scaled())[1] == ("block",)


def test_weights_come_back_through_a_scale() -> None:
    model = scaled()
    other = tf_keras_twin.build_twin(settled(scaled(), seed=7))
    expected = np.asarray(other(images(8)))
    assert np.asarray(model(images(8))) != pytest.approx(expected, rel=1e-2)
    tf_keras_twin.copy_back(other, model)
    assert np.asarray(model(images(8))) == pytest.approx(expected, rel=1e-5)


def test_a_layer_without_a_twin_is_named() -> None:
    class Own(keras.layers.Layer):
        def call(self, inputs: object) -> object:
            return inputs

    inputs = keras.layers.Input((8, 8, 1))
    with pytest.raises(EdgeCTError, match="layer 'mine': a Own has no twin"):
        tf_keras_twin.build_twin(keras.Model(inputs, Own(name="mine")(inputs)))


def attended() -> keras.Model:
    """As EfficientNet's blocks are: swish, and channels multiplied by what a sigmoid makes of their means."""
    inputs = keras.layers.Input((8, 8, 1), name="slice")
    outputs = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    outputs = keras.layers.BatchNormalization(name="stem_bn")(outputs)
    outputs = keras.layers.Activation("swish", name="stem_swish")(outputs)
    means = keras.layers.GlobalAveragePooling2D(name="squeeze")(outputs)
    means = keras.layers.Reshape((1, 1, 8), name="reshape")(means)
    means = keras.layers.Conv2D(8, 1, activation="sigmoid", name="excite")(means)
    outputs = keras.layers.Multiply(name="attend")([outputs, means])
    return settled(keras.Model(inputs, _head(outputs), name="attended"))


def normalised_otherwise() -> keras.Model:
    """With a layer that neither tfmot nor this project has a rule for."""
    inputs = keras.layers.Input((8, 8, 1), name="slice")
    outputs = keras.layers.Conv2D(8, 3, name="stem")(inputs)
    outputs = keras.layers.LayerNormalization(name="odd_one")(outputs)
    return settled(keras.Model(inputs, _head(outputs), name="odd"))


def _head(outputs: object) -> object:
    class_map = keras.layers.Conv2D(2, 1, name="class_map")(outputs)
    return keras.layers.GlobalAveragePooling2D(name="logits")(class_map)


def bytes_of(size: int, n: int = 12) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, size, size, 1), dtype=np.uint8)


def file_of(quantised: object, preprocess: Preprocess) -> Interpreter:
    flatbuffer = keras_to_tflite.to_flatbuffer(
        quantised, preprocess, FileFormat("int8"), bytes_of(preprocess.size)
    )  # raises where it is not integer
    interpreter = Interpreter(model_content=flatbuffer)
    interpreter.allocate_tensors()
    return interpreter


def logits_of(interpreter: Interpreter, image: np.ndarray) -> tuple[np.ndarray, float]:
    [output] = [one for one in interpreter.get_output_details() if tuple(one["shape"]) == (1, 2)]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
    interpreter.invoke()
    scale, zero_point = output["quantization"]
    return (interpreter.get_tensor(output["index"])[0].astype(np.float32) - zero_point) * scale, scale


@pytest.mark.slow
@pytest.mark.parametrize("make", [pre_activated, scaled, separable, attended])
def test_the_file_computes_what_training_computed(make: object) -> None:
    preprocess = Preprocess(8)
    quantised, taken = qat.insert_rounding(make())
    assert (taken.qat, taken.left) == ("full", ())
    qat.set_activation_ranges(quantised, preprocess, bytes_of(8))
    expected = np.asarray(quantised(preprocess.normalise(bytes_of(8)), training=False))
    interpreter = file_of(quantised, preprocess)
    for image, one in zip(bytes_of(8), expected, strict=True):
        found, step = logits_of(interpreter, image)
        assert found == pytest.approx(one, abs=2 * step)


@pytest.mark.slow
@pytest.mark.parametrize("make", [pre_activated, scaled, attended])
def test_roundings_change_little_where_ranges_are_those_of_the_slices(make: object) -> None:
    model, preprocess = make(), Preprocess(8)
    expected = np.asarray(model(preprocess.normalise(bytes_of(8)), training=False))
    quantised, _ = qat.insert_rounding(model)
    qat.set_activation_ranges(quantised, preprocess, bytes_of(8))
    found = np.asarray(quantised(preprocess.normalise(bytes_of(8)), training=False))
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_what_is_refused_is_named() -> None:
    assert qat.insert_rounding(pre_activated())[1].folded == ("early_bn", "late_bn")
    assert qat.insert_rounding(attended())[1].ruled == ("attend",)
    _, taken = qat.insert_rounding(normalised_otherwise())
    assert (taken.qat, taken.left) == ("partial", ("odd_one",))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "folded", "ruled"),
    [
        ("customcnn", 0, 0),
        ("mobilenetv2", 0, 0),
        ("modified-vgg16", 0, 0),
        # One for each of the 58 layers and three transitions, and the last one: their convolutions come after.
        ("densenet121", 62, 0),
        # One squeeze and excitation a block.
        ("efficientnetb0", 0, 16),
    ],
)
def test_the_zoo_says_what_is_taken_of_a_network(network: str, folded: int, ruled: int) -> None:
    architecture = find(network)
    taken = qat.check_support(build(keras, network, architecture.minimum))
    assert (taken.qat, len(taken.folded), len(taken.ruled), taken.left) == (architecture.qat, folded, ruled, ())


def test_the_input_takes_every_byte_as_it_is() -> None:
    quantised, _ = qat.insert_rounding(attended())
    qat.set_activation_ranges(quantised, Preprocess(8), np.full((2, 8, 8, 1), 128, np.uint8))
    [entry] = [layer for layer in quantised.layers if type(layer).__name__ == "QuantizeLayer"]
    levels = Preprocess(8).normalise(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1))
    assert np.asarray(entry(levels, training=False)) == pytest.approx(levels, abs=1e-6)


def test_ranges_are_the_extremes_of_what_layers_give() -> None:
    model, preprocess = pre_activated(), Preprocess(8)
    quantised, _ = qat.insert_rounding(model)
    qat.set_activation_ranges(quantised, preprocess, bytes_of(8))
    probe = keras.Model(model.inputs[0], model.get_layer("late_relu").output)
    expected = np.asarray(probe(preprocess.normalise(bytes_of(8)))).max()
    values = {variable.name: float(variable.numpy()) for variable in quantised.weights if variable.shape == ()}
    [found] = [value for name, value in values.items() if "late_relu" in name and "max" in name]
    assert found == pytest.approx(expected, rel=0.02)  # weights before it are rounded
