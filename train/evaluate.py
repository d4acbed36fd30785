"""Scores of a run or a bundle on slices it has not seen.

Runs and bundles know the pixel identities of the slices they were made with, so training slices are left out of what
is scored, whatever folder they turn up in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from csv import DictReader
from io import StringIO
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from edge_ct import run as runs
from edge_ct import slices
from edge_ct.classifier import Classifier
from edge_ct.dataset import Dataset, load
from edge_ct.errors import DataRejected, InputRejected
from edge_ct.metrics import Scores, score
from edge_ct.progress import QUIET, Progress

Part = Literal["auto", "train", "validation", "test", "all"]


class Evaluation(Scores, frozen=True, kw_only=True):
    """What `evaluate --json` prints: the scores at probability 0.5, and where they come from.

    split: how the scored slices relate to those of the training. part: which of them were scored. left_out: slices of
    the data that were not. operating_point: the scores at the bundle's threshold; decisions: counts of the four
    outcomes. The last two are None for a run: its probabilities are uncalibrated.
    """

    model: str
    split: str
    part: str
    left_out: int
    operating_point: Scores | None
    decisions: dict[str, int] | None


def evaluate(target: Path, data: Path | None, part: Part, positive: str, progress: Progress = QUIET) -> Evaluation:
    """Score a run folder or a bundle file.

    data: a folder or CSV; None takes the slices a run was made with. part: `auto` takes the test split where the data
    holds it, else what the model never saw. Raises `DataRejected` where nothing is left to score.
    """
    if target.is_dir():
        return _evaluate_run(target, data, part, positive, progress)
    if data is None:
        raise DataRejected(f"{target}: a bundle does not know where slices are; say so with --data")
    return _evaluate_bundle(target, data, part, positive, progress)


def _evaluate_run(folder: Path, data: Path | None, part: Part, positive: str, progress: Progress) -> Evaluation:
    from .predict import run_probabilities

    run = runs.load_finished(folder)
    table = run.split()
    dataset = run.dataset() if data is None else load(data, positive, one_class=True)
    hashes = table.sha256 if data is None else _hashes(dataset, progress)
    chosen, split, scored = select(hashes, table.part_of(), run.info.data.split, part)
    dataset = dataset.take(chosen)
    scores = score(dataset.labels, run_probabilities(run, dataset, progress))
    return Evaluation(
        **msgspec.structs.asdict(scores),
        model=run.name,
        split=split,
        part=scored,
        left_out=len(hashes) - len(chosen),
        operating_point=None,
        decisions=None,
    )


def _evaluate_bundle(path: Path, data: Path, part: Part, positive: str, progress: Progress) -> Evaluation:
    classifier = Classifier(path)
    manifest = classifier.manifest
    table = DictReader(StringIO(classifier.bundle.member("split.csv").decode()))
    known = {row["sha256"]: row["part"] for row in table}
    everything = load(data, positive, one_class=True)
    chosen, split, scored = select(_hashes(everything, progress), known, manifest.data.split, part)
    dataset = everything.take(chosen)
    decisions = Counter(dict.fromkeys(("positive", "negative", "refer", "rejected"), 0))
    labels, found = [], []
    with progress.bar("scoring", len(dataset)) as on_done:
        for source, label in zip(dataset.paths, dataset.labels, strict=True):
            result = classifier.classify(source)
            decisions[result.decision] += 1
            if result.probability is not None:
                labels.append(label)
                found.append(result.probability)
            on_done(1)
    truth, p = np.array(labels), np.array(found)
    return Evaluation(
        **msgspec.structs.asdict(score(truth, p)),
        model=classifier.identity,
        split=split,
        part=scored,
        left_out=len(everything) - len(dataset),
        operating_point=score(truth, p, manifest.operating_point.threshold),
        decisions=dict(decisions),
    )


def select(hashes: Sequence[str | None], known: dict[str, str], kind: str, part: Part) -> tuple[list[int], str, str]:
    """Which slices to score: their indices, the kind of split they are, and the name of the part.

    hashes: pixel identities, None for an unreadable file. known: first 16 digits of an identity -> part of the training
    split. Raises `DataRejected` where nothing is left.
    """
    parts = [known.get(sha256[:16], "new") if sha256 else "new" for sha256 in hashes]
    scored = ("test" if "test" in parts else "new") if part == "auto" else part
    chosen = [index for index, own in enumerate(parts) if scored in (own, "all")]
    if not chosen:
        raise DataRejected(f"no slice to score: of {len(hashes)}, all were used in training, or none is in {scored!r}")
    return chosen, "external" if all(parts[index] == "new" for index in chosen) else kind, scored


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
