"""Runs to combine, to learn from and to go on with: one trained, the others of random weights, which takes no time."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge_ct import run as runs
from edge_ct.run import Run
from edge_ct.train.options import Options


@pytest.fixture(scope="session")
def untrained() -> Callable[[Path, Path, Options], Run]:
    """Data, run folder, options -> a finished run of random weights."""
    import keras

    from edge_ct.train import fit, zoo

    def make(table: Path, out: Path, options: Options) -> Run:
        keras.utils.set_random_seed(options.seed + options.size)
        prepared = fit.prepare(table, options)
        run = Run(out, fit._info(options, prepared))
        runs.write_split(out / "split.csv", prepared.table)
        return fit.finish(run, zoo.build(keras, options.network, options.size), prepared, fit.QUIET)

    return make


@pytest.fixture(scope="session")
def members(
    trained_run: Path,
    untrained: Callable[[Path, Path, Options], Run],
    phantom_table: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """A trained network of 48 px and a random one of 32, on the same split."""
    options = msgspec.convert(runs.load(trained_run).info.options, Options)
    out = tmp_path_factory.mktemp("members") / "small"
    return trained_run, untrained(phantom_table, out, msgspec.structs.replace(options, size=32)).folder
