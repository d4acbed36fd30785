"""The flagship's line on phantoms: killed, gone on with, looked at, shipped."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edge_ct.bundle import CARD, read_bundle
from edge_ct.errors import EdgeCTError, GateFailed
from edge_ct.recipes import resumable
from edge_ct.recipes.flagship import evidence
from edge_ct.recipes.flagship.pipeline import Flagship
from edge_ct.recipes.flagship.recipe import read_recipe
from edge_ct.recipes.resumable import ResumableSteps
from edge_ct.run import load_finished_run
from edge_ct.system.child_command import CommandFailed, CommandOutput
from edge_ct.system.progress import QUIET, Progress

COMMITTED = Path(__file__).resolve().parents[3] / "recipes" / "flagship" / "flagship.json"
NETWORK = {
    "network": "customcnn",
    "size": 48,
    "augment": "flips",
    "also": ["--learning-rate", "5e-3", "--batch", "16", "--patience", "50"],
}
RECIPE: dict[str, Any] = {
    "folds": 3,
    "split_seed": 4,
    "validation": 0.2,
    "teachers": {"a": {**NETWORK, "epochs": 6, "seed": 1}, "b": {**NETWORK, "epochs": 2, "seed": 2}},
    "students": {
        "accurate": {
            "training": {**NETWORK, "epochs": 10, "seed": 0},
            "distil": ["--mixing", "0.1"],
            "most_bytes": 1_000_000,
        }
    },
    "convert": ["--max-drop", "50"],
    "licence": "none: synthetic",
    "ship": {"split": "grouped", "fold": 2},
}


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(RECIPE | changes))
    return path


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def waiting(what: str, condition: Any, process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None, f"ended before {what}"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc")
def test_it_goes_on_after_a_kill_and_ends_with_evidence_and_a_bundle(
    phantom_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = write(tmp_path / "recipe.json"), tmp_path / "runs"
    arguments = ["--data", phantom_table, "--out", out, "--splits", "grouped", "--folds", "2"]
    command = [sys.executable, "-m", "edge_ct.recipes.flagship", recipe, *arguments]
    fold, process = out / "grouped" / "fold-2", subprocess.Popen(command, stderr=subprocess.DEVNULL)
    waiting("an epoch", (fold / "a" / "history.csv").exists, process)
    [child] = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        time.sleep(0.1)  # what it had begun ends with it
    assert not (out / "grouped" / "fold-2" / "a.step.json").exists()

    made = Flagship(read_recipe(recipe), phantom_table, None, out, QUIET)
    made.make(("grouped",), (2,))
    with (fold / "a" / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5", "6"]
    # The same split for all, and no slice of its test part, or of a group of it, in any other.
    tables = [load_finished_run(fold / name).split() for name in ("a", "b", "teacher", "accurate")]
    assert len({table.parts for table in tables}) == 1
    tested = {tables[0].groups[i] for i in tables[0].where("test")}
    assert not tested & {tables[0].groups[i] for part in ("train", "validation") for i in tables[0].where(part)}
    with (out / "evidence" / evidence.EVIDENCE).open(newline="") as file:
        rows = {(row["model"], row["variant"]): row for row in csv.DictReader(file) if row["fold"] == "2"}
    assert list(rows) == [("teacher", "keras"), ("accurate", "fp32"), ("accurate", "int8")]
    for (model, variant), row in rows.items():
        printed = json.loads((fold / f"{model}-{variant}.predictions.step.json").read_text())["printed"]
        assert int(row["n"]) == printed["n"]
        for name in ("accuracy", "sensitivity", "specificity", "auc", "ece"):
            for end in ("", "_low", "_high"):
                assert float(row[name + end]) == pytest.approx(printed[name][end[1:] or "value"], abs=1e-5)
        if variant == "int8":
            found = printed["operating_point"]["sensitivity"]["value"]
            assert float(row["sensitivity_at_threshold"]) == pytest.approx(found, abs=1e-5)

    def refuse(*arguments: object) -> None:
        raise AssertionError("does something")

    monkeypatch.setattr(resumable, "run_command", refuse)
    made.make(("grouped",), (2,))
    [shipped] = made.ship(tmp_path / "models", "# Card\n\nWhat it must not be used for.\n")
    bundle = read_bundle(shipped)
    assert shipped.name == "accurate.tflite"
    assert bundle.manifest == read_bundle(fold / "accurate-int8.tflite").manifest
    assert bundle.member(CARD).startswith(b"# Card")
    with pytest.raises(AssertionError, match="does something"):
        made.make(("grouped",), (1,))
    other = read_recipe(write(recipe, convert=["--max-drop", "3"]))
    with pytest.raises(EdgeCTError, match="made by another command"):
        Flagship(other, phantom_table, None, out, QUIET).make(("grouped",), (2,))
    small = json.loads(json.dumps(RECIPE))
    small["students"]["accurate"]["most_bytes"] = 1000
    with pytest.raises(GateFailed, match="over the limit of 1,000"):
        Flagship(read_recipe(write(recipe, **small)), phantom_table, None, out, QUIET).ship(tmp_path / "x", "")
    elsewhere = read_recipe(write(recipe, ship={"split": "random", "fold": 1}))
    with pytest.raises(EdgeCTError, match="has not been made yet"):
        Flagship(elsewhere, phantom_table, None, out, QUIET).ship(tmp_path / "x", "")
    assert not (tmp_path / "x").exists()


def steps(out: Path, answers: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> ResumableSteps:
    """Steps whose commands write what their last word names, and end with these codes."""

    def run(command: list[str], accept: tuple[int, ...]) -> CommandOutput:
        code, text = answers.pop(0)
        if text:
            Path(command[-1]).write_text(text)
        if code not in (0, *accept):
            raise CommandFailed(f"exit code {code}", code)
        return CommandOutput(code, json.dumps({"code": code}))

    monkeypatch.setattr(resumable, "run_command", run)
    return ResumableSteps(out, {"OUT": out}, Progress(quiet=True), ["x"] * 4)


def test_a_step_is_done_once_and_again_where_its_file_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [(0, "all of it"), (0, "all of it"), (7, "")]
    own, target = steps(tmp_path, answers, monkeypatch), tmp_path / "made"
    first = own.run(target, "x", "X", ["make", "--json", target], [target])
    assert first.printed == {"code": 0}
    assert first.command == ("make", "--json", "OUT/made")
    assert own.run(target, "x", "X", ["make", "--json", target], [target]) == first
    target.write_text("half")
    assert own.recorded(target) is None
    own.run(target, "x", "X", ["make", "--json", target], [target])
    assert target.read_text() == "all of it"
    assert len(answers) == 1
    with pytest.raises(EdgeCTError, match="another command"):
        own.run(target, "x", "X", ["make", "--other", target], [target])
    with pytest.raises(CommandFailed, match="exit code 7") as failure:
        own.run(tmp_path / "y", "x", "X", ["make", tmp_path / "y"], [tmp_path / "y"])
    assert failure.value.exit_code == 7
    assert own.recorded(tmp_path / "y") is None
    shutil.move(tmp_path, tmp_path.with_name("moved"))  # what is noted does not name where
    moved = ResumableSteps(tmp_path.with_name("moved"), {"OUT": tmp_path.with_name("moved")}, QUIET)
    assert moved.recorded(tmp_path.with_name("moved") / "made") is not None


def test_a_code_that_is_a_result_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = steps(tmp_path, [(5, "x")], monkeypatch)
    target = tmp_path / "a.gate-failed"
    for _ in range(2):
        done = own.run(tmp_path / "a", "x", "X", ["convert", target], [tmp_path / "a", target], accept=(5,))
        assert (done.exit_code, done.files) == (5, {"a.gate-failed": 1})


def test_the_committed_recipe_is_one() -> None:
    recipe = read_recipe(COMMITTED)
    assert set(recipe.students) == {"accurate", "fast"}
    assert recipe.students["accurate"].most_bytes == 2_800_000
    assert all(training.network == "mobilenetv2" for training in recipe.teachers.values())
    with pytest.raises(EdgeCTError, match="--weights"):
        recipe.teachers["wide-192"].options(None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"folds": 1}, "not a valid recipe"),
        ({"ship": {"split": "grouped", "fold": 4}}, "fold 4 of 3"),
        ({"teachers": {}}, "not a valid recipe"),
        ({"teachers": {"accurate": {**NETWORK, "epochs": 1}}}, "share a name"),
        ({"teachers": {"Teacher/..": {**NETWORK, "epochs": 1}}}, "not a valid recipe"),
        ({"students": {"accurate": {"training": {**NETWORK, "epochs": 1}, "int8": []}}}, "no options for its conver"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_is_no_recipe_is_one_error(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError, match=says):
        read_recipe(write(tmp_path / "recipe.json", **changes))
