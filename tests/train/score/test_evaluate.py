"""Scores of runs, ensembles and bundles: which slices count, and that the figures are right."""

import shutil
from collections import Counter
from csv import DictReader
from pathlib import Path

import msgspec
import pytest

from edge_ct.classifier import Classifier
from edge_ct.convert import pipeline
from edge_ct.convert.options import ConversionOptions
from edge_ct.dataset import load
from edge_ct.errors import DataRejected, ModelRejected
from edge_ct.held_out import select_held_out
from edge_ct.run import load_run
from edge_ct.train.data import synthesise
from edge_ct.train.score import evaluate
from edge_ct.train.score.run_scores import RunScores

KNOWN = {"a" * 16: "train", "b" * 16: "validation", "c" * 16: "test"}
TRAIN, VALIDATION, TEST, NEW = (letter * 64 for letter in "abcd")


@pytest.mark.parametrize(
    ("hashes", "part", "chosen", "split"),
    [
        ([TRAIN, VALIDATION, TEST, NEW], "auto", [2], "grouped"),
        ([TRAIN, NEW, None], "auto", [1, 2], "external"),
        ([NEW, NEW], "auto", [0, 1], "external"),
        ([TRAIN, VALIDATION, TEST, NEW], "train", [0], "grouped"),
        ([TRAIN, VALIDATION, TEST, NEW], "all", [0, 1, 2, 3], "grouped"),
        ([NEW, NEW], "all", [0, 1], "external"),
    ],
)
def test_what_is_scored(hashes: list[str | None], part: str, chosen: list[int], split: str) -> None:
    found, kind, _ = select_held_out(hashes, KNOWN, "grouped", part)
    assert (found, kind) == (chosen, split)


def test_training_slices_alone_are_refused() -> None:
    with pytest.raises(DataRejected, match="no slice to score"):
        select_held_out([TRAIN, VALIDATION], KNOWN, "random", "auto")


@pytest.fixture(scope="module")
def bundle(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "model.tflite"
    pipeline.convert(trained_run, out, ConversionOptions(max_drop=100))
    return out


def test_a_run_scores_as_it_did_when_trained(trained_run: Path) -> None:
    stored = msgspec.json.decode((trained_run / "metrics.json").read_bytes(), type=RunScores).parts["test"]
    found = evaluate.evaluate(trained_run, None, "auto", "COVID")
    assert found.confusion == stored.confusion
    assert found.auc.value == pytest.approx(stored.auc.value, abs=1e-6)
    assert (found.split, found.part, found.decisions) == ("grouped", "test", None)


def test_a_bundle_scores_its_test_split_wherever_the_slices_lie(
    bundle: Path, trained_run: Path, phantom_table: Path, tmp_path: Path
) -> None:
    table = load_run(trained_run).split()
    moved = tmp_path / "moved"
    shutil.copytree(phantom_table.parent, moved)
    found = evaluate.evaluate(bundle, moved, "auto", "COVID")
    assert found.n == len(table.where("test"))
    assert found.left_out == len(table.paths) - found.n
    assert sum(found.decisions.values()) == found.n
    stored = Classifier(bundle).manifest.metrics["int8"]
    assert found.accuracy == stored["accuracy"]
    assert found.auc.value == pytest.approx(stored["auc"].value, abs=1e-9)


def test_figures_are_those_of_classify(bundle: Path, trained_run: Path, phantom_table: Path) -> None:
    table, classifier = load_run(trained_run).split(), Classifier(bundle)
    tested = table.where("test")
    results = [classifier.classify(phantom_table.parent / table.paths[i]) for i in tested]
    right = sum((r.probability >= 0.5) == (table.labels[i] == 1) for i, r in zip(tested, results, strict=True))
    found = evaluate.evaluate(bundle, phantom_table, "auto", "COVID")
    assert found.accuracy.value == pytest.approx(right / len(tested))
    assert found.decisions == {**dict.fromkeys(found.decisions, 0), **Counter(r.decision for r in results)}
    threshold = classifier.manifest.decision_rule.negative_below
    hits = sum(r.probability >= threshold for i, r in zip(tested, results, strict=True) if table.labels[i])
    assert found.operating_point.confusion.tp == hits
    # The table of outcomes says what `classify` says of the same slices.
    assert found.positives is not None
    assert found.negatives is not None
    for label, outcomes in ((1, found.positives), (0, found.negatives)):
        said = [r.decision for i, r in zip(tested, results, strict=True) if table.labels[i] == label]
        assert outcomes.n == len(said)
        for kind in ("positive", "refer", "negative", "rejected"):
            assert getattr(outcomes, kind).value == pytest.approx(said.count(kind) / len(said))


def test_other_slices_are_external_and_one_class_is_enough(bundle: Path, tmp_path: Path) -> None:
    synthesise.write_phantom_dataset(tmp_path / "other", patients=6, slices=2, size=64, seed=77)
    rows = [row for row in (tmp_path / "other" / "slices.csv").read_text().splitlines() if ",non-COVID," not in row]
    (tmp_path / "other" / "positives.csv").write_text("\n".join(rows) + "\n")
    found = evaluate.evaluate(bundle, tmp_path / "other" / "positives.csv", "auto", "COVID")
    assert (found.split, found.left_out) == ("external", 0)
    # Phantoms of other patients may look unusual to a network of a few epochs.
    assert found.decisions is not None and found.n > 0 and found.n + found.decisions["rejected"] == 6
    assert found.specificity.value is None
    assert found.auc.value is None


def test_unreadable_slices_are_rejected_not_scored(bundle: Path, tmp_path: Path) -> None:
    synthesise.write_phantom_dataset(tmp_path / "other", patients=4, slices=1, size=64, seed=78)
    (tmp_path / "other" / "COVID" / "bad.png").write_text("not a picture")
    found = evaluate.evaluate(bundle, tmp_path / "other", "auto", "COVID")
    assert found.n == 4
    assert found.decisions["rejected"] == 1


def test_what_is_no_model_is_refused(tmp_path: Path, phantom_table: Path) -> None:
    with pytest.raises(DataRejected, match="not a run folder"):
        evaluate.evaluate(tmp_path, None, "auto", "COVID")
    with pytest.raises(ModelRejected, match="no such bundle"):
        evaluate.evaluate(tmp_path / "none.tflite", phantom_table, "auto", "COVID")


def test_the_dataset_of_a_run_can_move(trained_run: Path, phantom_table: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(phantom_table.parent, moved)
    dataset = load_run(trained_run).dataset(moved)
    assert len(dataset) == len(load(phantom_table))
    assert all(path.is_file() and path.is_relative_to(moved) for path in dataset.paths)


def test_predictions_are_what_the_scores_rest_on(
    bundle: Path, trained_run: Path, phantom_table: Path, tmp_path: Path
) -> None:
    for target in (bundle, trained_run):
        out = tmp_path / "predictions.csv"
        found = evaluate.evaluate(target, phantom_table, "auto", "COVID", predictions=out)
        with out.open(newline="") as file:
            rows = list(DictReader(file))
        assert len(rows) == found.n
        assert sum(row["label"] == "1" and float(row["probability"]) >= 0.5 for row in rows) == found.confusion.tp
        if found.decisions:
            assert Counter(row["decision"] for row in rows) == Counter(found.decisions)
    shutil.copytree(phantom_table.parent, tmp_path / "data")
    broken = sorted((tmp_path / "data" / "COVID").iterdir())[0]
    broken.write_text("not a picture")
    evaluate.evaluate(bundle, tmp_path / "data", "all", "COVID", predictions=out)
    with out.open(newline="") as file:
        (row,) = (row for row in DictReader(file) if row["path"] == str(broken))
    assert (row["decision"], row["probability"]) == ("rejected", "")
