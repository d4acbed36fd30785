"""Scores of patients: by hand, and through `evaluate` for runs and bundles."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from edge_ct import cli
from edge_ct.classifier import Classifier
from edge_ct.decision import decide_series, k_of_n
from edge_ct.errors import DataRejected
from edge_ct.metrics import Confusion
from edge_ct.run import load_run
from edge_ct.train.data import synthesise
from edge_ct.train.score import evaluate
from edge_ct.train.score.group_scores import score_groups
from edge_ct.train.score.predict import predict_run

GROUPS = ["a", "a", "a", "b", "b", "c", "d", "d", "d", "e", "e", "m", "m"]
LABELS = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1])
P = np.array([0.9, 0.2, 0.1, 0.6, 0.5, 0.7, 0.6, 0.6, 0.1, 0.2, 0.1, 0.9, 0.9])


def test_groups_by_hand() -> None:
    found = score_groups(GROUPS, LABELS, P, (1, 2, 3))
    assert (found.n, found.slices, found.mixed, found.decisions) == (5, 11, ("m",), None)
    # Means: a 0.4, b 0.55, c 0.7; d 0.433, e 0.15.
    assert found.mean.confusion == Confusion(tp=2, fp=0, tn=2, fn=1)
    # Positive slices: a 1 of 3, b 2 of 2, c 1 of 1; d 2 of 3, e none.
    assert found.k_of_n["1"].confusion == Confusion(tp=3, fp=1, tn=1, fn=0)
    assert found.k_of_n["2"].confusion == Confusion(tp=2, fp=1, tn=1, fn=1)
    assert found.k_of_n["3"].confusion == Confusion(tp=2, fp=0, tn=2, fn=1)
    at = score_groups(GROUPS, LABELS, P, (1,), threshold=0.65)
    assert at.k_of_n["1"].confusion == Confusion(tp=2, fp=0, tn=2, fn=1)
    assert at.mean.threshold == 0.65


@pytest.mark.parametrize("seed", range(4))
def test_k_of_n_counts_slices(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for n in range(1, 9):
        p = generator.random(n).round(1).tolist()
        for k in range(1, 12):
            for threshold in (0.0, 0.3, 0.5, 1.0):
                assert (k_of_n(p, k) >= threshold) == (sum(x >= threshold for x in p) >= min(k, n))


def test_no_pure_group_is_refused() -> None:
    with pytest.raises(DataRejected, match="both labels"):
        score_groups(["m", "m"], np.array([0, 1]), np.array([0.5, 0.5]))


def test_patients_of_a_run(trained_run: Path, phantom_table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = load_run(trained_run)
    table, dataset = run.split(), run.dataset()
    tested = table.where("test")
    patients: dict[str, list[float]] = defaultdict(list)
    truth = {table.groups[i]: int(table.labels[i]) for i in tested}
    for i, p in zip(tested, predict_run(run, dataset.take(tested)), strict=True):
        patients[table.groups[i]].append(p)
    right = sum((np.mean(own) >= 0.5) == truth[name] for name, own in patients.items())
    assert cli.run(["evaluate", str(trained_run), "--by", "group", "--k", "2", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert (groups["n"], groups["slices"], groups["mixed"]) == (len(patients), len(tested), [])
    assert groups["mean"]["accuracy"]["value"] == pytest.approx(right / len(patients))
    hits = sum(min(own) >= 0.5 and truth[name] for name, own in patients.items())  # two slices each
    assert groups["k_of_n"]["2"]["confusion"]["tp"] == hits
    assert list(groups["k_of_n"]) == ["2"]
    # The same slices in a folder that names no patient are recognised by their pixels.
    again = evaluate.evaluate(trained_run, phantom_table.parent, "auto", "COVID", ks=(2,))
    assert again.groups is not None
    assert again.groups.mean.confusion.tp == groups["mean"]["confusion"]["tp"]
    assert evaluate.evaluate(trained_run, None, "auto", "COVID").groups is None


def test_patients_of_a_bundle_are_decided_as_the_device_does(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "model.tflite"
    assert cli.run(["convert", str(trained_run), "--fp32", "--out", str(bundle), "--max-drop", "100"]) == 0
    capsys.readouterr()
    table = synthesise.write_phantom_dataset(tmp_path / "other", patients=12, slices=3, size=64, seed=77)
    classifier = Classifier(bundle)
    point, rule = classifier.manifest.operating_point, classifier.manifest.decision_rule
    patients: dict[str, list[float]] = defaultdict(list)
    for row in table.read_text().splitlines()[1:]:
        path, _, patient = row.split(",")
        if (found := classifier.classify(table.parent / path).probability) is not None:  # else rejected
            patients[patient].append(found)
    assert cli.run(["evaluate", str(bundle), "--data", str(table), "--by", "group", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert groups["n"] == 12
    verdicts = [decide_series(own, rule).decision for own in patients.values()]
    assert groups["decisions"] == {name: verdicts.count(name) for name in set(verdicts)}
    called = groups["mean"]["confusion"]["tp"] + groups["mean"]["confusion"]["fp"]
    assert called == sum(np.mean(own) >= point.threshold for own in patients.values())
    assert groups["mean"]["threshold"] == point.threshold
    # A folder does not say whose slices they are, and a bundle does not know them.
    assert cli.run(["evaluate", str(bundle), "--data", str(table.parent), "--by", "group"]) == 7
    assert "is not known" in capsys.readouterr().err
