"""Each way of training, on sixty phantom slices: that it does what its option says, and leaves a run as any other."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest
from sklearn.metrics import log_loss

from edge_ct.run import Run
from edge_ct.train import fit
from edge_ct.train.data import synthesise
from edge_ct.train.fitting import optimise
from edge_ct.train.fitting.checkpoint import AveragedWeights, Checkpoint
from edge_ct.train.fitting.optimise import plateau_rate
from edge_ct.train.fitting.options import TrainingOptions
from edge_ct.train.score.predict import predict_images, predict_run

pytestmark = pytest.mark.slow

TINY = TrainingOptions(
    "customcnn", size=32, epochs=1, split="grouped", batch=8, augment="flips", seed=4, learning_rate=2e-3, clip=1.0
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> fit.PreparedData:
    table = synthesise.write_phantom_dataset(
        tmp_path_factory.mktemp("data") / "phantoms", patients=30, slices=2, size=48, seed=8
    )
    return fit.prepare_data(table, TINY)


class Recorder(keras.callbacks.Callback):
    """The weights after each step, and before the first epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[np.ndarray]] = []
        self.epochs: list[list[np.ndarray]] = []

    def weights(self) -> list[np.ndarray]:
        return [np.array(keras.ops.convert_to_numpy(weight)) for weight in self.model.weights]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append(self.weights())

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(self.weights())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(self.weights())


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder, callbacks = Recorder(), Checkpoint.callbacks
    monkeypatch.setattr(Checkpoint, "callbacks", lambda self: [recorder, *callbacks(self)])
    return recorder


@pytest.fixture
def trained(prepared: fit.PreparedData, tmp_path: Path) -> Callable[..., Run]:
    def train(**changes: Any) -> Run:
        return fit.train_prepared(prepared, tmp_path / "run", msgspec.structs.replace(TINY, **changes))

    return train


def model_of(run: Run) -> Any:
    return run.load_model(lambda path: keras.saving.load_model(path, compile=False))


def history_of(run: Run) -> list[dict[str, float]]:
    with (run.folder / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def validation_loss(run: Run, prepared: fit.PreparedData) -> float:
    part = prepared.table.where("validation")
    p = predict_images(model_of(run), run.info.preprocess, prepared.images.images[part])
    return float(log_loss(prepared.table.labels[part], p, labels=[0, 1]))


def test_frozen_then_whole_with_a_rate_that_falls_when_validation_stalls(
    recorder: Recorder, trained: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimise, "PLATEAU_PATIENCE", 1)
    run = trained(freeze=1, epochs=16, patience=16, schedule="plateau", learning_rate=5e-2, tensorboard=True)
    names = [weight.path for weight in model_of(run).weights]
    assert len(names) == 42  # eight convolutions, each with gamma, beta, mean and variance; the class map
    for name, before, frozen, thawed, whole in zip(names, *recorder.epochs[:4], strict=True):
        assert np.array_equal(before, frozen) != name.startswith("class_map"), name
        assert np.array_equal(frozen, thawed), name
        assert not np.array_equal(thawed, whole), name
    history = history_of(run)
    losses = [row["val_loss"] for row in history[1:]]
    expected = [5e-2] + [plateau_rate(losses[:n], 5e-2) for n in range(len(losses))]
    assert [row["learning_rate"] for row in history] == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < 5e-2  # no loss falls sixteen times in a row at such a rate
    (log,) = (run.folder / "tensorboard" / "validation").iterdir()
    events = list(pytest.importorskip("tensorflow").compat.v1.train.summary_iterator(str(log)))[1:]
    logged = [value.simple_value for event in events for value in event.summary.value if value.tag == "loss"]
    assert logged == pytest.approx([row["val_loss"] for row in history], rel=1e-5)
    assert not list(run.folder.glob("**/.tmp-*"))


def test_what_is_validated_and_kept_is_the_moving_average(
    recorder: Recorder, trained: Callable[..., Run], prepared: fit.PreparedData
) -> None:
    run = trained(ema=0.8, label_smoothing=0.3, class_weights=True)
    model = model_of(run)
    averaged = {weight.path for weight in model.trainable_weights}
    assert len(recorder.steps) >= 4
    average = recorder.steps[0]
    for step in recorder.steps[1:]:
        average = [0.8 * a + 0.2 * w for a, w in zip(average, step, strict=True)]
    for weight, mean, last in zip(model.weights, average, recorder.steps[-1], strict=True):
        kept = keras.ops.convert_to_numpy(weight)
        if weight.path in averaged:
            assert kept == pytest.approx(mean, abs=1e-6), weight.path
            assert kept != pytest.approx(last, abs=1e-6), weight.path
        else:  # the statistics of batch normalisation, which are moving averages themselves
            assert np.array_equal(kept, last), weight.path
    # And it is compared with the labels, whatever is learned from.
    assert validation_loss(run, prepared) == pytest.approx(history_of(run)[0]["val_loss"], rel=1e-4)


def test_averages_are_put_in_place_and_back_to_the_bit() -> None:
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5), "mse")
    model.fit(np.random.default_rng(1).normal(size=(64, 3)), np.ones((64, 2)), batch_size=8, verbose=0)
    generator = np.random.default_rng(2)
    for average in model.optimizer._model_variables_moving_average:
        average.assign(1e6 * generator.normal(size=average.shape))
    weights = model.get_weights()
    averages = [np.array(average) for average in model.optimizer._model_variables_moving_average]
    callback = AveragedWeights()
    callback.set_model(model)
    callback.on_test_begin()
    assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), averages, strict=True))
    callback.on_test_end()
    assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), weights, strict=True))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_run_of_lower_precision_is_kept_in_float32(
    precision: str, trained: Callable[..., Run], prepared: fit.PreparedData
) -> None:
    run = trained(precision=precision, ema=0.5, class_weights=True)
    model = model_of(run)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert validation_loss(run, prepared) == pytest.approx(history_of(run)[0]["val_loss"], rel=2e-2)
    with (run.folder / "predictions.csv").open(newline="") as file:
        stored = [float(row["probability"]) for row in csv.DictReader(file) if row["part"] == "test"]
    found = predict_run(run, run.dataset().take(prepared.table.where("test")))
    assert found == pytest.approx(stored, abs=1e-5)
