"""What `edge-ct evaluate` says of a model, as far as a report uses it."""

from __future__ import annotations

from csv import DictReader
from pathlib import Path

import msgspec

from edge_ct.metrics import Scores
from edge_ct.reporting.outcomes import OutcomeTable, SourceScores


class Evaluation(msgspec.Struct, frozen=True):
    """The fields of `evaluate --json` that a report uses."""

    model: str
    split: str
    part: str
    n: int
    left_out: int
    operating_point: Scores | None
    decisions: dict[str, int] | None
    outcomes: tuple[OutcomeTable, ...] = ()
    sources: dict[str, SourceScores] = {}


def read_predictions(path: Path) -> dict[str, tuple[int, float | None]]:
    """Return label and P(positive) of each slice by its path; None for a rejected slice."""
    with path.open(newline="", encoding="utf-8") as file:
        return {
            row["path"]: (int(row["label"]), float(row["probability"]) if row["probability"] else None)
            for row in DictReader(file)
        }
