"""What a bundle says of slices that it did not learn from: probability, decision and lesion share of each."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_ct.classifier import Classifier
from edge_ct.dataset import Dataset
from edge_ct.errors import EdgeCTError
from edge_ct.slices import read
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text
from edge_ct.system.progress import Progress

from ..resumable import is_up_to_date

_COLUMNS = ("path", "sha256", "label", "group", "source", "decision", "probability", "lesion_share")


@dataclass(frozen=True, eq=False)
class TestPredictions:
    """One bundle on the test part of its fold, or on a source that was left out of every training.

    Attributes:
        paths: n files.
        sha256: First 16 hex digits of the identity of the pixels of each slice.
        labels: int [n], 0 or 1.
        groups: n patients.
        sources: n sources.
        decisions: n decisions.
        probabilities: P(positive), float [n]; NaN for a rejected slice.
        shares: Lesion share, float [n]; NaN where there is none.
    """

    __test__ = False

    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    labels: np.ndarray
    groups: tuple[str, ...]
    sources: tuple[str, ...]
    decisions: tuple[str, ...]
    probabilities: np.ndarray
    shares: np.ndarray


def predict_unseen(table: Path, bundle: Path, dataset: Dataset, progress: Progress, part: str | None = "test") -> None:
    """Judge slices that a bundle did not learn from, and write the CSV `table`.

    Args:
        table: The CSV to write; if it is newer than the bundle, nothing is done.
        bundle: The bundle, whose member `split.csv` says in which part of its split each slice was.
        dataset: All slices.
        progress: Where to show progress.
        part: Part of the slices to judge; None for the slices that are in no part.

    Raises:
        EdgeCTError: No slice is in that part.
    """
    if is_up_to_date(table, [bundle]):
        return
    classifier = Classifier(bundle)
    text = classifier.bundle.member("split.csv").decode()
    parts = {row["sha256"]: row["part"] for row in csv.DictReader(text.splitlines())}
    rows = []
    sources = dataset.sources or ("",) * len(dataset)
    with progress.bar(f"judging unseen slices with {bundle.name}", len(dataset)) as on_done:
        for index, path in enumerate(dataset.paths):
            slice_ = read(path)
            on_done(1)
            if parts.get(slice_.sha256[:16]) != part:
                continue
            result = classifier.judge_slice(slice_).result
            rows.append(
                (
                    path,
                    slice_.sha256[:16],
                    int(dataset.labels[index]),
                    dataset.groups[index] if dataset.groups else "",
                    sources[index],
                    result.decision,
                    "" if result.probability is None else repr(result.probability),
                    "" if result.lesion_share is None else f"{result.lesion_share:.5f}",
                )
            )
    if not rows:
        raise EdgeCTError(
            f"{bundle}: has learned from all of these slices, or its test split holds none of them; make the bundle "
            "again from this recipe"
        )
    write_text(table, to_csv(_COLUMNS, rows))


def read_predictions(table: Path) -> TestPredictions:
    """Read what `predict_unseen` wrote. Raises `EdgeCTError` where the file is damaged."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return TestPredictions(
            tuple(row["path"] for row in rows),
            tuple(row["sha256"] for row in rows),
            np.array([int(row["label"]) for row in rows]),
            tuple(row["group"] for row in rows),
            tuple(row["source"] for row in rows),
            tuple(row["decision"] for row in rows),
            np.array([float(row["probability"] or "nan") for row in rows]),
            np.array([float(row["lesion_share"] or "nan") for row in rows]),
        )
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise EdgeCTError(f"{table}: missing or damaged ({error}); delete it to judge the slices again") from error
