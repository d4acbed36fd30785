"""Scores of a run or a bundle on slices that it was not trained on.

Runs and bundles record the pixel identities of the slices they were made with. Training slices are therefore left out
of the scores, whatever folder they come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_ct import slices
from edge_ct.classifier import Classifier, Result
from edge_ct.dataset import Dataset, load
from edge_ct.decision import decide_series
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.errors import DataRejected, InputRejected
from edge_ct.held_out import Part, parts_known_to_bundle, select_held_out
from edge_ct.manifest import DecisionRule
from edge_ct.metrics import Outcomes, Scores, score
from edge_ct.reporting.counts import count_of
from edge_ct.reporting.outcomes import OutcomeTable, SourceScores, outcome_tables, scores_by_source
from edge_ct.run import load_finished_run
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text
from edge_ct.system.progress import QUIET, Progress
from edge_ct.trust.opening import open_bundle

from .group_scores import GroupScores, score_groups


class Evaluation(Scores, frozen=True, kw_only=True):
    """Output of `evaluate --json`: the scores at probability 0.5, and which slices they are of.

    Attributes:
        model: Name of the run, or identity of the bundle.
        split: How the scored slices were separated from the training slices: random, grouped or external.
        part: Part of the split that was scored.
        left_out: Number of slices in the data that were not scored.
        operating_point: Scores at the threshold below which the bundle's rule says negative; None for a run, whose
            probabilities are not calibrated.
        decisions: Number of slices for each of the four outcomes; None for a run.
        groups: Scores by patient or series, if requested; for a bundle, at its operating point.
        positives: How slices with the disease were decided, in shares; None for a run.
        negatives: How slices without the disease were decided; None for a run.
        decision_rule: The two thresholds of the bundle; None for a run.
        outcomes: How positives and negatives were decided, by slice and, where the data name groups, by likely patient;
            empty for a run.
        sources: Metrics by source; empty where the data name no sources.
    """

    model: str
    split: str
    part: str
    left_out: int
    operating_point: Scores | None
    decisions: dict[str, int] | None
    groups: GroupScores | None = None
    positives: Outcomes | None = None
    negatives: Outcomes | None = None
    decision_rule: DecisionRule | None = None
    outcomes: tuple[OutcomeTable, ...] = ()
    sources: dict[str, SourceScores] = msgspec.field(default_factory=dict)


@dataclass(frozen=True)
class _Selection:
    """The slices to score. groups: group of each slice, [n]; empty if scores by group were not requested."""

    dataset: Dataset
    groups: list[str]
    split: str
    part: str
    left_out: int


def evaluate(
    target: Path,
    data: Path | None,
    part: Part,
    positive: str,
    progress: Progress = QUIET,
    ks: Sequence[int] = (),
    predictions: Path | None = None,
    engine: EngineName = DEFAULT_ENGINE,
) -> Evaluation:
    """Score a run folder or a bundle file.

    Args:
        target: Run folder or bundle.
        data: Folder or CSV of labelled slices; None for the slices that a run was made with.
        part: Part of the split to score; "auto" takes the test slices if the data hold any, otherwise the slices that
            the model was not made with.
        positive: Name of the positive class.
        progress: Where to report progress.
        ks: Also score groups, by the mean and by "k of n" for each of these k. The groups are those of the data or
            else, for a run, those of its split table.
        predictions: CSV file to write with path, label, decision and probability of every scored slice.
        engine: The program that computes the network of a bundle.

    Raises:
        DataRejected: No slice is left to score.
    """
    if target.is_dir():
        return _evaluate_run(target, data, part, positive, progress, ks, predictions)
    if data is None:
        raise DataRejected(f"{target}: a bundle does not record where its slices are; name the data with --data")
    return _evaluate_bundle(target, data, part, positive, progress, ks, predictions, engine)


def _evaluate_run(
    folder: Path,
    data: Path | None,
    part: Part,
    positive: str,
    progress: Progress,
    ks: Sequence[int],
    predictions: Path | None,
) -> Evaluation:
    from .predict import predict_run

    run = load_finished_run(folder)
    table = run.split()
    dataset = run.dataset() if data is None else load(data, positive, one_class=True)
    hashes = table.sha256 if data is None else _hash_slices(dataset, progress)
    groups = dict(zip(table.sha256, table.groups, strict=True)) if ks else None
    selection = _select(dataset, hashes, run.known(), run.info.data.split, part, groups)
    labels = selection.dataset.labels
    probabilities = predict_run(run, selection.dataset, progress)
    scores = score(labels, probabilities)
    if predictions:
        decisions = ["positive" if p >= scores.threshold else "negative" for p in probabilities]
        _write_predictions(predictions, selection.dataset, decisions, probabilities.tolist())
    return Evaluation(
        **msgspec.structs.asdict(scores),
        model=run.name,
        split=selection.split,
        part=selection.part,
        left_out=selection.left_out,
        operating_point=None,
        decisions=None,
        groups=score_groups(selection.groups, labels, probabilities, ks) if ks else None,
        sources=_by_source(selection.dataset, None, probabilities.tolist()),
    )


def _evaluate_bundle(
    path: Path,
    data: Path,
    part: Part,
    positive: str,
    progress: Progress,
    ks: Sequence[int],
    predictions: Path | None,
    engine: EngineName,
) -> Evaluation:
    classifier = Classifier(open_bundle(path), engine=engine)
    manifest, known = classifier.manifest, parts_known_to_bundle(classifier.bundle)
    dataset = load(data, positive, one_class=True)
    hashes = _hash_slices(dataset, progress)
    selection = _select(dataset, hashes, known, manifest.data.split, part, {} if ks else None)
    results = _classify(classifier, selection.dataset, progress)
    decisions = [result.decision for result in results]
    all_probabilities = [result.probability for result in results]
    if predictions:
        _write_predictions(predictions, selection.dataset, decisions, all_probabilities)
    accepted = [index for index, result in enumerate(results) if result.probability is not None]
    labels = selection.dataset.labels[accepted]
    probabilities = np.array([results[index].probability for index in accepted], float)
    threshold = manifest.decision_rule.negative_below

    def decide(slices: Sequence[float]) -> str:
        verdict = decide_series(slices, manifest.decision_rule)
        return verdict.decision if verdict else "rejected"

    groups = [selection.groups[index] for index in accepted] if ks else []
    judged = selection.dataset
    rules = [manifest.decision_rule] * len(results)
    outcomes = outcome_tables(judged.labels, decisions, all_probabilities, judged.groups, rules)
    return Evaluation(
        **msgspec.structs.asdict(score(labels, probabilities)),
        model=classifier.identity,
        split=selection.split,
        part=selection.part,
        left_out=selection.left_out,
        operating_point=score(labels, probabilities, threshold),
        decisions=_count_decisions(results),
        groups=score_groups(groups, labels, probabilities, ks, threshold, decide) if ks else None,
        decision_rule=manifest.decision_rule,
        positives=outcomes[0].positives,
        negatives=outcomes[0].negatives,
        outcomes=outcomes,
        sources=_by_source(judged, decisions, all_probabilities),
    )


def _by_source(
    dataset: Dataset, decisions: Sequence[str] | None, probabilities: Sequence[float | None]
) -> dict[str, SourceScores]:
    if dataset.sources is None:
        return {}
    return scores_by_source(dataset.labels, decisions, probabilities, dataset.sources)


def _select(
    dataset: Dataset,
    hashes: Sequence[str | None],
    known: dict[str, str],
    split: str,
    part: Part,
    groups: dict[str, str] | None,
) -> _Selection:
    """Select the slices to score. groups: pixel identity -> group; None if scores by group were not requested."""
    chosen, split, scored = select_held_out(hashes, known, split, part)
    names = [] if groups is None else _groups(dataset, hashes, groups, chosen)
    return _Selection(dataset.take(chosen), names, split, scored, len(dataset) - len(chosen))


def _groups(dataset: Dataset, hashes: Sequence[str | None], groups: dict[str, str], chosen: Sequence[int]) -> list[str]:
    """Return the group of each chosen slice: the data set's own groups or else, by pixel identity, the given ones."""
    names = [dataset.groups[i] if dataset.groups else groups.get(hashes[i] or "", "") for i in chosen]
    if not all(names):
        raise DataRejected(
            f"{dataset.name}: the group (patient or series) of {count_of(names.count(''), 'slice')} is not known; "
            "name the groups in a CSV with the columns path,label,group"
        )
    return names


def _classify(classifier: Classifier, dataset: Dataset, progress: Progress) -> list[Result]:
    results = []
    with progress.bar("scoring slices", len(dataset)) as on_done:
        for path in dataset.paths:
            results.append(classifier.classify(path))
            on_done(1)
    return results


def _count_decisions(results: Sequence[Result]) -> dict[str, int]:
    counts = Counter[str](result.decision for result in results)
    return {**dict.fromkeys(("positive", "negative", "refer", "rejected"), 0), **counts}


def _write_predictions(
    path: Path, dataset: Dataset, decisions: Sequence[str], probabilities: Sequence[float | None]
) -> None:
    columns = zip(dataset.paths, dataset.labels.tolist(), decisions, probabilities, strict=True)
    rows = ((file, label, decision, "" if p is None else repr(float(p))) for file, label, decision, p in columns)
    write_text(path, to_csv(("path", "label", "decision", "probability"), rows))


def _hash_slices(dataset: Dataset, progress: Progress) -> list[str | None]:
    """Return the pixel identity of each slice, None for an unreadable file."""
    hashes: list[str | None] = []
    with progress.bar("looking for training slices", len(dataset)) as on_done:
        for path in dataset.paths:
            try:
                hashes.append(slices.read(path).sha256)
            except InputRejected:
                hashes.append(None)
            on_done(1)
    return hashes
