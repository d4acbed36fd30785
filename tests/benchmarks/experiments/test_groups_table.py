"""The groups table says what the command printed."""

import csv
from pathlib import Path

import msgspec
import pytest

from edge_ct.benchmarks.experiments import groups_table
from edge_ct.errors import EdgeCTError
from edge_ct.train.data import grouping, synthesise
from edge_ct.train.data.similarity import LinkLimits


def test_rows_are_the_summaries(tmp_path: Path) -> None:
    table = synthesise.write_phantom_dataset(tmp_path / "phantoms", patients=4, slices=2, size=64, seed=1)
    pairs = []
    for distance in (30, 100):
        found = grouping.write_groups(
            table, tmp_path / f"{distance}.csv", "COVID", LinkLimits(distance, 0.8, 0.8), regroup=True
        )
        path = tmp_path / f"{distance}.json"
        path.write_bytes(msgspec.json.encode(found))
        pairs.append(f"{path},{path}")
    groups_table.main(str(tmp_path / "table.csv"), *pairs)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["distance"], row["overlap"], row["similarity"]) for row in rows] == [
        ("30", "0.8", "0.8"),
        ("100", "0.8", "0.8"),
    ]
    assert (rows[1]["n"], rows[1]["phantom_n"]) == ("8", "8")
    assert int(rows[1]["groups"]) == found.groups
    assert float(rows[1]["phantom_recall"]) == pytest.approx(found.recall, abs=1e-5)
    assert int(rows[1]["mixed"]) == len(found.mixed)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    table = synthesise.write_phantom_dataset(tmp_path / "phantoms", patients=2, slices=1, size=64, seed=1)
    one, other = (
        msgspec.to_builtins(
            grouping.write_groups(table, tmp_path / f"{distance}.csv", "COVID", LinkLimits(distance), regroup=True)
        )
        for distance in (1, 2)
    )
    with pytest.raises(EdgeCTError, match="the limits differ"):
        groups_table.group_row(one, other)
    with pytest.raises(EdgeCTError, match="--regroup"):
        groups_table.group_row(one, {**one, "recall": None})
