"""`edge-ct worklist`, through the command line; and its exports, read back by others."""

import csv
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_ct import cli, dataset, slices
from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.worklist import export
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import DataRejected
from edge_ct.phantom import make_slice
from edge_ct.slices import Slice

Judged = Callable[..., Judgement]


@pytest.fixture
def state(worklist: Worklist, judged: Judged, unreadable: Judged, tiny_classifier: Classifier) -> Path:
    """Six results: 1 negative, 2 positive, 3 refer, 4 negative, 5 unreadable, 6 positive; 1, 2, 3, 6 are reviewed."""
    cases = [("negative", 0.1), ("positive", 0.9), ("refer", 0.5), ("negative", 0.2)]
    for number, (decision, p) in enumerate(cases):
        worklist.add(
            prepare_entry(judged(number, decision, p), tiny_classifier.bundle, origin="classify", patient=f"p{number}")
        )
    worklist.add(prepare_entry(unreadable("=bad.png"), tiny_classifier.bundle, origin="classify"))
    worklist.add(prepare_entry(judged(9, "positive", 0.8), tiny_classifier.bundle, origin="classify"))
    worklist.review(1, "Lima", "override", "positive", "ground glass")
    worklist.review(2, "Lima", "agree")
    worklist.review(3, "Lima", "override", "negative")
    worklist.review(6, "Lima", "override", "unusable")
    worklist.close()
    return worklist.folder


def run(*arguments: object) -> int:
    return cli.run([str(own) for own in arguments])


def test_list(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("worklist", "list", "--state", state) == 0
    out, err = capsys.readouterr()
    title, *lines = out.splitlines()
    assert title.split() == ["id", "decision", "P(COVID-19)", "time", "(UTC)", "patient", "slice"]
    assert [int(line.split()[0]) for line in lines] == [5, 4, 2, 6, 3, 1]
    assert "override: positive, Lima" in out
    assert err == (
        "6 results listed. Open in the whole worklist: 0 positive, 0 refer, 1 rejected, 1 negative. "
        "Research use only: triage, not a diagnosis.\n"
    )
    assert run("worklist", "list", "--state", state, "--open", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["id"], row["decision"]) for row in found] == [(5, "rejected"), (4, "negative")]


def test_show(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("worklist", "show", 1, "--state", state, "--json", "--picture", tmp_path / "1.png") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["result"]["decision"] == "negative"
    assert found["reviews"][0]["label"] == "positive"
    assert [entry["action"] for entry in found["trail"]] == ["add", "review"]
    with Image.open(tmp_path / "1.png") as picture:
        assert picture.width > 2 * 512
    assert run("worklist", "show", 1, "--state", state) == 0
    assert "ground glass" in capsys.readouterr().out
    assert run("worklist", "show", 1, "--state", state, "--picture", tmp_path / "1.png") == 1
    assert run("worklist", "show", 5, "--state", state, "--picture", tmp_path / "5.png") == 1
    assert run("worklist", "show", 77, "--state", state) == 1
    assert "no result 77" in capsys.readouterr().err


def test_review(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("worklist", "review", 4, "--state", state, "--reviewer", "Reis", "--agree") == 0
    assert "4: agree, negative, Reis" in capsys.readouterr().out
    assert run("worklist", "review", 4, "--state", state, "--reviewer", "Reis") == 2
    both = ("--agree", "--override", "positive")
    assert run("worklist", "review", 4, "--state", state, "--reviewer", "Reis", *both) == 2
    assert run("worklist", "review", 4, "--state", state, "--agree") == 2


def test_verify(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("worklist", "verify", "--state", state) == 0
    out = capsys.readouterr().out
    assert out.startswith("good: 6 results, 4 reviews, 10 entries, head ")
    head = out.split()[-1]
    assert run("worklist", "verify", "--state", state, "--head", head, "--json") == 0
    assert json.loads(capsys.readouterr().out)["head"] == head
    connection = sqlite3.connect(state / "worklist.sqlite", isolation_level=None)
    connection.execute("DROP TRIGGER answers_stay")
    connection.execute("UPDATE results SET decision = 'negative' WHERE id = 2")
    connection.close()
    assert run("worklist", "verify", "--state", state) == 9
    assert "result 2 was changed after entry 2" in capsys.readouterr().err


def test_csv_is_safe_in_a_spreadsheet(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "all.csv"
    assert run("worklist", "export", "--state", state, "--out", out) == 0
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["id"] for row in found] == list("123456")
    assert (found[0]["label"], found[0]["note"], found[0]["decision"]) == ("positive", "ground glass", "negative")
    assert found[4]["source"] == "'=bad.png"
    assert run("worklist", "export", "--state", state, "--out", out) == 1
    assert "already exists" in capsys.readouterr().err


def test_json_of_reviewed(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "reviewed.json"
    assert run("worklist", "export", "--state", state, "--out", out, "--reviewed", "--format", "json") == 0
    found = json.loads(out.read_text())
    assert [row["id"] for row in found] == [1, 2, 3, 6]
    assert found[0]["review"]["verdict"] == "override"


def test_dataset_is_one_that_training_reads(state: Path, tmp_path: Path, judged: Judged) -> None:
    """Labels are the reviewers', pixels the judged ones, groups the patients; unusable slices are left out."""
    out = tmp_path / "reviewed"
    assert run("worklist", "export", "--state", state, "--out", out, "--format", "dataset") == 0
    for source in (out / "slices.csv", out):
        found = dataset.load(source)
        labels = {slices.read(path).sha256: int(label) for path, label in zip(found.paths, found.labels, strict=True)}
        expected = {0: 1, 1: 1, 2: 0}  # phantom -> label
        assert labels == {judged(number).slice.sha256: label for number, label in expected.items()}
    grouped = dataset.load(out / "slices.csv")
    with Worklist(state) as worklist:
        assert set(grouped.groups or ()) == {worklist.pseudonym(f"p{number}") for number in range(3)}
    assert run("worklist", "export", "--state", state, "--out", out, "--format", "dataset") == 1
    assert run("worklist", "export", "--state", state, "--out", out, "--format", "dataset", "--force") == 0


def test_dataset_of_a_large_slice_has_its_own_pixels(
    worklist: Worklist, judged: Judged, tiny_classifier: Classifier, tmp_path: Path
) -> None:
    source = tmp_path / "large.png"
    pixels = np.random.default_rng(1).integers(0, 256, (1500, 1100), dtype=np.uint8)
    Image.fromarray(pixels).save(source)
    for number in (1, 2):
        own = judged(number, pixels=pixels + np.uint8(number - 1), source=str(source))
        worklist.add(prepare_entry(own, tiny_classifier.bundle, origin="classify"))
        worklist.review(number, "Lima", "agree")
    assert export.write_dataset(worklist, tmp_path / "out") == {"non-COVID": 0, "COVID": 2}
    sides = {slices.read(path).pixels.shape for path in (tmp_path / "out" / "COVID").iterdir()}
    assert sides == {(1500, 1100), (750, 550)}  # the second one's file is another's by now
    assert slices.read(source).sha256 in {slices.read(p).sha256 for p in (tmp_path / "out" / "COVID").iterdir()}


def test_nothing_reviewed_is_no_dataset(worklist: Worklist, tmp_path: Path) -> None:
    with pytest.raises(DataRejected, match="no review labels a slice"):
        export.write_dataset(worklist, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prune(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("worklist", "prune", "--state", state, "--keep-days", 1) == 0
    assert capsys.readouterr().out.startswith("0 results deleted")


@pytest.mark.parametrize("command", [["list"], ["verify"], ["show", "1"], ["prune", "--keep-days", "1"]])
def test_mistyped_folder_is_no_empty_worklist(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("worklist", *command, "--state", tmp_path / "typo") == 1
    assert "no worklist in this folder" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


@pytest.mark.slow
def test_training_goes_on_with_what_was_reviewed(
    worklist: Worklist, tiny_classifier: Classifier, trained_run: Path, tmp_path: Path
) -> None:
    """The retraining loop, whole: judged, overridden, exported, learnt from."""
    for number in range(60):
        phantom = make_slice(1000 + number, 2, number % 2 == 0, 96)
        judgement = tiny_classifier.judge_slice(Slice(phantom.image, f"{number}.png"))
        row = worklist.add(prepare_entry(judgement, tiny_classifier.bundle, origin="serve", patient=f"p{number}")).row
        label = "positive" if phantom.positive else "negative"
        worklist.review(row.id, "Lima", "agree" if row.decision == label else "override", label)
    assert export.write_dataset(worklist, tmp_path / "new") == {"non-COVID": 30, "COVID": 30}
    more = ["--data", tmp_path / "new" / "slices.csv", "--out", tmp_path / "run", "--epochs", "1"]
    assert run("train", "--from", trained_run, *more) == 0
    assert (tmp_path / "run").is_dir()
