"""One fold of several as an ordinary run; all of them together test each slice once."""

import csv
import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from edge_ct import cli
from edge_ct.dataset import load
from edge_ct.run import load_finished_run
from edge_ct.train import fit
from edge_ct.train.fitting.options import TrainingOptions
from edge_ct.train.study.plan import make_plan

TINY = TrainingOptions("customcnn", size=32, epochs=1, batch=8, augment="none")


def of_fold(fold: int, **changes: object) -> TrainingOptions:
    return msgspec.structs.replace(TINY, folds=4, fold=fold, split_seed=3, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["random", "grouped"])
def test_folds_are_disjoint_and_cover_everything(kind: str, small_study_data: Path) -> None:
    tables = [fit.prepare_data(small_study_data, of_fold(fold, split=kind, seed=fold)).table for fold in (1, 2, 3, 4)]
    tested = Counter(table.sha256[i] for table in tables for i in table.where("test"))
    assert set(tested) == set(tables[0].sha256)
    assert set(tested.values()) == {1}
    if kind == "grouped":
        for table in tables:
            homes: dict[str, set[str]] = {}
            for group, part in zip(table.groups, table.parts, strict=True):
                homes.setdefault(group, set()).add(part)
            assert len(homes) == 30
            assert all(len(parts) == 1 for parts in homes.values())


def test_a_fold_is_the_study_s_whatever_the_network_s_seed(small_study_data: Path) -> None:
    study = make_plan(["customcnn"], msgspec.structs.replace(TINY, seed=3, split="grouped"), 4, 1, 1)
    theirs = study.parts(load(small_study_data))
    for fold in (1, 4):
        own = fit.prepare_data(small_study_data, of_fold(fold, split="grouped", seed=90 + fold))
        assert own.table.parts == theirs[1, fold]


@pytest.mark.slow
def test_train_leaves_the_run_of_one_fold(
    small_study_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "customcnn", "--data", str(small_study_data), "--size", "32", "--epochs", "1", "--batch", "8"]
    command += ["--split", "grouped", "--folds", "4", "--fold", "2", "--seed", "5", "--split-seed", "3", "--json"]
    assert cli.run([*command, "--out", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out)
    run = load_finished_run(tmp_path / "run")
    assert run.model_path.is_file()
    assert run.info.data.seed == 3
    assert run.split().parts == fit.prepare_data(small_study_data, of_fold(2, split="grouped")).table.parts
    with (run.folder / "predictions.csv").open(newline="") as file:
        parts = Counter(row["part"] for row in csv.DictReader(file))
    assert parts == {part: run.info.data.counts[part] for part in ("validation", "test")}
    assert cli.run([*command, "--out", str(tmp_path / "run"), "--resume"]) == 0  # there is nothing left to do
    capsys.readouterr()
    command[command.index("--fold") + 1] = "3"
    assert cli.run([*command, "--out", str(tmp_path / "run"), "--resume"]) == 7
    assert "other options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["customcnn", "--fold", "1"], "needs --folds of at least 1"),
        (["customcnn", "--folds", "3", "--fold", "4"], "needs --folds of at least 4"),
        (["customcnn", "--folds", "3", "--fold", "0"], "range"),
        (["customcnn", "resnet50", "--folds", "3", "--fold", "1"], "one network"),
        (["customcnn", "--folds", "3", "--fold", "1", "--rounds", "2"], "one network"),
        (["customcnn", "--folds", "3", "--split-seed", "1"], "single training"),
        (["--from", "run", "--folds", "3", "--fold", "1"], "further"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(
    asked: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", *asked, "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert says in capsys.readouterr().err
