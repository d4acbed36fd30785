"""The published tables of results of the shipped models, read back from the files in `benchmarks/results`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from edge_ct.bundle import read_bundle
from edge_ct.errors import EdgeCTError
from edge_ct.system.csv_text import read_rows

from .published_results import EVIDENCE, OUTCOMES, lesions_name, others_name
from .source_recipe import read_source_recipe

CsvRow = dict[str, str]
MODELS = ("accurate", "fast")
_RECIPE = "recipes/multi_source/accurate_and_fast.json"


@dataclass(frozen=True)
class ResultTables:
    """The tables of results of the shipped models.

    Attributes:
        evidence: Metrics by split, model and source.
        outcomes: Shares of the decisions by split, model, unit and label.
        lesions: Model -> lesion map against masks; a model without the table is missing.
        others: Model -> what the shipped bundle rejects of pictures that are not CT slices; a model is missing if the
            table does not exist, or was measured with another network than the shipped one.
        folds: Number of folds in the recipe.
    """

    evidence: Sequence[CsvRow]
    outcomes: Sequence[CsvRow]
    lesions: dict[str, Sequence[CsvRow]]
    others: dict[str, Sequence[CsvRow]]
    folds: int

    def metrics(self, model: str, split: str = "grouped", by: str = "probability") -> dict[str, CsvRow]:
        """Return source -> row of a model."""
        return {
            row["slices"]: row for row in self.evidence if (row["split"], row["model"], row["by"]) == (split, model, by)
        }

    def decisions(self, model: str, unit: str) -> dict[str, CsvRow]:
        """Return `positive` and `negative` -> row of the grouped split."""
        return {
            row["label"]: row
            for row in self.outcomes
            if (row["split"], row["model"], row["unit"]) == ("grouped", model, unit)
        }


def read_result_tables(checkout: Path) -> ResultTables:
    """Read the tables of a checkout.

    Raises:
        EdgeCTError: The table of metrics or of decisions is missing or has no row of a shipped model.
    """
    folder = checkout / "benchmarks" / "results"
    tables = ResultTables(
        read_rows(folder / EVIDENCE),
        read_rows(folder / OUTCOMES),
        {name: rows for name in MODELS if (rows := read_rows(folder / lesions_name(name)))},
        {name: rows for name in MODELS if (rows := _rows_of_shipped_network(checkout, name))},
        read_source_recipe(checkout / _RECIPE).folds,
    )
    for name in MODELS:
        if "all" not in tables.metrics(name) or not tables.decisions(name, "slice"):
            raise EdgeCTError(f"{folder}: no results of {name} on the grouped split; write them with --results")
    return tables


def _rows_of_shipped_network(checkout: Path, model: str) -> list[CsvRow]:
    bundle = checkout / "device_app" / "models" / f"{model}.tflite"
    table = checkout / "benchmarks" / "results" / others_name(model)
    rows = [row for row in read_rows(table) if row["expected"] == "rejected"]
    network = sha256(read_bundle(bundle).model).hexdigest() if rows else ""
    return [row for row in rows if row["model_sha256"] == network]
