"""Training: what a run folder holds, early stopping, resume after a kill."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from edge_ct.dataset import load
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.preprocess import Preprocess
from edge_ct.run import load_run
from edge_ct.system.progress import QUIET, Progress
from edge_ct.train import fit
from edge_ct.train.data.augment import POLICIES
from edge_ct.train.fitting.batches import Batches
from edge_ct.train.fitting.checkpoint import Checkpoint, explain_new_start, replace_with_saved
from edge_ct.train.fitting.options import TrainingOptions
from edge_ct.train.score.predict import predict_run
from edge_ct.train.score.run_scores import RunScores

TINY = TrainingOptions("customcnn", size=32, epochs=2, split="grouped", batch=16)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def excerpt(table: Path, path: Path, rows: slice) -> Path:
    """Some rows of a table as another one, which names its slices by absolute paths."""
    lines = table.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(f"{table.parent}/{line}" for line in lines[rows])]) + "\n")
    return path


def test_the_run_folder_is_complete(trained_run: Path) -> None:
    names = {path.name for path in trained_run.iterdir()}
    assert names == {
        "run.json",
        "split.csv",
        "model.keras",
        "history.csv",
        "predictions.csv",
        "metrics.json",
        "metrics.csv",
        "curves.png",
        "confusion.png",
    }
    info = load_run(trained_run).info
    assert info.finished
    assert info.data.split == "grouped"
    assert info.versions["keras"]
    assert len(read_csv(trained_run / "history.csv")) == 10


def test_metrics_are_those_of_the_predictions(trained_run: Path) -> None:
    scores = msgspec.json.decode((trained_run / "metrics.json").read_bytes(), type=RunScores)
    rows = [row for row in read_csv(trained_run / "predictions.csv") if row["part"] == "test"]
    labels = np.array([int(row["label"]) for row in rows])
    p = np.array([float(row["probability"]) for row in rows])
    assert scores.parts["test"].n == len(rows)
    assert scores.parts["test"].accuracy.value == pytest.approx(np.mean((p >= 0.5) == (labels == 1)))
    assert scores.parts["test"].auc.value == pytest.approx(roc_auc_score(labels, p), abs=1e-4)


def test_predictions_are_those_of_the_saved_model(trained_run: Path) -> None:
    run = load_run(trained_run)
    rows = {row["path"]: float(row["probability"]) for row in read_csv(trained_run / "predictions.csv")}
    table = run.split()
    tested = table.where("test")[:10]
    found = predict_run(run, run.dataset().take(tested))
    assert found == pytest.approx([rows[table.paths[i]] for i in tested], abs=1e-5)


def test_patients_stay_together(trained_run: Path) -> None:
    table = load_run(trained_run).split()
    homes: dict[str, set[str]] = {}
    for group, part in zip(table.groups, table.parts, strict=True):
        homes.setdefault(group, set()).add(part)
    assert len(homes) == 150
    assert all(len(parts) == 1 for parts in homes.values())


def test_batches_are_normalised_shuffled_and_repeatable() -> None:
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    labels = np.arange(40) % 2
    plain = Batches(images, labels, Preprocess(8), 16)
    assert len(plain) == 3
    assert plain[2][0].shape == (8, 8, 8, 1)
    assert plain[0][0][5, 0, 0, 0] == pytest.approx((5 - 128) / 127.5)
    first = Batches(images, labels, Preprocess(8), 16, POLICIES["flips"], seed=1)
    assert len(first) == 2
    fresh = Batches(images, labels, Preprocess(8), 16, POLICIES["flips"], seed=1, epoch=1)
    assert not np.array_equal(first[0][0], fresh[0][0])
    first.on_epoch_end()
    assert np.array_equal(first[1][0], fresh[1][0])


def test_patience_runs_out(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    checkpoint = Checkpoint(tmp_path, TrainingOptions("customcnn", epochs=10, patience=2), QUIET)
    checkpoint.set_model(model)
    checkpoint.set_params({"steps": 1})
    stopped = []
    for epoch, loss in enumerate([1.0, 0.5, 0.6, 0.7]):
        checkpoint.on_epoch_begin(epoch)
        row = {"loss": 1.0, "accuracy": 0.5, "val_loss": loss, "val_accuracy": 0.5}
        model.get_layer(index=0).set_weights([np.full((1, 2), epoch, np.float32), np.zeros(2, np.float32)])
        checkpoint.on_epoch_end(epoch, row)
        stopped.append(bool(model.stop_training))
    assert stopped == [False, False, False, True]
    assert checkpoint.kept().get_weights()[0][0, 0] == 1
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == [
        "best-0002.npz",
        "epoch-0004.npz",
        "network.json",
        "state.json",
    ]


def test_the_last_epoch_is_kept_on_request(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    checkpoint = Checkpoint(tmp_path, TrainingOptions("customcnn", epochs=3, patience=1, keep="last"), QUIET)
    checkpoint.set_model(model)
    checkpoint.set_params({"steps": 1})
    for epoch, loss in enumerate([0.5, 0.6, 0.7]):
        assert not model.stop_training
        checkpoint.on_epoch_begin(epoch)
        model.get_layer(index=0).set_weights([np.full((1, 2), epoch, np.float32), np.zeros(2, np.float32)])
        checkpoint.on_epoch_end(epoch, {"loss": 1.0, "accuracy": 0.5, "val_loss": loss, "val_accuracy": 0.5})
    assert checkpoint.kept().get_weights()[0][0, 0] == 2


def test_a_loss_that_is_no_number_ends_the_training_and_is_not_saved(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    checkpoint = Checkpoint(tmp_path, TrainingOptions("customcnn", epochs=10, tensorboard=True), QUIET)
    checkpoint.set_model(model)
    checkpoint.set_params({"steps": 1})
    row = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    checkpoint.on_epoch_begin(0)
    checkpoint.on_epoch_end(0, row)
    for broken in ("loss", "val_loss"):
        checkpoint.on_epoch_begin(1)
        with pytest.raises(EdgeCTError, match=r"loss became NaN or infinite in epoch 2.*--learning-rate"):
            checkpoint.on_epoch_end(1, {**row, broken: float("nan")})
    again = Checkpoint(tmp_path, TrainingOptions("customcnn", epochs=10, tensorboard=True), QUIET)
    assert again.next_epoch == 1
    assert again.restore() is not None


@pytest.mark.parametrize("change", [{"epochs": 30}, {"seed": 9}])
def test_resume_with_other_options_is_refused(change: dict[str, int], trained_run: Path, phantom_table: Path) -> None:
    options = msgspec.convert(load_run(trained_run).info.options, TrainingOptions)
    with pytest.raises(DataRejected, match="other options"):
        fit.train(phantom_table, trained_run, msgspec.structs.replace(options, **change), resume=True, force=False)


def test_resuming_a_finished_run_changes_nothing(trained_run: Path, phantom_table: Path) -> None:
    before = (trained_run / "run.json").stat().st_mtime_ns
    options = msgspec.convert(load_run(trained_run).info.options, TrainingOptions)
    assert fit.train(phantom_table, trained_run, options, resume=True, force=False).info.finished
    assert (trained_run / "run.json").stat().st_mtime_ns == before


def test_a_run_is_not_overwritten_without_force(trained_run: Path, phantom_table: Path) -> None:
    with pytest.raises(EdgeCTError, match="already exists"):
        fit.train(phantom_table, trained_run, TINY, resume=False, force=False)


def test_unknown_policies_and_too_little_data_are_refused_before_training(tmp_path: Path, phantom_table: Path) -> None:
    with pytest.raises(EdgeCTError, match="flips, standard"):
        fit.train(phantom_table, tmp_path / "a", msgspec.structs.replace(TINY, augment="mad"), False, False)
    few = excerpt(phantom_table, tmp_path / "few.csv", slice(1, None, 299))
    with pytest.raises(DataRejected):
        fit.train(few, tmp_path / "b", TINY, resume=False, force=False)
    assert not (tmp_path / "b").exists()


def test_force_empties_no_folder_that_is_not_a_run(phantom_table: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(EdgeCTError, match="does not delete it"):
        fit.train(phantom_table, tmp_path, TINY, resume=False, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_csv_may_point_anywhere(phantom_table: Path, tmp_path: Path) -> None:
    table = excerpt(phantom_table, tmp_path / "set.csv", slice(1, None))
    run = fit.train(table, tmp_path / "run", msgspec.structs.replace(TINY, epochs=1), False, False)
    assert all(path.is_file() for path in run.dataset().paths)


def test_slices_are_grouped_where_no_patient_is_named(phantom_table: Path, tmp_path: Path) -> None:
    for label in ("COVID", "non-COVID"):
        shutil.copytree(phantom_table.parent / label, tmp_path / label)
    twin = next((tmp_path / "COVID").glob("*.png"))
    shutil.copy(twin, twin.with_name("twin.png"))
    assert load(tmp_path).groups is None
    table = fit.prepare_data(tmp_path, TINY).table
    home = dict(
        zip((Path(path).name for path in table.paths), zip(table.groups, table.parts, strict=True), strict=True)
    )
    assert home["twin.png"] == home[twin.name]
    assert len({group for group, _ in home.values()}) > 100


def test_resume_says_what_there_is_to_resume(tmp_path: Path) -> None:
    said: list[str] = []

    class Said(Progress):
        def say(self, line: str) -> None:
            said.append(line)

    explain_new_start(tmp_path / "none", False, Said())
    assert said == [f"{tmp_path / 'none'}: no run to resume yet; the training starts with the first epoch"]
    (tmp_path / "file").touch()
    with pytest.raises(EdgeCTError) as raised:
        explain_new_start(tmp_path, False, Said())
    assert str(raised.value) == (
        f"{tmp_path}: not a run, so it cannot be resumed; name the run folder, or start anew with --force"
    )
    explain_new_start(tmp_path, True, Said())
    assert len(said) == 1


EPOCHS = 12  # each takes a fraction of a second


@dataclass(frozen=True)
class Unbroken:
    """A training by `edge-ct train` that nothing interrupted. table: its 60 slices; parts: the printed scores."""

    table: Path
    folder: Path
    parts: dict[str, object]

    def train(self, out: Path, *more: str, code: str | None = None) -> subprocess.Popen[str]:
        """Start the same training elsewhere, or `code` with the same arguments."""
        command = [
            sys.executable, *(["-c", code] if code else ["-m", "edge_ct"]), "train", "customcnn",
            "--data", str(self.table), "--out", str(out), "--size", "32", "--epochs", str(EPOCHS),
            "--patience", str(EPOCHS), "--split", "grouped", "--batch", "8", "--ema", "0.5", "--json", *more,
        ]  # fmt: skip
        environment = {**os.environ, "TF_DETERMINISTIC_OPS": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def assert_same_end(self, folder: Path, printed: str) -> None:
        """Compare another run's history and scores with those of this one."""
        assert json.loads(printed)["parts"] == self.parts
        mine, other = (read_csv(run / "history.csv") for run in (self.folder, folder))
        assert len(mine) == EPOCHS
        assert [(row["loss"], row["val_loss"]) for row in other] == [(row["loss"], row["val_loss"]) for row in mine]
        assert not (folder / "checkpoint").exists()


@pytest.fixture(scope="module")
def unbroken(phantom_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    folder = tmp_path_factory.mktemp("unbroken")
    made = Unbroken(excerpt(phantom_table, folder / "sixty.csv", slice(1, 61)), folder / "run", {})
    process = made.train(made.folder)
    printed, said = process.communicate()
    assert process.returncode == 0, said
    made.parts.update(json.loads(printed)["parts"])
    return made


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_end(unbroken: Unbroken, tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed = unbroken.train(out)
    deadline = time.monotonic() + 240
    while not (out / "checkpoint" / "state.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    assert not load_run(out).info.finished
    trained = len(json.loads((out / "checkpoint" / "state.json").read_bytes())["history"])
    assert 1 <= trained < EPOCHS
    resumed = unbroken.train(out, "--resume")
    printed, said = resumed.communicate()
    assert f"resuming after epoch {trained}" in said
    unbroken.assert_same_end(out, printed)


# As `edge-ct train`, on a disk that is full from the end of the first epoch on: no file may pass 8 KB any more.
FULL_DISK = """
import resource, sys
from edge_ct import cli
from edge_ct.system import progress

def say(self, line):
    print(line, file=sys.stderr)
    if "validation loss" in line:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))

progress.Progress.say = say
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint(unbroken: Unbroken, tmp_path: Path) -> None:
    out = tmp_path / "run"
    broken = unbroken.train(out, code=FULL_DISK)
    printed, said = broken.communicate()
    assert (broken.returncode, printed) == (1, "")
    (error,) = [line for line in said.splitlines() if line.startswith("edge-ct: ")]
    assert "cannot be written: File too large" in error
    assert error.endswith("the checkpoint of epoch 1 is kept: free some disk space and continue with --resume")
    assert "Traceback" not in said
    left = {path.name for path in (out / "checkpoint").iterdir()}
    assert left == {"state.json", "network.json", "epoch-0001.npz", "best-0001.npz"}
    assert not list(out.glob("**/.tmp-*"))
    resumed = unbroken.train(out, "--resume")
    printed, said = resumed.communicate()
    assert "resuming after epoch 1" in said
    unbroken.assert_same_end(out, printed)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unable to extend file")])
def test_whatever_h5py_raises_is_one_error_and_leaves_no_file(error: Exception, tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_text("before")
    with (
        pytest.raises(EdgeCTError, match=r"a\.keras: cannot be written: (No space|unable)"),
        replace_with_saved(tmp_path / "a.keras") as temporary,
    ):
        temporary.write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]
    assert (tmp_path / "a.keras").read_text() == "before"
