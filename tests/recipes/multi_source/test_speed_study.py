"""The table of accuracy beside time: which trials it has, and that ratios are to the reference."""

import csv
from pathlib import Path

import numpy as np
import pytest

from edge_ct.errors import EdgeCTError
from edge_ct.recipes.multi_source import speed_study
from edge_ct.recipes.multi_source.source_recipe import read_source_recipe

RECIPES = Path(__file__).parents[3] / "recipes" / "multi_source"


def made(runs: Path, bundle: Path, *trials: str) -> None:
    """Leave the bundle and the row of each trial as the recipe's pipeline does."""
    header = ["split", "model", "slices", "by", "varies", *speed_study.QUALITY]
    lines = [header]
    for trial in trials:
        folder = runs / "trials" / trial
        folder.mkdir(parents=True)
        (folder / "grouped-1-int8.tflite").write_bytes(bundle.read_bytes())
        for slices in ("all", "mosmed"):
            lines.append(["grouped-1", trial, slices, "probability", "--size 160", *["0.5"] * len(speed_study.QUALITY)])
    with (runs / "trials.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def test_the_study_varies_models_that_the_shipped_recipe_has() -> None:
    study, shipped = (read_source_recipe(RECIPES / name) for name in ("fast_study.json", "accurate_and_fast.json"))
    assert study.models == shipped.models
    assert study.sources == shipped.sources
    assert "accurate" in study.trials
    sizes = {words[words.index("--size") + 1] for trial in study.trials.values() if "--size" in (words := trial.train)}
    assert sizes == {"96", "128", "160", "192", "224"}
    assert {trial.train[: trial.train.index("--epochs") + 2] for trial in study.trials.values()} == {
        ("--augment", "standard", "--learning-rate", "7e-4", "--epochs", "6")
    }


def test_the_published_study_is_that_of_the_recipe() -> None:
    study = read_source_recipe(RECIPES / "fast_study.json")
    with (RECIPES.parents[1] / "benchmarks" / "results" / "fast-study.csv").open(newline="") as file:
        varied = {row["trial"]: (row["varies"], row["fold"]) for row in csv.DictReader(file)}
    assert varied == {name: (" ".join(trial.train), "grouped-1") for name, trial in study.trials.items()}


def test_a_row_for_each_trial_that_was_made(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, tiny_bundle, "accurate", "width-0.35-size-160")
    taken = {"accurate": np.array([4.0, 8.0, 2.0]), "width-0.35-size-160": np.array([1.0, 2.0, 6.0])}
    monkeypatch.setattr(speed_study, "time_bundles", lambda bundles, rounds: {name: taken[name] for name in bundles})
    recipe = read_source_recipe(RECIPES / "fast_study.json")
    rows = speed_study.study_rows(recipe, tmp_path, "accurate", 3)
    assert [row["trial"] for row in rows] == ["accurate", "width-0.35-size-160"]
    assert [(row["model_ms"], row["of_reference"]) for row in rows] == [("4.000", "1.000"), ("2.000", "0.250")]
    assert {row["bytes"] for row in rows} == {tiny_bundle.stat().st_size}
    speed_study.write_study(tmp_path / "study.csv", rows)
    with (tmp_path / "study.csv").open(newline="") as file:
        assert [row["fold"] for row in csv.DictReader(file)] == ["grouped-1", "grouped-1"]


def test_bundles_are_timed_in_turns(tiny_bundle: Path) -> None:
    times = speed_study.time_bundles({"one": tiny_bundle, "other": tiny_bundle}, 3)
    assert {name: values.shape for name, values in times.items()} == {"one": (3,), "other": (3,)}
    assert min(values.min() for values in times.values()) > 0


def test_a_study_without_its_reference_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    made(tmp_path, tiny_bundle, "width-0.35-size-160")
    recipe = read_source_recipe(RECIPES / "fast_study.json")
    with pytest.raises(EdgeCTError, match="--stages trials"):
        speed_study.study_rows(recipe, tmp_path, "accurate", 3)
