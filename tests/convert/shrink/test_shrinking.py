"""Slimming, pruning and training with roundings: what goes is what would be missed least, and zeros stay zeros."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edge_ct import cli
from edge_ct.bundle import read_bundle
from edge_ct.convert import pipeline
from edge_ct.convert.networks import load_network, to_deployed_form
from edge_ct.convert.options import ConversionOptions, FileFormat, ShrinkOptions
from edge_ct.convert.quantise import keras_to_tflite
from edge_ct.convert.run_slices import RunSlices
from edge_ct.convert.shrink import finetune, prune, qat, slim, tf_keras_twin
from edge_ct.convert.shrink.steps import shrink_network
from edge_ct.errors import EdgeCTError
from edge_ct.preprocess import Preprocess
from edge_ct.run import load_run
from edge_ct.runtime import Runtime, read_tensors
from edge_ct.train.zoo import build

RECIPE = finetune.FineTuneRecipe(2, 1e-3, batch=8, seed=3)


def lessons(size: int = 16, n: int = 40, seed: int = 0) -> finetune.DistillationData:
    """Bright slices are positive."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = (generator.integers(0, 128, (n, size, size, 1)) + 127 * labels.reshape(-1, 1, 1, 1)).astype(np.uint8)
    views = np.full((n, 2, 2), 0.5, np.float32)
    return finetune.DistillationData(images, labels, views, images, labels, Preprocess(size))


def small(channels: int = 48) -> keras.Model:
    keras.utils.set_random_seed(4)
    inputs = keras.layers.Input((16, 16, 1), name="slice")
    outputs = keras.layers.Conv2D(channels, 3, strides=2, use_bias=False, name="stem")(inputs)
    outputs = keras.layers.BatchNormalization(momentum=0.5, name="stem_bn")(outputs)
    outputs = keras.layers.ReLU(name="stem_relu")(outputs)
    outputs = keras.layers.Conv2D(channels, 1, activation="relu", name="mix")(outputs)
    outputs = keras.layers.Activation("linear", name="features")(outputs)
    class_map = keras.layers.Conv2D(2, 1, name="class_map")(outputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="logits")(class_map), name="small")


def zeros(flatbuffer: bytes, taps: int) -> int:
    """Zeros among the int8 kernels of `taps` weights."""
    interpreter = Interpreter(model_content=flatbuffer)
    found = 0
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] == np.int8 and len(tensor["shape"]) == 4 and np.prod(tensor["shape"]) == taps:
            found += int((interpreter.get_tensor(tensor["index"]) == 0).sum())
    return found


def test_fine_tuning_is_repeatable_and_ends_with_its_best_epoch() -> None:
    histories, weights = [], []
    for _ in range(2):
        network = tf_keras_twin.build_twin(small())
        histories.append([one.validation_loss for one in finetune.fine_tune(network, lessons(), RECIPE)])
        weights.append(network.get_weights())
        data = lessons()
        logits = np.asarray(network(data.preprocess.normalise(data.validation_images), training=False), np.float64)
        loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), data.validation_labels]
        assert loss.mean() == pytest.approx(min(histories[-1]), rel=1e-5)
    assert histories[0] == histories[1]
    assert all(np.array_equal(*pair) for pair in zip(*weights, strict=True))


def test_every_epoch_sees_other_slices_mirrored_and_what_was_said_of_them() -> None:
    data = lessons()
    data.views[:, 0], data.views[:, 1] = (0.9, 0.1), (0.2, 0.8)
    first, second = (np.concatenate([one[0] for one in data.draw(3, epoch, 8)]) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first.tolist() != second.tolist()
    images, targets = data.batch(np.array([5, 5]), np.array([False, True]))
    assert np.array_equal(images[0], images[1][:, ::-1])
    assert targets == pytest.approx(np.array([[0.45, 0.55], [0.1, 0.9]]))


def test_slices_that_fill_no_batch_wait() -> None:
    assert [len(one) for one, _ in lessons(n=20).draw(0, 0, 8)] == [8, 8]
    assert [len(one) for one, _ in lessons(n=4).draw(0, 0, 8)] == [4]


def test_a_loss_that_is_no_number_is_said() -> None:
    data = lessons()
    data.views[7] = np.nan
    with pytest.raises(EdgeCTError, match="loss became NaN or infinite in epoch 1"):
        finetune.fine_tune(tf_keras_twin.build_twin(small()), data, RECIPE)


def test_pruning_reaches_its_share_and_both_files_keep_the_zeros() -> None:
    model = small()
    account = prune.prune_network(model, 0.7, lessons(), RECIPE)
    kernel = np.asarray(model.get_layer("mix").kernel)
    assert (kernel == 0).mean() == account.share == pytest.approx(0.7, abs=1e-3)
    assert (account.layers, account.left) == (1, ("stem", "class_map"))
    assert (np.asarray(model.get_layer("stem").kernel) == 0).sum() == 0
    pruned, images = int((kernel == 0).sum()), lessons().images
    quantised, _ = qat.insert_rounding(to_deployed_form(model), keep_zeros=True)
    qat.set_activation_ranges(quantised, Preprocess(16), images)
    finetune.fine_tune(quantised, lessons(), RECIPE)
    file = keras_to_tflite.to_flatbuffer(to_deployed_form(model), Preprocess(16), FileFormat("int8"), images)
    assert zeros(file, kernel.size) >= pruned
    assert (
        zeros(
            keras_to_tflite.to_flatbuffer(to_deployed_form(model), Preprocess(16), FileFormat("int8"), images),
            kernel.size,
        )
        >= pruned
    )


def test_without_care_training_fills_the_zeros() -> None:
    model = small()
    prune.prune_network(model, 0.7, lessons(), RECIPE)
    kernel = np.asarray(model.get_layer("mix").kernel)
    quantised, _ = qat.insert_rounding(to_deployed_form(model))
    qat.set_activation_ranges(quantised, Preprocess(16), lessons().images)
    finetune.fine_tune(quantised, lessons(), RECIPE)
    file = keras_to_tflite.to_flatbuffer(quantised, Preprocess(16), FileFormat("int8"), lessons().images)
    assert zeros(file, kernel.size) < (kernel == 0).sum()


def test_a_network_without_large_layers_is_not_pruned() -> None:
    with pytest.raises(EdgeCTError, match="no layer of 1024 weights"):
        prune.prune_network(small(8), 0.5, lessons(), RECIPE)


@pytest.fixture(scope="module")
def mobilenet() -> keras.Model:
    keras.utils.set_random_seed(6)
    return build(keras, "mobilenetv2", 32, alpha=0.35)


def test_channels_that_never_change_go_and_nothing_is_missed(mobilenet: keras.Model) -> None:
    images = np.random.default_rng(1).uniform(-1, 1, (4, 32, 32, 1)).astype(np.float32)
    generator = np.random.default_rng(2)
    idle = {}
    for block in slim.find_blocks(mobilenet):
        gamma, beta, mean, variance = mobilenet.get_layer(block.norm).get_weights()
        # At rest, at different heights: with `gamma` zero a channel is `beta` everywhere.
        gone = generator.permutation(block.channels)[: block.channels - slim._kept(block.channels, 0.5)]
        idle[block.expand] = set(gone.tolist())
        gamma[:], gamma[gone], beta[:] = 1, 0, generator.uniform(0.5, 1.5, block.channels)
        mobilenet.get_layer(block.norm).set_weights([gamma, beta, mean, variance * 0 + 1e-6])
    smaller = slim.slim_network(mobilenet, 0.5, images)
    account = slim.count_removed(mobilenet, smaller, [])
    assert account.removed == sum(map(len, idle.values())) == pytest.approx(account.of / 2, rel=0.1)
    assert account.parameters[1] < 0.75 * account.parameters[0]
    # The first convolution keeps its work, the blocks lose half of theirs.
    assert account.macs[1] < 0.65 * account.macs[0]
    expected = np.asarray(mobilenet(images, training=False))
    assert np.abs(expected).max() > 1e-3
    assert np.asarray(smaller(images, training=False)) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_other_networks_are_not_slimmed() -> None:
    with pytest.raises(EdgeCTError, match="small cannot be slimmed"):
        slim.slim_network(small(), 0.3, np.zeros((1, 16, 16, 1), np.float32))


def test_a_network_that_roundings_cannot_serve_is_refused_before_anything_takes_time(trained_run: Path) -> None:
    inputs = keras.layers.Input((48, 48, 1), name="slice")
    outputs = keras.layers.LayerNormalization(name="odd_one")(keras.layers.Conv2D(4, 3, name="stem")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(outputs)), name="odd")
    with pytest.raises(EdgeCTError, match="odd: quantisation-aware training does not support the layers odd_one"):
        shrink_network(model, RunSlices(load_run(trained_run)), ShrinkOptions(qat=1))


def test_names_say_what_was_done() -> None:
    assert ShrinkOptions().label == ""
    assert ShrinkOptions(slim=0.3, prune=0.7, qat=2).label == "slimmed-0.3-pruned-0.7-qat"


@pytest.mark.slow
def test_a_run_becomes_a_pruned_bundle_trained_with_roundings(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--prune", "0.5", "--qat", "1", "--fine-tune", "2", "--max-drop", "100", "--json"]
    assert cli.run(["convert", str(trained_run), *arguments, "--out", str(tmp_path)]) == 0
    [out] = tmp_path.iterdir()
    assert out.name.endswith("-pruned-0.5-qat-int8.tflite")  # beside the plain file's, not over it
    printed = json.loads(capsys.readouterr().out)
    assert printed["variant"] == "pruned-0.5-qat-int8"
    assert printed["shrinking"]["prune"]["share"] == pytest.approx(0.5, abs=0.01)
    assert printed["shrinking"]["qat"]["taken"]["qat"] == "full"
    manifest = read_bundle(out).manifest
    assert (manifest.shrinking, manifest.variant) == ("pruned-0.5-qat", "int8")
    keras_to_tflite.check_integer(read_bundle(out).model, manifest.preprocess, FileFormat("int8"))
    assert set(manifest.metrics) == {"fp32", "pruned-0.5-qat-int8"}


@pytest.mark.slow
def test_test_slices_are_never_learned_from(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    images = RunSlices.images

    def recorded(self: RunSlices, part: str) -> np.ndarray:
        asked.append(part)
        return images(self, part)

    monkeypatch.setattr(RunSlices, "images", recorded)
    run = load_run(trained_run)
    shrunk = shrink_network(load_network(run), RunSlices(run), ShrinkOptions(prune=0.5, epochs=1))
    assert set(asked) == {"train", "validation"}
    assert shrunk.label == "pruned-0.5"


def test_roundings_are_for_int8_alone(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(trained_run), "--qat", "1", "--fp16", "--int8", "--out", str(tmp_path / "models")]
    assert cli.run(arguments) == 1
    assert "is for int8, not for fp16" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
    with pytest.raises(EdgeCTError, match="that --prune makes"):
        ShrinkOptions(slim=0.3).check(("int8",), sparse=True)


def test_zeros_need_not_be_stored() -> None:
    model, images = small(), lessons().images
    kernel, bias = model.get_layer("mix").get_weights()
    model.get_layer("mix").set_weights([np.where(np.abs(kernel) < np.quantile(np.abs(kernel), 0.8), 0, kernel), bias])
    network = to_deployed_form(model)
    # Four fifths of 2304 weights go; each that stays needs a byte for its place, and the layer a kilobyte besides.
    for variant, saved in (("fp32", 4 * 0.5 * kernel.size), ("int8", 0)):
        forms = [FileFormat(variant, sparse=sparse) for sparse in (False, True)]
        dense, sparse = (keras_to_tflite.to_flatbuffer(network, Preprocess(16), form, images) for form in forms)
        assert len(dense) - len(sparse) > saved
        outputs = []
        for content in (dense, sparse):
            runtime = Runtime(content, read_tensors(content))
            runtime.invoke(images[0])
            outputs.append(runtime.outputs().logits)
        assert outputs[0] == pytest.approx(outputs[1], abs=1e-4)


def test_a_stop_leaves_nothing_behind(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "_validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.convert(
            trained_run, tmp_path / "model.tflite", options=ConversionOptions(shrink=ShrinkOptions(prune=0.5, epochs=1))
        )
    assert list(tmp_path.iterdir()) == []
