"""Ensembles: the mean, weighted or not, and the vote; what they are made of, and what they print beside it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import log_loss

from edge_ct import cli
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.run import Run, RunInfo, load_run, save_run_info, write_split
from edge_ct.train.fitting.options import TrainingOptions
from edge_ct.train.published_results import SEED_STUDY
from edge_ct.train.score import ensemble, evaluate
from edge_ct.train.score.predict import combine_members
from edge_ct.train.score.seed_study_table import read_table

Folders = tuple[Path, Path]
Untrained = Callable[[Path, Path, TrainingOptions], Run]


def predictions(folder: Path) -> dict[str, float]:
    with (folder / "predictions.csv").open(newline="") as file:
        return {row["path"]: float(row["probability"]) for row in csv.DictReader(file)}


def run_of(rule: str = "mean", weights: tuple[float, ...] = ()) -> Run:
    info = msgspec.json.decode(
        b"""{"schema": 1, "kind": "ensemble", "network": {"architecture": "ensemble", "alpha": null, "parameters": 1},
        "preprocess": {"size": 32}, "classes": ["non-COVID", "COVID"], "data_path": "/", "options": {"rule": "mean of
        softmax"}, "versions": {}, "members": ["../a", "../b"], "finished": true, "data": {"name": "x",
        "fingerprint": "", "split": "random", "seed": 0, "counts": {}}}""".replace(b"\n", b" "),
        type=RunInfo,
    )
    return Run(Path("e"), msgspec.structs.replace(info, rule=rule, weights=weights))


def test_probabilities_are_combined_by_hand() -> None:
    members = np.array([[0.9, 0.2, 0.5, 0.1], [0.5, 0.4, 0.5, 0.6], [0.1, 0.9, 0.2, 0.2], [0.3, 0.9, 0.49, 0.1]])
    assert combine_members(run_of(), members) == pytest.approx([0.45, 0.6, 0.4225, 0.25])
    weighted = combine_members(run_of(weights=(0.5, 0.3, 0.2, 0.0)), members)
    assert weighted == pytest.approx([0.62, 0.4, 0.44, 0.27])
    assert combine_members(run_of("vote"), members) == pytest.approx([0.5, 0.5, 0.5, 0.25])
    # Two of four are enough: a tie is positive.
    assert (combine_members(run_of("vote"), members) >= 0.5).tolist() == [True, True, True, False]


def test_an_ensemble_of_earlier_versions_is_a_plain_mean() -> None:
    assert (run_of().info.rule, run_of().info.weights) == ("mean", ())


def sample(n: int, skills: tuple[float, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    logits = [skill * (2 * labels - 1) + generator.normal(0, 1.5, n) for skill in skills]
    return labels, 1 / (1 + np.exp(-np.array(logits)))


@pytest.mark.parametrize("prior", [3.0, 10.0, 60.0])
@pytest.mark.parametrize("skills", [(1.0, 1.0, 1.0), (2.0, 0.5, 0.1), (0.3, 3.0)])
def test_fitted_weights_are_those_that_scipy_finds(skills: tuple[float, ...], prior: float) -> None:
    labels, members = sample(200, skills, 1)
    count = len(skills)

    def objective(free: np.ndarray) -> float:
        weights = np.exp(free) / np.exp(free).sum()
        total = 200 * log_loss(labels, weights @ members)
        return total - prior / count * np.log(weights).sum()

    expected = np.exp(minimize(objective, np.zeros(count), tol=1e-10).x)
    found = ensemble.fit_weights(labels, members, prior)
    assert found == pytest.approx(expected / expected.sum(), abs=1e-3)
    assert sum(found) == pytest.approx(1)


def test_fitted_weights_follow_merit_as_far_as_the_slices_carry() -> None:
    labels, members = sample(300, (2.0, 2.0, 0.2), 2)
    first, second, poor = ensemble.fit_weights(labels, members)
    assert poor < 0.1 < 0.3 < first
    assert second == pytest.approx(first, abs=0.2)
    few = ensemble.fit_weights(labels[:10], members[:, :10])
    assert few[2] > poor
    same = np.repeat(members[:1], 3, axis=0)
    assert ensemble.fit_weights(labels, same) == pytest.approx([1 / 3] * 3)
    certain = np.stack([labels.astype(float), 1 - labels])  # one that is always right, one that is always wrong
    assert ensemble.fit_weights(labels, certain) == pytest.approx([305 / 310, 5 / 310])


def test_the_mean_and_its_table(members: Folders, tmp_path: Path) -> None:
    run = ensemble.create_ensemble(members, tmp_path / "both")
    first, second, both = (predictions(folder) for folder in (*members, run.folder))
    assert len(both) > 40
    for path, p in both.items():
        assert p == pytest.approx((first[path] + second[path]) / 2, abs=2e-6)
    found = evaluate.evaluate(run.folder, None, "auto", "COVID")
    assert found.model == "ensemble-48"
    rows = read_table(run.folder)
    assert [(row.name, row.size, row.params) for row in rows] == [
        ("customcnn-48", 48, 294930),
        ("customcnn-32", 32, 294930),
        ("ensemble-48", 48, 2 * 294930),
    ]
    assert rows[2].parts["test"].confusion == found.confusion
    assert rows[2].parts["test"].loss.value == pytest.approx(found.loss.value)
    stored = json.loads((members[0] / "metrics.json").read_bytes())["parts"]
    for part in ("train", "test"):
        assert rows[0].parts[part].accuracy.value == pytest.approx(stored[part]["accuracy"]["value"])
        assert rows[0].parts[part].loss.value == pytest.approx(stored[part]["loss"]["value"], abs=1e-5)
    with (run.folder / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["network"] for line in lines] == ["customcnn", "customcnn", "ensemble"]
    assert float(lines[2]["test_loss"]) == pytest.approx(found.loss.value, abs=1e-5)
    assert float(lines[0]["train_accuracy"]) == pytest.approx(stored["train"]["accuracy"]["value"], abs=1e-5)
    assert (lines[0]["published_test_sensitivity"], lines[2]["published_test_loss"]) == ("0.97", "0.05")
    table = (run.folder / "table.md").read_text().splitlines()
    assert "grouped split" in table[0]
    assert f"{100 * found.accuracy.value:.1f} %" in table[-1]
    assert len({line.count("|") for line in table[2:]}) == 1


def test_the_published_figures_are_those_of_the_seed_study() -> None:
    """As its abstract and table have them: accuracy 93 / 94 / 95 / 95 / 99 and so on."""
    order = ("customcnn", "mobilenetv2", "densenet169", "resnet50", "ensemble")
    columns = {
        "accuracy": (93, 94, 95, 95, 99),
        "sensitivity": (97, 96, 97, 98, 99),
        "specificity": (91, 92, 93, 94, 99),
        "loss": (20, 18, 15, 13, 5),
    }
    for metric, percent in columns.items():
        assert [round(100 * SEED_STUDY[name][metric].value) for name in order] == list(percent)


def test_weights_are_fitted_on_the_validation_part_alone(members: Folders, tmp_path: Path) -> None:
    run = ensemble.create_ensemble(members, tmp_path / "weighted", fit=True)
    table, weights = run.split(), run.info.weights
    p = {path: (predictions(members[0])[path], predictions(members[1])[path]) for path in predictions(run.folder)}
    part = [table.paths[i] for i in table.where("validation")]
    alone = ensemble.fit_weights(table.labels[table.where("validation")], np.array([p[path] for path in part]).T)
    assert weights == pytest.approx(alone, abs=1e-3)
    assert weights[0] > 0.7  # the other knows nothing
    for path, combined in predictions(load_run(run.folder).folder).items():
        assert combined == pytest.approx(np.dot(weights, p[path]), abs=2e-6)
    assert [row.weight for row in read_table(run.folder)] == [*weights, None]


def test_a_vote_of_two_is_positive_where_one_is(members: Folders, tmp_path: Path, capsys: object) -> None:
    assert cli.run(["ensemble", *map(str, members), "--out", str(tmp_path / "v"), "--rule", "vote", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)  # type: ignore[attr-defined]
    assert (printed["rule"], printed["weights"]) == ("vote", [])
    assert [row["name"] for row in printed["members"]] == ["customcnn-48", "customcnn-32"]
    first, second, both = (predictions(folder) for folder in (*members, tmp_path / "v"))
    for path, p in both.items():
        assert p == ((first[path] >= 0.5) + (second[path] >= 0.5)) / 2
    table = load_run(tmp_path / "v").split()
    tested = [(table.paths[i], table.labels[i]) for i in table.where("test")]
    hits = sum(label == 1 and max(first[path], second[path]) >= 0.5 for path, label in tested)
    assert printed["parts"]["test"]["confusion"]["tp"] == hits


def test_what_does_not_combine_is_refused(
    members: Folders, untrained: Untrained, phantom_table: Path, tmp_path: Path
) -> None:
    options = msgspec.convert(load_run(members[0]).info.options, TrainingOptions)
    small = msgspec.structs.replace(options, size=32)
    other = untrained(phantom_table, tmp_path / "b", msgspec.structs.replace(small, seed=1)).folder
    inner = tmp_path / "inner"
    write_split(inner / "split.csv", load_run(members[0]).split())
    save_run_info(inner, msgspec.structs.replace(load_run(members[0]).info, kind="ensemble"))
    both = tmp_path / "both"
    for named, message in (
        ([members[0], other], "another split"),
        ([members[0]], "at least two"),
        ([members[0], members[0]], "named twice"),
        ([members[0], inner], "is an ensemble itself"),
    ):
        with pytest.raises(DataRejected, match=message):
            ensemble.create_ensemble(named, both)
        assert not both.exists()
    with pytest.raises(DataRejected, match="a vote has no weights"):
        ensemble.create_ensemble(members, both, "vote", fit=True)
    before = (members[0] / "run.json").read_bytes()
    with pytest.raises(EdgeCTError, match="is one of the members"):
        ensemble.create_ensemble(members, members[0], force=True)
    assert (members[0] / "run.json").read_bytes() == before
    assert cli.run(["ensemble", *map(str, members), "--out", str(both), "--rule", "vote", "--fit-weights"]) == 2
