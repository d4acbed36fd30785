"""Bundles, runs, worklists and measurements of commit ca83c2b are read, and say what they said then: see README.md."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from edge_ct import cli
from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.device_app.worklist import Worklist
from edge_ct.device_app.worklist.records import prepare_entry

HERE = Path(__file__).parent


def load(name: str) -> object:
    return json.loads((HERE / name).read_text())


def without_new_fields(now: object, then: object) -> object:
    """Return `now` without the fields, at any depth, that `then` does not have."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {name: without_new_fields(now[name], value) for name, value in then.items()}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [without_new_fields(*pair) for pair in zip(now, then, strict=True)]
    return now


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A copy of the old worklist: opening it writes to its folder."""
    return Path(shutil.copytree(HERE / "worklist", tmp_path / "state"))


def test_worklist_verifies_with_the_head_of_then(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    then = load("worklist-verified.json")
    assert isinstance(then, dict)
    assert cli.run(["worklist", "verify", "--state", str(state), "--head", then["head"], "--json"]) == 0
    now = json.loads(capsys.readouterr().out)
    assert without_new_fields(now, then) == then
    assert now["bound"] is None


def test_worklist_lists_and_exports_the_same_rows(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["worklist", "list", "--state", str(state), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    exported = load("worklist-export.json")
    assert isinstance(exported, list)
    assert without_new_fields(sorted(rows, key=lambda row: row["id"]), exported) == exported
    for kind in ("csv", "json"):
        out = state.parent / f"export.{kind}"
        assert cli.run(["worklist", "export", "--state", str(state), "--format", kind, "--out", str(out)]) == 0
    assert without_new_fields(json.loads((state.parent / "export.json").read_text()), exported) == exported
    lines = (HERE / "worklist-export.csv").read_text().splitlines()
    # New columns stand behind those that were there.
    assert [line.rsplit(",", 2)[0] for line in (state.parent / "export.csv").read_text().splitlines()] == lines


def test_worklist_shows_pictures_and_exports_labelled_slices(state: Path, tmp_path: Path) -> None:
    picture = tmp_path / "1.png"
    assert cli.run(["worklist", "show", "1", "--state", str(state), "--picture", str(picture)]) == 0
    assert picture.stat().st_size > 1000
    out = tmp_path / "dataset"
    assert cli.run(["worklist", "export", "--state", str(state), "--format", "dataset", "--out", str(out)]) == 0
    exported = list(csv.DictReader(io.StringIO((out / "slices.csv").read_text())))
    assert [row["path"].split("/")[0] for row in exported] == ["non-COVID"]


def test_worklist_goes_on(state: Path) -> None:
    """New rows, reviews and items fit into the old file, patients keep their pseudonyms, and the trail is whole."""
    classifier = Classifier(HERE / "bundle.tflite")
    source = next((HERE / "phantoms" / "COVID").glob("*.png"))
    with Worklist(state) as worklist:
        heat = worklist.heat(1)
        assert heat is not None
        assert (heat.evidence.shape, heat.method) == ((4, 4), "class map")
        assert worklist.pseudonym("Phantom 1") == worklist.get(1).patient
        added = worklist.add(prepare_entry(classifier.judge(source), classifier.bundle, origin="classify"))
        assert (added.row.id, added.new) == (6, True)
        worklist.review(6, "Dr Phantom", "override", "unusable")
        assert worklist.queue("out").put("key", {}) is not None
        assert worklist.verify().problem is None
    then = load("worklist-verified.json")
    assert isinstance(then, dict)
    assert cli.run(["worklist", "verify", "--state", str(state), "--head", then["head"]]) == 0


def test_bundle_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(HERE / "bundle.tflite")
    assert cli.run(["bundle", "verify", path]) == 0
    capsys.readouterr()
    assert cli.run(["bundle", "inspect", path, "--json"]) == 0
    now, then = json.loads(capsys.readouterr().out), load("bundle-inspected.json")
    assert without_new_fields(now, then) == then
    assert len(read_bundle(path).seal) == 64


@pytest.mark.slow
def test_run_is_evaluated_to_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    data = str(HERE / "phantoms" / "slices.csv")
    assert cli.run(["evaluate", str(HERE / "run"), "--data", data, "--json"]) == 0
    now, then = json.loads(capsys.readouterr().out), load("run-evaluated.json")
    assert isinstance(then, dict)
    assert now["n"] == then["n"] == 16
    assert now["confusion"] == then["confusion"]
    assert now["auc"]["value"] == pytest.approx(then["auc"]["value"])
    assert now["loss"]["value"] == pytest.approx(then["loss"]["value"], rel=1e-4)


def test_measurement_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(HERE / "benchmark.json")
    assert cli.run(["benchmark", "compare", path, path]) == 0
    assert "p50" in capsys.readouterr().out
