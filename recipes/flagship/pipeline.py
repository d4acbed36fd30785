"""The flagship pipeline: teachers, their ensemble, students distilled from it, bundles, and their test results.

Everything is trained, chosen and calibrated inside a fold; the test part of the fold is used once, at the end. Each
step is an `edge-ct` command that a user could type, because wings do not import each other. The same call resumes after
a kill; with fewer folds, splits or students it does less, and what has been done is kept.

RUNS/SLICES/groups.csv          the slices, and which of them are likely to belong to one patient
RUNS/SPLIT/fold-1/NAME/         the run of a teacher or a student; teacher/ is the ensemble
RUNS/SPLIT/fold-1/NAME-int8.*   a student's bundle, its predictions of the test part, and the records of its steps
RUNS/evidence/                  flagship-predictions.csv, flagship-folds.csv, flagship-evidence.csv: see `evidence`
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_ct.dataset import load
from edge_ct.errors import EdgeCTError, GateFailed
from edge_ct.system.files import exclusive_lock
from edge_ct.system.progress import Progress

from ..resumable import ResumableSteps
from .evidence import FoldPredictions, write_evidence
from .recipe import SPLITS, TEACHER, FlagshipRecipe, NetworkTraining, Split, Student
from .results import FoldOutputs, collect_predictions
from .shipping import ship_bundles


@dataclass(frozen=True)
class Fold(FoldOutputs):
    """One fold of one split: what to do, and where its results are.

    Attributes:
        table: CSV of the slices.
        weights: Folder of the weights files, or None.
    """

    table: Path
    weights: Path | None

    def step_kinds(self) -> list[str]:
        """Return the kinds of the steps, in order."""
        recipe = self.recipe
        kinds = [f"teacher {name}" for name in recipe.teachers]
        if len(recipe.teachers) > 1:
            kinds.append("ensemble")
        kinds.append(_scores_kind(TEACHER, "keras"))
        for name in recipe.students:
            kinds.append(f"student {name}")
            for variant in ("fp32", "int8"):
                kinds += [f"{variant} {name}", _scores_kind(name, variant)]
        return kinds


class Flagship:
    """A recipe, and the folder where it is carried out."""

    def __init__(self, recipe: FlagshipRecipe, data: Path, weights: Path | None, out: Path, progress: Progress) -> None:
        """List the slices.

        Args:
            recipe: What to do.
            data: Folder or CSV of labelled slices.
            weights: Folder of the weights files that the recipe names, or None.
            out: Folder of the results.
            progress: Where to show progress.

        Raises:
            EdgeCTError: The data cannot be listed.
        """
        self._recipe, self._progress = recipe, progress
        self._out, self._data = out.resolve(), data.resolve()
        self._has_groups = load(self._data, recipe.positive).groups is not None
        self._table = self._data if self._has_groups else self._out / self._data.name / "groups.csv"
        weights = weights.resolve() if weights else None
        self._folders = {"OUT": self._out, "DATA": self._data, **({"WEIGHTS": weights} if weights else {})}
        self.folds = [
            Fold(recipe, split, number, self._out / split / f"fold-{number}", self._table, weights)
            for number in range(1, recipe.folds + 1)
            for split in SPLITS
        ]

    def make(self, splits: Sequence[Split] = SPLITS, numbers: Sequence[int] = ()) -> None:
        """Carry out the recipe, except for what has been done.

        The folds are carried out one after the other, each on all splits, so that at any time about as much is known of
        every split.

        Args:
            splits: Splits to carry out.
            numbers: Folds to carry out, from 1; empty means all.

        Raises:
            CommandFailed: A step failed.
            EdgeCTError: The results in the folder were made by another recipe.
        """
        chosen = set(numbers) or {fold.number for fold in self.folds}
        if not chosen <= {fold.number for fold in self.folds}:
            raise EdgeCTError(f"no such fold: the folds of this recipe are 1 to {self._recipe.folds}")
        folds = [fold for fold in self.folds if fold.number in chosen and fold.split in splits]
        _check_weights(folds[0])
        with exclusive_lock(self._out):
            kinds = [] if self._has_groups else ["groups"]
            steps = self._steps([*kinds, *(kind for fold in folds for kind in fold.step_kinds())])
            if not self._has_groups:
                _group_patients(steps, self._data, self._table, self._recipe)
            for fold in folds:
                _run_fold(steps, fold)
                write_evidence(self._out / "evidence", self.predictions())
                self._progress.say(f"{fold.title}: done; the evidence is in {self._out / 'evidence'}")

    def predictions(self) -> list[FoldPredictions]:
        """Return the predictions of the test parts that have been scored so far."""
        return collect_predictions(self._steps([]), self.folds)

    def ship(self, into: Path, card: str) -> list[Path]:
        """Copy the int8 bundles that the recipe ships to `into`; arguments and errors as for `ship_bundles`."""
        return ship_bundles(self._steps([]), self._recipe, self.folds, into, card, self._progress)

    def _steps(self, kinds: list[str]) -> ResumableSteps:
        return ResumableSteps(self._out, self._folders, self._progress, kinds)


def _check_weights(fold: Fold) -> None:
    """Raise at the start for missing weights, which would otherwise end the pipeline after hours."""
    recipe = fold.recipe
    for training in (*recipe.teachers.values(), *(student.training for student in recipe.students.values())):
        training.options(fold.weights)


def _group_patients(steps: ResumableSteps, data: Path, table: Path, recipe: FlagshipRecipe) -> None:
    words = ["data", "group", data, "--out", table, "--positive", recipe.positive, "--force", "--json"]
    steps.run(table.with_suffix(""), "groups", "likely patients", words, [table])


def _run_fold(steps: ResumableSteps, fold: Fold) -> None:
    recipe, folder = fold.recipe, fold.folder
    for name, training in recipe.teachers.items():
        _train(steps, fold, f"teacher {name}", folder / name, training)
    teacher = folder / next(iter(recipe.teachers))
    if len(recipe.teachers) > 1:
        teacher = folder / TEACHER
        if not steps.recorded(teacher):
            shutil.rmtree(teacher, ignore_errors=True)
        members = [folder / name for name in recipe.teachers]
        words = ["ensemble", *members, "--fit-weights", "--out", teacher, "--json"]
        steps.run(teacher, "ensemble", f"{fold.title}: ensemble", words, _run_files(teacher)[:2])
    _score(steps, fold, TEACHER, "keras", teacher)
    for name, student in recipe.students.items():
        distillation = ["--teacher", str(teacher), *student.distil]
        _train(steps, fold, f"student {name}", folder / name, student.training, distillation)
        for variant, convert in (("fp32", _convert_to_fp32), ("int8", _convert_to_int8)):
            _score(steps, fold, name, variant, convert(steps, fold, name, student))


def _run_files(run: Path) -> list[Path]:
    """Return the files of a finished run; an ensemble has no model file, which is the last."""
    return [run / "run.json", run / "split.csv", run / "model.keras"]


def _train(
    steps: ResumableSteps, fold: Fold, kind: str, run: Path, training: NetworkTraining, more: Sequence[str] = ()
) -> None:
    recipe = fold.recipe
    words: list[object] = ["train", training.network, "--data", fold.table, "--out", run, "--positive", recipe.positive]
    words += ["--split", fold.split, "--folds", recipe.folds, "--fold", fold.number]
    words += ["--split-seed", recipe.split_seed, "--validation", recipe.validation]
    words += [*training.options(fold.weights), *more, "--resume", "--json"]
    if not steps.recorded(run) and not (run / "run.json").exists():  # killed before there was anything to resume
        shutil.rmtree(run, ignore_errors=True)
    steps.run(run, kind, f"{fold.title}: {kind}", words, _run_files(run))


def _convert_to_fp32(steps: ResumableSteps, fold: Fold, name: str, student: Student) -> Path:
    bundle = fold.folder / f"{name}-fp32.tflite"
    words = _convert_words(fold, name, bundle, ["--fp32"])
    steps.run(bundle, f"fp32 {name}", f"{fold.title}: {name} to fp32", words, [bundle])
    return bundle


def _convert_to_int8(steps: ResumableSteps, fold: Fold, name: str, student: Student) -> Path:
    """Return the bundle of the first options that pass the gate, or else that of the first ones, named as failed."""
    tried = []
    for number, options in enumerate(student.int8):
        bundle = fold.folder / f"{name}-int8{f'-{number + 1}' if number else ''}.tflite"
        failed = bundle.with_name(f"{bundle.stem}.gate-failed.tflite")
        words = _convert_words(fold, name, bundle, ["--int8", *options])
        kind, title = f"int8 {name}", f"{fold.title}: {' '.join([name, 'to int8', *options])}"
        if number:
            steps.add_step(kind)
        step = steps.run(bundle, kind, title, words, [bundle, failed], accept=(GateFailed.exit_code,))
        if step.exit_code == 0:
            return bundle
        tried.append(failed)
    return tried[0]


def _convert_words(fold: Fold, name: str, bundle: Path, options: Sequence[str]) -> list[object]:
    recipe = fold.recipe
    words: list[object] = ["convert", fold.folder / name, *options, "--out", bundle, "--report-only", "--force"]
    return [*words, "--data", fold.table, "--licence", recipe.licence, *recipe.convert, "--json"]


def _score(steps: ResumableSteps, fold: Fold, name: str, variant: str, target: Path) -> None:
    predictions = fold.predictions(name, variant)
    words: list[object] = ["evaluate", target, "--part", "test", "--positive", fold.recipe.positive]
    words += [] if target.is_dir() else ["--data", fold.table]
    words += ["--predictions", predictions, "--json"]
    title = f"{fold.title}: {name} {variant} on the test part"
    steps.run(predictions.with_suffix(""), _scores_kind(name, variant), title, words, [predictions])


def _scores_kind(name: str, variant: str) -> str:
    return f"scores {name} {variant}"
