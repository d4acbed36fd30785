"""What others are compared with: a small study, and runs to combine, to learn from and to go on with."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from edge_ct.run import Run, load_run, write_split
from edge_ct.system.host import processors
from edge_ct.train.data import synthesise
from edge_ct.train.fitting.options import TrainingOptions
from edge_ct.train.study import runner

# What TensorFlow computes with in this process, if it has begun already: see tests/conftest.py.
THREADS = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or processors())


class States:
    """Copies of a study's folder as it was before each step of writing to it: what a kill can leave behind."""

    def __init__(self, out: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self._out, self._copies, self._inside = out, copies, False
        for owner, name in ((Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (shutil, "rmtree")):
            monkeypatch.setattr(owner, name, self._before(getattr(owner, name), name))

    def _before(self, original: Callable[..., object], name: str) -> Callable[..., object]:
        def step(path: Path, *arguments: object, **options: object) -> object:
            if not self._inside and Path(path).is_relative_to(self._out) and self._out.exists():
                self._inside = True
                shutil.copytree(self._out, self._copies / f"{len(self.steps):03d}")
                target = arguments[0] if name == "replace" else path
                self.steps.append(f"{name} {Path(str(target)).relative_to(self._out)}")
                self._inside = False
            return original(path, *arguments, **options)

        return step


@dataclass(frozen=True)
class SmallStudy:
    """data: `small_study_data`. out: a finished study of them, two rounds of two folds.

    states: each step of writing to the study, and a copy of its folder as it was before the step.
    """

    data: Path
    out: Path
    options: TrainingOptions
    states: list[tuple[str, Path]] = field(default_factory=list)

    @property
    def arguments(self) -> list[str]:
        """The same study for `edge-ct train`, but for --out."""
        return [
            "train", "customcnn", "--data", str(self.data), "--size", "32", "--epochs", "2", "--batch", "8",
            "--augment", "flips", "--split", "grouped", "--seed", "7", "--folds", "2", "--rounds", "2",
            "--cpus-per-job", str(THREADS),
        ]  # fmt: skip

    def run(self, out: Path, **changes: object) -> object:
        """The same study elsewhere, in this process."""
        asked = {"folds": 2, "rounds": 2, "threads": THREADS} | changes
        with pytest.MonkeyPatch.context() as patch:
            # TensorFlow does not tell of threads that the environment gave it: the runner would take all processors.
            patch.setattr(runner, "processors", lambda: THREADS)
            return runner.run_study(self.data, out, ["customcnn"], self.options, **asked)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def small_study_data(make_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """slices.csv of 60 phantoms, 48 px, of 30 patients."""

    def fill(folder: Path) -> None:
        synthesise.write_phantom_dataset(folder / "phantoms", patients=30, slices=2, size=48, seed=5)

    return make_once("small-data", fill) / "phantoms" / "slices.csv"


@pytest.fixture(scope="session")
def small_study(
    small_study_data: Path,
    make_once: Callable[[str, Callable[[Path], object]], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SmallStudy]:
    """This worker's copy of the study, as some tests write to it. Afterwards TensorFlow computes as before."""
    from tensorflow.python.framework import config

    out = tmp_path_factory.mktemp("study") / "unbroken"
    made = SmallStudy(
        small_study_data, out, TrainingOptions("", size=32, epochs=2, batch=8, augment="flips", split="grouped", seed=7)
    )

    def fill(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            states = States(folder / "unbroken", folder / "states", patch)
            made.run(folder / "unbroken")
        (folder / "steps.json").write_text(json.dumps(states.steps))

    folder = make_once("small-study", fill)
    shutil.copytree(folder / "unbroken", out)
    steps = json.loads((folder / "steps.json").read_bytes())
    made.states.extend((step, folder / "states" / f"{number:03d}") for number, step in enumerate(steps))
    yield made
    config.disable_op_determinism()


def tables_of(out: Path) -> dict[str, bytes]:
    """Every table and picture of a study that two runs of it must share."""
    paths = [*(out / "tables").iterdir(), *(out / "plots").iterdir()]
    return {path.name: path.read_bytes() for path in paths if path.name != "times.csv"}


@pytest.fixture(scope="session")
def untrained() -> Callable[[Path, Path, TrainingOptions], Run]:
    """Data, run folder, options -> a finished run of random weights."""
    import keras

    from edge_ct.train import fit
    from edge_ct.train.zoo.builder import build

    def make(table: Path, out: Path, options: TrainingOptions) -> Run:
        keras.utils.set_random_seed(options.seed + options.size)
        prepared = fit.prepare_data(table, options)
        run = Run(out, fit._run_info(options, prepared))
        write_split(out / "split.csv", prepared.table)
        return fit.finish_run(run, build(keras, options.network, options.size), prepared, fit.QUIET)

    return make


@pytest.fixture(scope="session")
def members(
    trained_run: Path,
    untrained: Callable[[Path, Path, TrainingOptions], Run],
    phantom_table: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """A trained network of 48 px and a random one of 32, on the same split."""
    options = msgspec.convert(load_run(trained_run).info.options, TrainingOptions)
    out = tmp_path_factory.mktemp("members") / "small"
    return trained_run, untrained(phantom_table, out, msgspec.structs.replace(options, size=32)).folder
