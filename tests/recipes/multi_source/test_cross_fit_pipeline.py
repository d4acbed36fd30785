"""The recipe of the shipped models, on phantoms of two sources: killed, resumed, published, shipped."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge_ct.bundle import CARD, read_bundle
from edge_ct.classifier import Classifier
from edge_ct.dataset import load
from edge_ct.errors import EdgeCTError
from edge_ct.phantom import make_patients
from edge_ct.recipes import resumable
from edge_ct.recipes.multi_source.cross_fit_pipeline import CrossFitPipeline
from edge_ct.recipes.multi_source.fold_predictions import predict_unseen, read_predictions
from edge_ct.recipes.multi_source.source_recipe import SourceData, read_source_recipe
from edge_ct.recipes.multi_source.source_tables import write_slices
from edge_ct.run import load_finished_run
from edge_ct.system.csv_text import to_csv
from edge_ct.system.progress import QUIET

from ...conftest import LONG

COMMITTED = Path(__file__).resolve().parents[3] / "recipes" / "multi_source" / "accurate_and_fast.json"
RECIPE: dict[str, Any] = {
    "sources": [{"data": "slices.csv", "leave_out": ["east"]}],
    "folds": 2,
    "validation": 0.2,
    "models": {
        "tiny": {
            "train": [
                "customcnn", "--size", "48", "--epochs", "6", "--learning-rate", "5e-3", "--batch", "16",
                "--augment", "flips", "--balance", "sources", "--keep", "last", "--seed", "1",
            ],
            "train_further": [["--epochs", "3", "--learning-rate", "1e-3"]],
            "most_bytes": 1_000_000,
        }
    },
    "convert": ["--max-drop", "50"],
    "licence": "none: synthetic",
}  # fmt: skip


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with slices.csv: 240 phantoms of two sources, and 24 of a third one."""
    folder = tmp_path_factory.mktemp("phantoms")
    rows = []
    for source, patients in (("north", 80), ("south", 40), ("east", 12)):
        for phantom in make_patients(patients, 2, 96, seed=patients):
            name, group = f"{source}-{phantom.patient}-{phantom.index}.png", f"{source}-{phantom.patient}"
            cv2.imwrite(str(folder / name), phantom.image)
            rows.append((name, "COVID" if phantom.positive else "non-COVID", group, source))
    (folder / "slices.csv").write_text(to_csv(("path", "label", "group", "source"), rows))
    return folder


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(RECIPE | changes))
    return path


@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason="trains nine networks: EDGE_CT_LONG_TESTS=1")
def test_a_killed_recipe_resumes_and_ends_with_results_a_card_and_a_bundle(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out, results, shipped = write(tmp_path / "recipe.json"), tmp_path / "runs", tmp_path / "r", tmp_path / "s"
    command = [sys.executable, "-m", "edge_ct.recipes.multi_source.commands", recipe, "--data", slices, "--out", out]
    command += ["--splits", "grouped,source", "--stages", "folds,final"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (out / "grouped-1" / "tiny-training-1" / "history.csv").exists():
        assert process.poll() is None, "ended before an epoch"
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "grouped-1" / "tiny-training-1.step.json").exists()

    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    for fold in ("grouped-1", "grouped-2", "source-north", "source-south"):
        first, run = load_finished_run(out / fold / "tiny-training-1"), load_finished_run(out / fold / "tiny")
        assert run.info.options["weights"] == str(out / fold / "tiny-training-1")
        assert first.split().parts == run.split().parts
        with (out / fold / "tiny-int8.predictions.csv").open(newline="") as file:
            tested = {row["group"] for row in csv.DictReader(file)}
        learned = {run.split().groups[i] for part in ("train", "validation") for i in run.split().where(part)}
        assert tested and not tested & learned
    assert len({load_finished_run(out / fold / "tiny").split().parts for fold in ("grouped-1", "grouped-2")}) == 2
    assert set(load_finished_run(out / "final" / "tiny").split().parts) == {"train"}

    def refuse(*arguments: object) -> None:
        raise AssertionError("does something")

    monkeypatch.setattr(resumable, "run_command", refuse)
    pipeline = CrossFitPipeline(read_source_recipe(recipe), slices, None, out, QUIET)
    pipeline.make(("grouped", "source"), (), ("folds", "final"))
    with pytest.raises(EdgeCTError, match="made by another command"):
        other = read_source_recipe(write(tmp_path / "other.json", convert=["--max-drop", "3"]))
        CrossFitPipeline(other, slices, None, out, QUIET).make(("grouped",), (), ("folds",))

    # The final model is calibrated on every slice, judged by the fold that did not learn from it.
    calibration, judged = read_bundle(pipeline.bundle("tiny")).manifest.calibration, 0
    for fold in ("grouped-1", "grouped-2"):
        with (out / fold / "tiny-int8.predictions.csv").open(newline="") as file:
            judged += sum(1 for _ in csv.DictReader(file))
    assert calibration.split == "grouped folds" and judged == 240
    assert calibration.positives + calibration.negatives == judged
    more = ["--stages", "", "--results", results, "--card", tmp_path / "card.md", "--ship", shipped]
    subprocess.run([*command[:-2], *more], check=True, stderr=subprocess.DEVNULL)
    with (results / "multi-source-evidence.csv").open(newline="") as file:
        rows = {(row["split"], row["slices"]): row for row in csv.DictReader(file)}
    assert {split for split, _ in rows} == {"grouped", "source", "external"}
    external = rows["external", "east"]
    assert int(external["n"]) + int(external["said_rejected"]) == 24
    assert int(rows["grouped", "north"]["n"]) + int(rows["grouped", "south"]["n"]) == int(rows["grouped", "all"]["n"])
    assert read_bundle(shipped / "tiny.tflite").member(CARD) == (tmp_path / "card.md").read_bytes()


def test_a_source_that_is_left_out_is_in_a_table_of_its_own(slices: Path, tmp_path: Path) -> None:
    entry = (SourceData(data="slices.csv", leave_out=("east",)), slices / "slices.csv")
    learned = write_slices(tmp_path / "slices.csv", [entry], "COVID")
    external = write_slices(tmp_path / "external.csv", [entry], "COVID", left_out=True)
    assert (set(learned.sources or ()), len(learned)) == ({"north", "south"}, 240)
    assert (set(external.sources or ()), len(external)) == ({"east"}, 24)


def test_a_shipped_bundle_judges_slices_that_it_never_saw(slices: Path, tmp_path: Path) -> None:
    dataset = load(slices / "slices.csv", "COVID").take(range(6))
    bundle = COMMITTED.parents[2] / "device_app" / "models" / "fast.tflite"
    predict_unseen(tmp_path / "predictions.csv", bundle, dataset, QUIET, part=None)
    found = read_predictions(tmp_path / "predictions.csv")
    classifier = Classifier(bundle)
    assert list(found.decisions) == [classifier.classify(path).decision for path in dataset.paths]
    with pytest.raises(EdgeCTError, match="its test split holds none"):
        predict_unseen(tmp_path / "other.csv", bundle, dataset, QUIET)


def test_the_committed_recipe_can_be_read() -> None:
    recipe = read_source_recipe(COMMITTED)
    assert set(recipe.models) == {"accurate", "fast"}
    assert [model.most_bytes for model in recipe.models.values()] == [2_900_000, 750_000]
