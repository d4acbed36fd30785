"""The scores in a run folder: JSON, CSV, learning curves, confusion matrix, and how they are printed."""

from __future__ import annotations

import csv
from pathlib import Path

import click
import msgspec
import numpy as np

from edge_ct.dataset import PARTS
from edge_ct.manifest import Estimate
from edge_ct.metrics import Scores, score
from edge_ct.reporting.counts import count_of
from edge_ct.run import RunInfo, SplitTable
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_bytes, write_text
from edge_ct.system.progress import print_json

from ..plots.training_plots import draw_confusion_matrix, draw_learning_curves


class RunScores(msgspec.Struct, frozen=True):
    """Content of metrics.json; `parts` maps train, validation and test to scores at probability 0.5."""

    model: str
    split: str
    seed: int
    parts: dict[str, Scores]


def write_run_scores(folder: Path, table: SplitTable, probabilities: np.ndarray, info: RunInfo) -> RunScores:
    """Write metrics.json, metrics.csv, predictions.csv, curves.png and confusion.png.

    Args:
        folder: Run folder.
        table: Split table of the run.
        probabilities: P(positive), float [n], in the order of the table.
        info: Description of the run.
    """
    scores = score_parts(table, probabilities)
    result = RunScores(info.network.architecture, info.data.split, info.data.seed, scores)
    write_bytes(folder / "metrics.json", msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    write_text(folder / "metrics.csv", _metrics_csv(result))
    kept = [i for part in ("validation", "test") for i in table.where(part)]
    rows = ((table.paths[i], table.parts[i], int(table.labels[i]), f"{probabilities[i]:.6f}") for i in kept)
    write_text(folder / "predictions.csv", to_csv(("path", "part", "label", "probability"), rows))
    history = folder / "history.csv"
    if history.exists():
        with history.open(newline="") as file:
            draw_learning_curves(list(csv.DictReader(file)), folder / "curves.png")
    draw_confusion_matrix(list(scores.values())[-1], info.classes, folder / "confusion.png")
    return result


def score_parts(table: SplitTable, probabilities: np.ndarray) -> dict[str, Scores]:
    """Score each part of a split at probability 0.5; `probabilities` is float [n] in the order of the table.

    A training on all slices has the part `train` alone.
    """
    indices = {part: table.where(part) for part in PARTS}
    return {part: score(table.labels[rows], probabilities[rows]) for part, rows in indices.items() if len(rows)}


def _metrics_csv(result: RunScores) -> str:
    rows = []
    for part, scores in result.parts.items():
        for name, estimate in scores.estimates().items():
            rows.append((result.model, result.split, part, scores.n, name, *map(_number, _values(estimate))))
    return to_csv(("model", "split", "part", "n", "metric", "value", "low", "high"), rows)


def _values(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def print_run(folder: Path, as_json: bool, **more: object) -> None:
    """Print the test scores of a run folder, as text or, with `more` fields, as JSON."""
    scores = msgspec.json.decode((folder / "metrics.json").read_bytes(), type=RunScores)
    if as_json:
        print_json({"run": str(folder), **msgspec.to_builtins(scores), **more})
        return
    part, measured = list(scores.parts.items())[-1]
    click.echo(f"{folder}: {scores.model}, {scores.split} split, {count_of(measured.n, f'{part} slice')}")
    for name, estimate in measured.estimates().items():
        click.echo(f"  {name:<12} {estimate.text()}")
    if line := describe_chance(measured, part):
        click.echo(line)


def describe_chance(scores: Scores, part: str) -> str | None:
    """Say in plain words if a network is not shown to be better than chance; None if it is, or if that is unknown.

    Args:
        scores: The scores of one part of the split.
        part: The name of that part.
    """
    auc = scores.auc
    if auc.value is None or auc.low is None or auc.low > 0.5:
        return None
    return (
        f"This network tells the classes apart no better than chance: the AUC on "
        f"{count_of(scores.n, f'{part} slice')} is "
        f"{auc.text()}, and 0.5 is chance. Train longer or on more slices, and check the labels with edge-ct "
        "data check."
    )
