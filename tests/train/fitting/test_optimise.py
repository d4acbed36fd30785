"""Loss, targets, schedules, clipping and precisions, against hand calculations and other libraries."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.utils.class_weight import compute_class_weight

from edge_ct.train.fitting.optimise import (
    PLATEAU_FACTOR,
    PLATEAU_PATIENCE,
    SoftTargets,
    balanced_weights,
    compile_model,
    convert_precision,
    plateau_rate,
    soft_accuracy,
    soft_targets,
)
from edge_ct.train.fitting.options import TrainingOptions
from edge_ct.train.zoo.builder import build


def logits_of(n: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (n, 2)).astype(np.float32)


def small() -> keras.Model:
    keras.utils.set_random_seed(2)
    return build(keras, "customcnn", 32)


def test_plateau_rate_by_hand() -> None:
    # 0.9 is the best so far from its epoch on; three epochs without a lower one cut the rate.
    losses = [1.0, 0.9, 0.95, 0.9, 0.91, 0.92, 0.93, 0.94, 0.8, 0.81]
    rates = [plateau_rate(losses[:n], 0.1) for n in range(len(losses) + 1)]
    assert rates == pytest.approx([0.1] * 5 + [0.03] * 3 + [0.009] * 3)


@pytest.mark.parametrize("seed", range(5))
def test_plateau_rate_is_that_of_keras(seed: int) -> None:
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    theirs = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE, min_delta=0
    )
    theirs.set_model(model)
    theirs.on_train_begin()
    losses = np.random.default_rng(seed).integers(1, 20, 40) / 10  # with ties
    for n, loss in enumerate(losses):
        theirs.on_epoch_end(n, {"val_loss": loss})
        rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        assert plateau_rate(losses[: n + 1].tolist(), 0.1) == pytest.approx(rate, rel=1e-5)


def test_targets_by_hand() -> None:
    labels = np.array([0, 1], np.int8)
    assert soft_targets(labels).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert soft_targets(labels, 0.2) == pytest.approx(np.array([[0.9, 0.1, 0, 0], [0.1, 0.9, 0, 0]]))
    # sqrt(0.64) : sqrt(0.36) is 0.8 : 0.6; of the loss, 0.25 is the teacher's, times the square of the temperature.
    found = soft_targets(labels, 0.2, np.array([0.36, 0.5]), mixing=0.25, temperature=2.0)
    assert found == pytest.approx(np.array([[0.675, 0.075, 8 / 14, 6 / 14], [0.075, 0.675, 0.5, 0.5]]), abs=1e-6)
    assert found.dtype == np.float32
    certain = soft_targets(labels, 0, np.array([0.0, 1.0]), mixing=1, temperature=1)
    assert np.isfinite(certain).all()
    assert certain == pytest.approx(np.array([[0, 0, 1, 0], [0, 0, 0, 1]]), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_the_temperature_divides_the_teachers_logits(temperature: float) -> None:
    logits = logits_of(20)
    found = soft_targets(np.zeros(20, int), 0, softmax(logits, axis=1)[:, 1].astype(float), 1.0, temperature)
    assert found[:, 2:] / temperature**2 == pytest.approx(softmax(logits / temperature, axis=1), abs=2e-5)


@pytest.mark.parametrize(("mixing", "temperature", "smoothing"), [(0.7, 3.0, 0.1), (1.0, 2.0, 0.0), (0.0, 5.0, 0.2)])
def test_soft_targets_by_hand(mixing: float, temperature: float, smoothing: float) -> None:
    """Hinton et al. 2015: (1 - m) CE(y, softmax(z)) + m T^2 CE(q, softmax(z / T))."""
    z, q = logits_of(16).astype(float), np.random.default_rng(1).uniform(0.02, 0.98, 16)
    labels = np.arange(16) % 2
    y = np.eye(2)[labels] * (1 - smoothing) + smoothing / 2
    soft = softmax(np.log(np.stack([1 - q, q], 1)) / temperature, axis=1)
    by_hand = -(1 - mixing) * (y * log_softmax(z, axis=1)).sum(1) - mixing * temperature**2 * (
        soft * log_softmax(z / temperature, axis=1)
    ).sum(1)
    loss = SoftTargets(temperature)
    targets = soft_targets(labels, smoothing, q, mixing, temperature)
    assert keras.ops.convert_to_numpy(loss.call(keras.ops.convert_to_tensor(targets), z)) == pytest.approx(
        by_hand, rel=1e-4
    )
    assert float(loss(targets, z.astype(np.float32))) == pytest.approx(by_hand.mean(), rel=1e-4)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(targets, z.astype(np.float32))) == pytest.approx(by_hand.mean(), rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 16.0])
def test_the_gradient_does_not_shrink_with_the_temperature(temperature: float) -> None:
    """By hand it is T (softmax(z / T) - q_T) for mixing 1, of the order of z - z_teacher at any high temperature."""
    tensorflow = pytest.importorskip("tensorflow")
    z, teacher = logits_of(12, 4), logits_of(12, 5)
    p = softmax(teacher.astype(float), axis=1)[:, 1]
    targets = soft_targets(np.zeros(12, int), 0, p, 1.0, temperature)
    with tensorflow.GradientTape() as tape:
        logits = tensorflow.Variable(z)
        loss = tensorflow.reduce_sum(SoftTargets(temperature).call(tensorflow.constant(targets), logits))
    found = tape.gradient(loss, logits).numpy()
    by_hand = temperature * (softmax(z / temperature, axis=1) - softmax(teacher / temperature, axis=1))
    assert found == pytest.approx(by_hand, abs=2e-4)
    if temperature == 16:  # Hinton et al. 2015, equation 4, of logits with mean zero: (z - z_teacher) / N
        difference = (z - z.mean(1, keepdims=True)) - (teacher - teacher.mean(1, keepdims=True))
        assert found == pytest.approx(difference / 2, rel=0.1, abs=0.02)


def test_soft_accuracy_is_that_of_the_labels_and_else_the_teachers() -> None:
    logits = np.array([[2, 1], [1, 2], [2, 1], [1, 2]], np.float32)
    labels, teacher = np.array([0, 0, 1, 1]), np.array([0.9, 0.9, 0.9, 0.9])
    for mixing, expected in ((0.0, [1, 0, 0, 1]), (0.9, [1, 0, 0, 1]), (1.0, [0, 1, 0, 1])):
        targets = soft_targets(labels, 0.1, teacher, mixing, 2.0)
        found = keras.ops.convert_to_numpy(soft_accuracy(targets, logits))
        assert found.tolist() == expected, mixing


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.array([0] * 30 + [1] * 10, np.int8)
    assert balanced_weights(labels).tolist() == pytest.approx([40 / 60, 2.0])
    assert balanced_weights(labels) == pytest.approx(
        compute_class_weight("balanced", classes=np.array([0, 1]), y=labels), rel=1e-6
    )


def test_the_gradient_is_clipped_by_its_norm() -> None:
    model = small()
    compile_model(model, TrainingOptions("customcnn", size=32, clip=0.5), 10, False)
    assert model.optimizer.global_clipnorm == 0.5
    gradients = [keras.ops.convert_to_tensor(np.full(shape, 3.0, np.float32)) for shape in ((4,), (5, 1))]
    clipped = model.optimizer._clip_gradients(gradients)
    assert np.sqrt(sum((keras.ops.convert_to_numpy(g) ** 2).sum() for g in clipped)) == pytest.approx(0.5)
    compile_model(model, TrainingOptions("customcnn", size=32), 10, False)
    assert model.optimizer.global_clipnorm is None


def test_cosine_by_hand() -> None:
    model = small()
    compile_model(model, TrainingOptions("customcnn", size=32, learning_rate=1e-2), 200, False)
    schedule = model.optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 10, 105, 200, 900)]
    # Ten steps up from a tenth, then 190 steps of half a cosine down to a hundredth.
    assert rates == pytest.approx([1e-3, 5.5e-3, 1e-2, (1e-2 + 1e-4) / 2, 1e-4, 1e-4], rel=1e-4)
    compile_model(model, TrainingOptions("customcnn", size=32, schedule="constant"), 200, False)
    assert float(model.optimizer.learning_rate) == pytest.approx(5e-4)


def test_frozen_is_the_backbone_alone() -> None:
    model = small()
    compile_model(model, TrainingOptions("customcnn", size=32, freeze=1), 10, frozen=True)
    assert [weight.path for weight in model.trainable_weights] == ["class_map/kernel", "class_map/bias"]
    compile_model(model, TrainingOptions("customcnn", size=32, freeze=1), 10, frozen=False)
    assert len(model.trainable_weights) == 26  # eight convolutions, each with gamma and beta; the class map


@pytest.mark.parametrize(("precision", "places"), [("mixed_bfloat16", 2**-8), ("mixed_float16", 2**-11)])
def test_in_precision_computes_in_it_and_back(precision: str, places: float) -> None:
    slices = np.random.default_rng(0).uniform(-1, 1, (6, 32, 32, 1)).astype(np.float32)
    exact = keras.ops.convert_to_numpy(small()(slices))
    model = convert_precision(small(), precision)
    kinds = {layer.name: layer.compute_dtype for layer in model.layers}
    assert kinds["stage1_conv1"] == kinds["stage4_conv2_bn"] == precision.removeprefix("mixed_")
    assert kinds["class_map"] == kinds["logits"] == "float32"
    assert {weight.dtype for weight in model.weights} == {"float32"}
    rough = keras.ops.convert_to_numpy(model(slices))
    error = np.abs(rough - exact).max() / np.abs(exact).max()
    assert places / 50 < error < 8 * places
    back = convert_precision(model, "float32")
    assert {layer.dtype_policy.name for layer in back.layers} == {"float32"}
    assert np.array_equal(keras.ops.convert_to_numpy(back(slices)), exact)
    assert convert_precision(back, "float32") is back


def test_half_precision_scales_its_loss() -> None:
    """Gradients below 6e-8 vanish in float16."""
    for precision, kind in (("mixed_float16", "LossScaleOptimizer"), ("mixed_bfloat16", "Adam"), ("float32", "Adam")):
        model = convert_precision(small(), precision)
        options = TrainingOptions("customcnn", size=32, precision=precision, ema=0.9, clip=1.0, schedule="constant")
        compile_model(model, options, 10, False)
        assert type(model.optimizer).__name__ == kind
        assert float(model.optimizer.learning_rate) == pytest.approx(5e-4)
        inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        assert (inner.use_ema, inner.ema_momentum, inner.global_clipnorm) == (True, 0.9, 1.0)
