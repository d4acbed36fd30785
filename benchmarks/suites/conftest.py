"""The bundle that the pytest-benchmark suites share: `--bundle`, or one that the commands make from phantoms."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_ct import cli


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `pytest benchmarks/suites --bundle model.tflite`."""
    parser.addoption("--bundle", type=Path, help="Bundle to measure; a small one trained on phantoms by default.")


@pytest.fixture(scope="session")
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the named bundle, or CustomCNN at 48 px after one epoch."""
    named = request.config.getoption("--bundle")
    if named is not None:
        return Path(named)
    folder = tmp_path_factory.mktemp("bundle")
    table, run, out = folder / "phantoms" / "slices.csv", folder / "run", folder / "model.tflite"
    shape = ("--patients", "120", "--slices", "2", "--size", "96")
    for words in (
        ("data", "synth", table.parent, *shape),
        ("train", "customcnn", "--data", table, "--size", "48", "--epochs", "1", "--split", "grouped", "--out", run),
        ("convert", run, "--int8", "--max-drop", "100", "--out", out),
    ):
        assert cli.run([str(word) for word in words]) == 0
    return out
