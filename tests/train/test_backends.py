"""Keras on TensorFlow, JAX and PyTorch: each trains, goes on after an interruption as if nothing had been, and agrees.

In a process of its own: the backend is chosen when Keras is imported.
"""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_ct.run import load_finished_run
from edge_ct.train.data import synthesise
from edge_ct.train.score.predict import predict_run

pytestmark = pytest.mark.slow

# Trains unbroken, and again in as many processes' worth of pieces as `pieces` says, each cut after its first epoch.
SCRIPT = """
import json, sys
from pathlib import Path
import msgspec, numpy as np
from edge_ct.system.progress import Progress
from edge_ct.train import fit
from edge_ct.train.fitting import optimise
from edge_ct.train.fitting.checkpoint import Checkpoint
from edge_ct.train.fitting.options import TrainingOptions

class Killed(BaseException): pass

class Killing(Progress):
    def say(self, line):
        if "validation loss" in line:
            raise Killed

table, out, options, pieces = map(msgspec.json.decode, sys.argv[1:])
table, out, options = Path(table), Path(out), TrainingOptions(**options)
optimise.PLATEAU_PATIENCE = 1
last, ended = [], Checkpoint.on_epoch_end

def on_epoch_end(self, epoch, logs=None):
    ended(self, epoch, logs)
    last[:] = self.model.get_weights()  # those that are kept may be of an earlier epoch

Checkpoint.on_epoch_end = on_epoch_end
prepared = fit.prepare_data(table, options)
whole = fit.train_prepared(prepared, out / "whole", options)
unbroken = list(last)
for piece in range(pieces):
    try:
        fit.train_prepared(prepared, out / "pieces", options, Killing(quiet=True))
    except Killed:
        assert (out / "pieces" / "checkpoint" / "state.json").exists()
pieced = fit.train_prepared(prepared, out / "pieces", options)
import keras
kept = [run.load_model(lambda path: keras.saving.load_model(path, compile=False)) for run in (whole, pieced)]
pairs = [*zip(unbroken, last, strict=True), *zip(*(model.get_weights() for model in kept), strict=True)]
print(json.dumps([keras.backend.backend(), max(float(np.abs(a - b).max()) for a, b in pairs)]))
"""
WAYS = {
    "tensorflow": ({"freeze": 2, "epochs": 4, "schedule": "plateau", "class_weights": True, "label_smoothing": 0.1}, 3),
    "jax": ({"epochs": 2, "clip": 1.0}, 1),
    "torch": ({"epochs": 2, "clip": 1.0}, 1),
}


def history(run: Path) -> list[list[float]]:
    with (run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [[float(value) for name, value in row.items() if name != "seconds"] for row in rows]


@pytest.mark.parametrize("backend", WAYS)
def test_a_training_in_pieces_ends_as_an_unbroken_one(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    options, pieces = WAYS[backend]
    table = synthesise.write_phantom_dataset(tmp_path / "phantoms", patients=24, slices=2, size=48, seed=8)
    options = {
        "network": "customcnn",
        "size": 32,
        "batch": 8,
        "augment": "flips",
        "split": "grouped",
        "patience": 9,
        "learning_rate": 2e-3,
        "ema": 0.8,
        **options,
    }
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "TF_DETERMINISTIC_OPS": "1",
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(json.dumps, (str(table), str(tmp_path), options, pieces))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name, difference = json.loads(done.stdout.splitlines()[-1])
    assert name == backend
    if backend != "tensorflow":  # which Keras imports beside the others; its logger is the command's to silence
        assert done.stderr == ""
    assert history(tmp_path / "whole") == history(tmp_path / "pieces")
    assert difference == 0

    # Whichever backend trained it, this one's network gives the same probabilities.
    run = load_finished_run(tmp_path / "pieces")
    assert backend in run.info.versions
    with (run.folder / "predictions.csv").open(newline="") as file:
        stored = {row["path"]: float(row["probability"]) for row in csv.DictReader(file)}
    table_of_run = run.split()
    tested = table_of_run.where("test")
    found = predict_run(run, run.dataset().take(tested))
    assert len(found) >= 4
    assert found == pytest.approx(np.array([stored[table_of_run.paths[i]] for i in tested]), abs=1e-5)
