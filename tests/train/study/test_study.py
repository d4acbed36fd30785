"""Studies: that one which was killed, wherever that was, ends as an unbroken one; and what is left of it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_ct import cli
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.run import load_run, save_run_info
from edge_ct.system.files import exclusive_lock
from edge_ct.system.host import processors
from edge_ct.train import fit
from edge_ct.train.score import evaluate
from edge_ct.train.study import runner
from edge_ct.train.study.plan import make_plan, read_plan

from ..conftest import SmallStudy, tables_of


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_job_leaves_a_run_folder(small_study: SmallStudy) -> None:
    folders = sorted(path.relative_to(small_study.out) for path in small_study.out.glob("*/round-*/fold-*"))
    assert [str(folder) for folder in folders] == [
        f"customcnn/round-{number:02d}/fold-{fold}" for number in (1, 2) for fold in (1, 2)
    ]
    for folder in folders:
        names = {path.name for path in (small_study.out / folder).iterdir()}
        assert names == {
            "run.json",
            "split.csv",
            "history.csv",
            "predictions.csv",
            "metrics.json",
            "metrics.csv",
            "curves.png",
            "confusion.png",
        }
    assert {path.name for path in small_study.out.iterdir()} == {"study.json", "customcnn", "tables", "plots", ".lock"}
    seeds = [
        msgspec.convert(load_run(small_study.out / folder).info.options, fit.TrainingOptions).seed for folder in folders
    ]
    assert seeds == [7, 8, 1007, 1008]


@pytest.mark.slow
def test_results_are_those_of_the_predictions(small_study: SmallStudy) -> None:
    rows = read_csv(small_study.out / "tables" / "results.csv")
    assert [(row["round"], row["fold"]) for row in rows] == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")]
    tested = []
    for row in rows:
        folder = small_study.out / "customcnn" / f"round-0{row['round']}" / f"fold-{row['fold']}"
        own = [line for line in read_csv(folder / "predictions.csv") if line["part"] == "test"]
        tested.append({line["path"] for line in own})
        p = np.array([float(line["probability"]) for line in own])
        truth = np.array([line["label"] == "1" for line in own])
        assert float(row["accuracy"]) == pytest.approx(np.mean((p >= 0.5) == truth), abs=1e-6)
        assert float(row["loss"]) == pytest.approx(-np.log(np.where(truth, p, 1 - p)).mean(), abs=2e-6)
    assert tested[0] | tested[1] == tested[2] | tested[3]
    assert len(tested[0] | tested[1]) == len(tested[0]) + len(tested[1]) == 60
    assert tested[0] not in (tested[2], tested[3])
    assert len({row["loss"] for row in rows}) == 4


@pytest.mark.slow
def test_a_finished_study_trains_nothing_again(small_study: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("trains")

    monkeypatch.setattr(runner, "run_job", refuse)
    before = tables_of(small_study.out)
    table = small_study.run(small_study.out)
    assert len(table.results) == 4  # type: ignore[attr-defined]
    assert tables_of(small_study.out) == before


@pytest.mark.slow
def test_runs_without_models_say_so(small_study: SmallStudy) -> None:
    with pytest.raises(DataRejected, match=r"model\.keras: cannot be loaded: no such file .*--keep-models"):
        evaluate.evaluate(small_study.out / "customcnn" / "round-01" / "fold-1", None, "auto", "COVID")


@pytest.mark.slow
def test_other_options_and_other_slices_are_refused(small_study: SmallStudy, tmp_path: Path) -> None:
    with pytest.raises(DataRejected, match="was started with rounds 2"):
        small_study.run(small_study.out, rounds=1)
    copy = tmp_path / "copy"
    shutil.copytree(small_study.out, copy)
    shutil.rmtree(copy / "customcnn" / "round-02" / "fold-2")
    rows = small_study.data.read_text().splitlines()
    fewer = small_study.data.with_name("fewer.csv")
    fewer.write_text("\n".join(rows[:-2]) + "\n")
    with pytest.raises(DataRejected, match="started with other slices"):
        runner.run_study(fewer, copy, ["customcnn"], small_study.options, 2, 2)
    assert not (copy / "customcnn" / "round-02" / "fold-2").exists()


def test_data_that_cannot_be_dealt_leave_nothing(small_study_data: Path, tmp_path: Path) -> None:
    options = fit.TrainingOptions("", size=32, split="grouped")
    with pytest.raises(DataRejected, match="groups with slices of class"):
        runner.run_study(small_study_data, tmp_path / "out", ["customcnn"], options, folds=40)
    assert not (tmp_path / "out").exists()


def test_two_processes_do_not_share_a_study(small_study_data: Path, tmp_path: Path) -> None:
    options = fit.TrainingOptions("", size=32, split="grouped")
    with exclusive_lock(tmp_path / "out"), pytest.raises(EdgeCTError, match="another process"):
        runner.run_study(small_study_data, tmp_path / "out", ["customcnn"], options, folds=2)
    assert not (tmp_path / "out" / "study.json").exists()


def test_jobs_are_done_in_order_and_a_failed_one_keeps_the_others(
    small_study_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def do(
        shared: fit.PreparedData, parts: tuple[str, ...], options: fit.TrainingOptions, folder: Path, *others: object
    ) -> None:
        done.append((folder.relative_to(tmp_path), options.network, options.seed, parts.count("test")))
        if len(done) == 3:
            raise DataRejected("no")
        folder.mkdir(parents=True)
        info = fit._run_info(options, shared)
        (folder / "checkpoint").mkdir()
        (folder / "model.keras").touch()
        save_run_info(folder, msgspec.structs.replace(info, finished=True))

    monkeypatch.setattr(runner, "run_job", do)
    monkeypatch.setattr(runner, "_report", lambda *arguments: None)
    options = fit.TrainingOptions("", size=32, test=0.25)
    with pytest.raises(DataRejected, match="no"):
        runner.run_study(small_study_data, tmp_path / "out", ["vgg16", "customcnn"], options, rounds=2)
    assert [(str(folder), *others) for folder, *others in done] == [
        ("out/vgg16/round-01/fold-1", "vgg16", 0, 15),
        ("out/vgg16/round-02/fold-1", "vgg16", 1000, 15),
        ("out/customcnn/round-01/fold-1", "customcnn", 0, 15),
    ]
    # Without folds, models are kept: the runs are there to be combined.
    assert {path.name for path in (tmp_path / "out/vgg16/round-01/fold-1").iterdir()} == {"run.json", "model.keras"}
    runner.run_study(small_study_data, tmp_path / "out", ["vgg16", "customcnn"], options, rounds=2, keep_models=False)
    assert [str(folder) for folder, *_ in done[3:]] == [
        "out/customcnn/round-01/fold-1",
        "out/customcnn/round-02/fold-1",
    ]
    assert {path.name for path in (tmp_path / "out/customcnn/round-01/fold-1").iterdir()} == {"run.json"}
    assert (tmp_path / "out/vgg16/round-01/fold-1/model.keras").exists()
    runner.run_study(small_study_data, tmp_path / "out", ["customcnn"], options, force=True)
    assert not (tmp_path / "out/vgg16").exists()
    assert read_plan(tmp_path / "out", make_plan(["customcnn"], options, 0, 1, 0), False) is not None


@pytest.mark.parametrize("kind", ["random", "grouped"])
def test_slices_of_nobody_are_grouped_where_the_split_wants_it(
    kind: str, small_study_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = []

    def do(shared: fit.PreparedData, parts: tuple[str, ...], *others: object) -> None:
        tables.append((shared.table, parts))
        raise DataRejected("enough")

    monkeypatch.setattr(runner, "run_job", do)
    with pytest.raises(DataRejected, match="enough"):
        runner.run_study(
            small_study_data.parent, tmp_path, ["customcnn"], fit.TrainingOptions("", size=32, split=kind), folds=2
        )
    ((table, parts),) = tables
    homes: dict[str, set[str]] = {}
    for group, part in zip(table.groups, parts, strict=True):
        homes.setdefault(group, set()).add(part)
    assert len(parts) == 60
    assert (homes.keys() == {""}) == (kind == "random")
    assert kind == "random" or all(len(own) == 1 for own in homes.values())


@pytest.mark.slow
def test_killed_between_any_two_writes_it_ends_the_same(small_study: SmallStudy, tmp_path: Path) -> None:
    """From a choice of the states of the disk that were recorded during a study, the study is continued."""
    expected, out = tables_of(small_study.out), tmp_path / "out"
    last = "customcnn/round-02/fold-2"
    steps = dict(small_study.states)  # where several steps have one name, the last of them
    assert len(small_study.states) > 80
    assert read_plan(steps["replace study.json"], make_plan(["customcnn"], small_study.options, 2, 2, 0), False) is None
    chosen = [
        f"replace {last}/split.csv",
        f"replace {last}/checkpoint/epoch-0001.npz",
        f"replace {last}/checkpoint/state.json",
        f"replace {last}/history.csv",
        f"replace {last}/model.keras",
        f"replace {last}/predictions.csv",
        f"rmtree {last}/checkpoint",
        "replace plots/CustomCNN.png",
    ]
    for step in chosen:
        shutil.copytree(steps[step], out)
        small_study.run(out)
        assert tables_of(out) == expected, step
        assert len(read_csv(out / last / "history.csv")) == 2, step
        assert not list(out.rglob(".tmp-*")), step
        assert not list(out.rglob("checkpoint")), step
        shutil.rmtree(out)


@pytest.mark.slow
def test_killed_with_sigkill_it_ends_the_same(small_study: SmallStudy, tmp_path: Path) -> None:
    """Once in the middle of a training, once after some jobs; the command is the same each time."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "edge_ct", *small_study.arguments, "--out", str(out), "--json"]
    for mark in ("customcnn/round-01/fold-1/checkpoint/state.json", "customcnn/round-02/fold-1/history.csv"):
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while not (out / mark).exists() and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    assert (out / "customcnn/round-01/fold-2/metrics.json").exists()
    assert not (out / "tables").exists()
    ended = subprocess.run(command, capture_output=True, check=True, text=True)
    assert tables_of(out) == tables_of(small_study.out)
    assert "2 of 4 jobs are already finished" in ended.stderr
    (row,) = json.loads(ended.stdout)["networks"]
    assert (row["network"], row["runs"], row["n"]) == ("customcnn", 4, 60)


@pytest.mark.slow
def test_interrupted_it_exits_with_130_and_keeps_what_is_done(small_study: SmallStudy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(small_study.out, out)
    shutil.rmtree(out / "customcnn/round-02/fold-2")
    command = [sys.executable, "-m", "edge_ct", *small_study.arguments, "--out", str(out)]
    begun = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (out / "customcnn/round-02/fold-2/run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=120)
    assert begun.returncode == 130
    assert said.splitlines()[-1] == "edge-ct: interrupted"
    assert "Traceback" not in said
    assert load_run(out / "customcnn/round-02/fold-1").info.finished


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet05", "customcnn"], "did you mean resnet50"),
        (["customcnn", "--keep-models"], "are for a study"),
        (["customcnn", "--cpus-per-job", "2"], "are for a study"),
        (["customcnn", "--folds", "2", "--gpus-per-job", "0.5"], "need --cluster"),
        (["customcnn", "--folds", "1"], "--folds"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", *arguments, "--data", "x", "--out", "y"]) == 2
    assert message in capsys.readouterr().err


def test_groups_and_names_mix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(runner, "run_study", lambda data, out, networks, *others: asked.append(networks) or stop())

    def stop() -> None:
        raise DataRejected("enough")

    for names in (["seed-study", "VGG16", "resnet50"], ["garg"], ["all"]):
        assert cli.run(["train", *names, "--data", "x", "--out", str(tmp_path / "y")]) == 7
    assert asked[0] == ("customcnn", "mobilenetv2", "densenet169", "resnet50", "vgg16")
    assert [len(names) for names in asked[1:]] == [40, 42]


def test_durations() -> None:
    assert [runner.format_duration(s) for s in (0.4, 89, 91, 5300, 5500, 360_000)] == [
        "0 s",
        "89 s",
        "2 min",
        "88 min",
        "1 h 32 min",
        "100 h 00 min",
    ]


def test_processors_are_counted() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)
