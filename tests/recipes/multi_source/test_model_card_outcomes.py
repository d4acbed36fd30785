"""The tables of outcomes and of trials in the model card show the committed results."""

import csv
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COLUMNS = [f"{name}{end}" for name in ("positive", "refer", "negative", "rejected") for end in ("", "_low", "_high")]


@pytest.mark.parametrize("model", ["accurate", "fast"])
def test_the_card_shows_the_outcomes_of_the_grouped_split(model: str) -> None:
    """Fails after new tables: the card is written again with the models. Its percentages have one decimal."""
    card = (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")
    with (ROOT / "benchmarks" / "results" / "multi-source-outcomes.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["split"], row["model"]) == ("grouped", model)]
    assert len(rows) == 4
    shown = card.partition(f"`{model}`:\n\n| cases |")[2].partition("\n\n")[0].splitlines()[2:]
    for line, row in zip(shown, rows, strict=True):
        cases, count, shares = line.strip("| ").split(" | ", 2)
        assert (cases, count) == (f"{row['label']}s by {row['unit']}", row["n"])
        numbers = [float(number) for number in re.findall(r"[\d.]+", shares)]
        assert numbers == pytest.approx([100 * float(row[column]) for column in COLUMNS], abs=0.0501)


def test_the_card_shows_the_trials_with_their_options_as_code() -> None:
    card = (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")
    with (ROOT / "benchmarks" / "results" / "multi-source-trials.csv").open(newline="", encoding="utf-8") as file:
        rows = {
            row["model"]: row for row in csv.DictReader(file) if row["slices"] == "all" and row["by"] == "probability"
        }
    shown = card.partition("## What was tried")[2].partition("## The worst errors")[0]
    assert len(rows) >= 4
    for name, row in rows.items():
        line = re.search(rf"^\| {name} \| .* \| {row['split']} \| {row['n']} \| (.*) \|$", shown, re.MULTILINE)
        assert line is not None, name
        numbers = [float(number) for number in re.findall(r"[\d.]+", line[1])]
        assert numbers == pytest.approx([float(row[column]) for column in ("auc", "auc_low", "auc_high")], abs=0.000501)
    assert "`, without `--balance` and `--main-source` | " in shown
