"""A small study, trained once, that others are compared with: unbroken, in this process."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_ct.train import study, synth
from edge_ct.train.options import Options


@dataclass(frozen=True)
class SmallStudy:
    """data: `small_study_data`. out: a finished study of them, two rounds of two folds."""

    data: Path
    out: Path
    options: Options

    @property
    def arguments(self) -> list[str]:
        """The same study for `edge-ct train`, but for --out."""
        return [
            "train", "customcnn", "--data", str(self.data), "--size", "32", "--epochs", "2", "--batch", "8",
            "--augment", "flips", "--split", "grouped", "--seed", "7", "--folds", "2", "--rounds", "2",
            "--cpus-per-job", str(study.processors()),
        ]  # fmt: skip

    def run(self, out: Path, **changes: object) -> object:
        """The same study elsewhere, in this process."""
        return study.run(self.data, out, ["customcnn"], self.options, **({"folds": 2, "rounds": 2} | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def small_study_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """slices.csv of 60 phantoms, 48 px, of 30 patients."""
    return synth.write(tmp_path_factory.mktemp("study") / "phantoms", patients=30, slices=2, size=48, seed=5)


@pytest.fixture(scope="session")
def small_study(small_study_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallStudy]:
    """Afterwards TensorFlow computes as before."""
    from tensorflow.python.framework import config

    options = Options("", size=32, epochs=2, batch=8, augment="flips", split="grouped", seed=7)
    made = SmallStudy(small_study_data, tmp_path_factory.mktemp("study") / "unbroken", options)
    made.run(made.out)
    yield made
    config.disable_op_determinism()


def tables_of(out: Path) -> dict[str, bytes]:
    """Every table and picture of a study that two runs of it must share."""
    paths = [*(out / "tables").iterdir(), *(out / "plots").iterdir()]
    return {path.name: path.read_bytes() for path in paths if path.name != "times.csv"}
