"""Scores of a run or a bundle on slices it has not seen.

Runs and bundles know the pixel identities of the slices they were made with, so training slices are left out of what
is scored, whatever folder they turn up in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_ct import slices
from edge_ct.classifier import Classifier, Result
from edge_ct.dataset import Dataset, load
from edge_ct.decision import decide_series
from edge_ct.errors import DataRejected, InputRejected
from edge_ct.held_out import Part, parts_known_to_bundle, select_held_out
from edge_ct.metrics import Scores, score
from edge_ct.run import load_finished_run
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text
from edge_ct.system.progress import QUIET, Progress

from .group_scores import GroupScores, score_groups


class Evaluation(Scores, frozen=True, kw_only=True):
    """What `evaluate --json` prints: the scores at probability 0.5, and where they come from.

    split: how the scored slices relate to those of the training. part: which of them were scored. left_out: slices of
    the data that were not. operating_point: the scores at the bundle's threshold; decisions: counts of the four
    outcomes. The last two are None for a run: its probabilities are uncalibrated. groups: scores of patients or series,
    where they were asked for; a bundle's at its operating point, as the device decides on a series.
    """

    model: str
    split: str
    part: str
    left_out: int
    operating_point: Scores | None
    decisions: dict[str, int] | None
    groups: GroupScores | None = None


def evaluate(
    target: Path,
    data: Path | None,
    part: Part,
    positive: str,
    progress: Progress = QUIET,
    ks: Sequence[int] = (),
    predictions: Path | None = None,
) -> Evaluation:
    """Score a run folder or a bundle file.

    data: a folder or CSV; None takes the slices a run was made with. part: `auto` takes the test split where the data
    holds it, else what the model never saw. ks: score groups of slices too, by the mean and by each k of n; groups are
    those of the data or else, for a run, of its split table. predictions: a CSV to write, `path,label,decision,
    probability` of every scored slice. Raises `DataRejected` where nothing is left to score.
    """
    if target.is_dir():
        return _evaluate_run(target, data, part, positive, progress, ks, predictions)
    if data is None:
        raise DataRejected(f"{target}: a bundle does not know where slices are; say so with --data")
    return _evaluate_bundle(target, data, part, positive, progress, ks, predictions)


def _evaluate_run(
    folder: Path,
    data: Path | None,
    part: Part,
    positive: str,
    progress: Progress,
    ks: Sequence[int],
    predictions: Path | None,
) -> Evaluation:
    from .predict import run_probabilities

    run = load_finished_run(folder)
    table = run.split()
    dataset = run.dataset() if data is None else load(data, positive, one_class=True)
    hashes = table.sha256 if data is None else _hashes(dataset, progress)
    chosen, split, scored = select_held_out(hashes, run.known(), run.info.data.split, part)
    home = dict(zip(table.sha256, table.groups, strict=True))
    groups = _groups(dataset, hashes, home, chosen) if ks else []
    dataset = dataset.take(chosen)
    found = run_probabilities(run, dataset, progress)
    scores = score(dataset.labels, found)
    if predictions:
        calls = ["positive" if p >= scores.threshold else "negative" for p in found]
        _write_predictions(predictions, dataset, calls, found.tolist())
    return Evaluation(
        **msgspec.structs.asdict(scores),
        model=run.name,
        split=split,
        part=scored,
        left_out=len(hashes) - len(chosen),
        operating_point=None,
        decisions=None,
        groups=score_groups(groups, dataset.labels, found, ks) if ks else None,
    )


def _evaluate_bundle(
    path: Path,
    data: Path,
    part: Part,
    positive: str,
    progress: Progress,
    ks: Sequence[int],
    predictions: Path | None,
) -> Evaluation:
    classifier = Classifier(path)
    manifest = classifier.manifest
    known = parts_known_to_bundle(classifier.bundle)
    everything = load(data, positive, one_class=True)
    hashes = _hashes(everything, progress)
    chosen, split, scored = select_held_out(hashes, known, manifest.data.split, part)
    groups = _groups(everything, hashes, {}, chosen) if ks else [""] * len(chosen)
    dataset = everything.take(chosen)
    results: list[Result] = []
    labels, found, judged = [], [], []
    with progress.bar("scoring", len(dataset)) as on_done:
        for source, label, group in zip(dataset.paths, dataset.labels, groups, strict=True):
            result = classifier.classify(source)
            results.append(result)
            if result.probability is not None:
                labels.append(label)
                found.append(result.probability)
                judged.append(group)
            on_done(1)
    if predictions:
        calls = [result.decision for result in results]
        _write_predictions(predictions, dataset, calls, [result.probability for result in results])
    decisions = dict.fromkeys(("positive", "negative", "refer", "rejected"), 0)
    decisions |= Counter(result.decision for result in results)
    truth, p, threshold = np.array(labels), np.array(found), manifest.operating_point.threshold

    def decide(slices: Sequence[float]) -> str:
        verdict = decide_series(slices, manifest.decision_rule)
        return verdict.decision if verdict else "rejected"

    return Evaluation(
        **msgspec.structs.asdict(score(truth, p)),
        model=classifier.identity,
        split=split,
        part=scored,
        left_out=len(everything) - len(dataset),
        operating_point=score(truth, p, threshold),
        decisions=decisions,
        groups=score_groups(judged, truth, p, ks, threshold, decide) if ks else None,
    )


def _write_predictions(path: Path, dataset: Dataset, calls: Sequence[str], found: Sequence[float | None]) -> None:
    rows = zip(dataset.paths, dataset.labels.tolist(), calls, found, strict=True)
    shown = ((file, label, call, "" if p is None else repr(float(p))) for file, label, call, p in rows)
    write_text(path, to_csv(("path", "label", "decision", "probability"), shown))


def _groups(dataset: Dataset, hashes: Sequence[str | None], home: dict[str, str], chosen: Sequence[int]) -> list[str]:
    """The groups of the chosen slices: the data's, else by pixel identity. Raises `DataRejected` where one has none."""
    found = [dataset.groups[i] if dataset.groups else home.get(hashes[i] or "", "") for i in chosen]
    if not all(found):
        raise DataRejected(
            f"{dataset.name}: {found.count('')} slices are of no known group (patient or series); "
            "name theirs in a CSV path,label,group"
        )
    return found


def _hashes(dataset: Dataset, progress: Progress) -> list[str | None]:
    found: list[str | None] = []
    with progress.bar("looking for known slices", len(dataset)) as on_done:
        for path in dataset.paths:
            try:
                found.append(slices.read(path).sha256)
            except InputRejected:
                found.append(None)
            on_done(1)
    return found
