"""The seed study's table: networks and their ensemble on the same slices, beside the published figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_ct.metrics import Scores
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_bytes, write_text

from ..published_results import SEED_STUDY

_METRICS = ("accuracy", "loss", "sensitivity", "specificity")


class SeedStudyRow(msgspec.Struct, frozen=True):
    """A network, or the ensemble of the networks above it.

    Attributes:
        name: Name of the run.
        network: Architecture.
        size: Side of the input in pixels.
        params: Number of weights.
        weight: Weight in the ensemble's mean; None if the ensemble has no weights.
        parts: For train, validation and test, scores at probability 0.5; training slices are not augmented here.
    """

    name: str
    network: str
    size: int
    params: int
    weight: float | None
    parts: dict[str, Scores]


def write_table(folder: Path, rows: Sequence[SeedStudyRow], caption: str) -> None:
    """Write table.json, table.csv and table.md; `caption` names the slices and the rule of the ensemble."""
    write_bytes(folder / "table.json", msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
    write_text(folder / "table.csv", _csv(rows))
    write_text(folder / "table.md", _markdown(rows, caption))


def read_table(folder: Path) -> list[SeedStudyRow]:
    """Read the rows of table.json."""
    return msgspec.json.decode((folder / "table.json").read_bytes(), type=list[SeedStudyRow])


def _csv(rows: Sequence[SeedStudyRow]) -> str:
    header = ["name", "network", "size", "params", "weight", "n_train", "n_test"]
    columns = [("train", "accuracy"), *(("test", metric) for metric in _METRICS)]
    for part, metric in columns:
        header += [f"{part}_{metric}", f"{part}_{metric}_low", f"{part}_{metric}_high"]
    header += [f"published_test_{metric}" for metric in _METRICS]
    lines = []
    for row in rows:
        line: list[object] = [row.name, row.network, row.size, row.params, _number(row.weight)]
        line += [row.parts["train"].n, row.parts["test"].n]
        for part, metric in columns:
            estimate = row.parts[part].estimates()[metric]
            line += map(_number, (estimate.value, estimate.low, estimate.high))
        published = SEED_STUDY.get(row.network, {})
        lines.append(line + [published[metric].value if metric in published else "" for metric in _METRICS])
    return to_csv(header, lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def _markdown(rows: Sequence[SeedStudyRow], caption: str) -> str:
    lines = [
        caption,
        "",
        "| network | size | parameters | train accuracy | test accuracy | loss | sensitivity | specificity "
        "| published: accuracy | loss | sensitivity | specificity |",
        "|---" * 12 + "|",
    ]
    for row in rows:
        test, train = row.parts["test"], row.parts["train"]
        cells = [row.network, str(row.size), f"{row.params / 1e6:.2f} M"]
        cells += [train.accuracy.text(1, percent=True), test.accuracy.text(1, percent=True), test.loss.text()]
        cells += [test.sensitivity.text(1, percent=True), test.specificity.text(1, percent=True)]
        published = SEED_STUDY.get(row.network)
        if published:
            cells += [f"{published['accuracy'].value:.0%}", f"{published['loss'].value:.2f}"]
            cells += [f"{published['sensitivity'].value:.0%}", f"{published['specificity'].value:.0%}"]
        else:
            cells += [""] * 4
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
