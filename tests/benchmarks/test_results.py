"""The committed tables of all networks: complete, and as the code says."""

import csv
from pathlib import Path

import pytest

from edge_ct.train.zoo.architectures import NETWORK_NAMES, find

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def read(name: str) -> dict[str, dict[str, str]]:
    """Rows by network."""
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return {row["network"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", ["int8-all-networks.csv", "qat-networks.csv"])
def test_a_table_of_all_networks_has_them_all(name: str) -> None:
    assert set(read(name)) == set(NETWORK_NAMES)


def test_every_network_becomes_a_full_integer_file_that_says_what_it_did() -> None:
    for row in read("int8-all-networks.csv").values():
        assert float(row["agreement"]) >= 0.9, row
        assert float(row["error"]) <= 0.1, row


def test_the_zoo_says_of_quantisation_aware_training_what_was_tried() -> None:
    for network, row in read("qat-networks.csv").items():
        assert (row["qat"], row["int8"]) == (find(network).qat, "yes"), row
