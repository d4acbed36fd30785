"""The flagship: teachers, their ensemble, students that learn from it, bundles, and what is known of them. Resumes.

    python -m edge_ct.recipes.flagship.pipeline RECIPE --data SLICES --weights FOLDER --out RUNS
        [--splits random,grouped] [--folds 1,2] [--ship FOLDER [--card CARD.md]]

Everything is trained, chosen and calibrated inside a fold; its test part is looked at once, at the end. Wings do not
import each other, so every step is a command that a user could type. The same call goes on after a kill, and with fewer
folds, splits or students it does less; what has been done stays done.

RUNS/SLICES/groups.csv          the slices, and which are likely to be one patient's
RUNS/SPLIT/fold-1/NAME/         the run of a teacher or a student; teacher/ is the ensemble
RUNS/SPLIT/fold-1/NAME-int8.*   a student's bundle, what it says of the test part, and the notes of its steps
RUNS/evidence/                  flagship-predictions.csv, flagship-folds.csv, flagship-evidence.csv: see `evidence`
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from edge_ct.bundle import CARD, add_members, read_bundle, unpack_bundle
from edge_ct.classifier import Classifier
from edge_ct.cli import run_program
from edge_ct.dataset import load
from edge_ct.errors import EdgeCTError, GateFailed
from edge_ct.run import load_finished_run
from edge_ct.system.files import exclusive_lock, write_bytes
from edge_ct.system.progress import Progress

from ..resumable import Done, Steps
from . import evidence
from . import recipe as flagship_recipe
from .evidence import Facts, Judged
from .recipe import SPLITS, TEACHER, Recipe, Split, Student, Training


@dataclass(frozen=True)
class Fold:
    """One fold of one split, and where its results are."""

    recipe: Recipe
    split: Split
    number: int
    folder: Path
    table: Path
    weights: Path | None

    @property
    def title(self) -> str:
        """For progress."""
        return f"{self.split} split, fold {self.number} of {self.recipe.folds}"

    def models(self) -> list[tuple[str, str]]:
        """What is scored: name and variant."""
        students = [(name, variant) for name in self.recipe.students for variant in ("fp32", "int8")]
        return [(TEACHER, "keras"), *students]

    def steps(self) -> list[str]:
        """The kinds of its steps, in order."""
        recipe, found = self.recipe, [f"teacher {name}" for name in self.recipe.teachers]
        if len(recipe.teachers) > 1:
            found.append("ensemble")
        found.append(_scores_kind(TEACHER, "keras"))
        for name in recipe.students:
            found.append(f"student {name}")
            for variant in ("fp32", "int8"):
                found += [f"{variant} {name}", _scores_kind(name, variant)]
        return found


class Flagship:
    """A recipe, and the folder where it is carried out."""

    def __init__(self, recipe: Recipe, data: Path, weights: Path | None, out: Path, progress: Progress) -> None:
        """Raises `EdgeCTError` for data that cannot be listed."""
        self._recipe, self._progress = recipe, progress
        self._out, self._data = out.resolve(), data.resolve()
        self._given = load(self._data, recipe.positive).groups is not None  # then they are not looked for
        table = self._data if self._given else self._out / self._data.name / "groups.csv"
        weights = weights.resolve() if weights else None
        self._places = {"OUT": self._out, "DATA": self._data, **({"WEIGHTS": weights} if weights else {})}
        self._table = table
        self.folds = [
            Fold(recipe, split, number, self._out / split / f"fold-{number}", table, weights)
            for number in range(1, recipe.folds + 1)
            for split in SPLITS
        ]

    def make(self, splits: Sequence[Split] = SPLITS, numbers: Sequence[int] = ()) -> None:
        """Do what is not done yet. numbers: of folds, from 1, all where none is named.

        Folds come one after the other, each on all splits, so that what there is at any time is about as much of each.
        Raises `EdgeCTError` where a step fails, or what is there was made by another recipe.
        """
        chosen = set(numbers) or {fold.number for fold in self.folds}
        if not chosen <= {fold.number for fold in self.folds}:
            raise EdgeCTError(f"the folds are 1 to {self._recipe.folds}")
        work = [fold for fold in self.folds if fold.number in chosen and fold.split in splits]
        _check_weights(work[0])
        with exclusive_lock(self._out):
            steps = self._steps([*([] if self._given else ["groups"]), *(kind for one in work for kind in one.steps())])
            if not self._given:
                _group(steps, self._data, self._table, self._recipe)
            for fold in work:
                _carry_out(steps, fold)
                evidence.write(self._out / "evidence", self.found())
                self._progress.say(f"{fold.title}: done; {self._out / 'evidence'}")

    def found(self) -> list[Judged]:
        """What is known so far of the test parts."""
        return collect(self._steps([]), self.folds)

    def ship(self, into: Path, card: str) -> list[Path]:
        """As the function."""
        return ship(self._steps([]), self._recipe, self.folds, into, card, self._progress)

    def _steps(self, kinds: list[str]) -> Steps:
        return Steps(self._out, self._places, self._progress, kinds)


def _check_weights(fold: Fold) -> None:
    """Raise now for what would fail after hours."""
    for training in (*fold.recipe.teachers.values(), *(one.training for one in fold.recipe.students.values())):
        training.words(fold.weights)


def _group(steps: Steps, data: Path, table: Path, recipe: Recipe) -> None:
    words = ["data", "group", data, "--out", table, "--positive", recipe.positive, "--force", "--json"]
    steps.do(table.with_suffix(""), "groups", "likely patients", words, [table])


def _carry_out(steps: Steps, fold: Fold) -> None:
    recipe, folder = fold.recipe, fold.folder
    for name, training in recipe.teachers.items():
        _train(steps, fold, f"teacher {name}", folder / name, training)
    teacher = folder / next(iter(recipe.teachers))
    if len(recipe.teachers) > 1:
        teacher = folder / TEACHER
        if not steps.noted(teacher):
            shutil.rmtree(teacher, ignore_errors=True)
        members = [folder / name for name in recipe.teachers]
        words = ["ensemble", *members, "--fit-weights", "--out", teacher, "--json"]
        steps.do(teacher, "ensemble", f"{fold.title}: ensemble", words, _run_files(teacher)[:2])
    _score(steps, fold, TEACHER, "keras", teacher)
    for name, student in recipe.students.items():
        run = folder / name
        _train(steps, fold, f"student {name}", run, student.training, ["--teacher", str(teacher), *student.distil])
        for variant, convert in (("fp32", _to_fp32), ("int8", _to_int8)):
            _score(steps, fold, name, variant, convert(steps, fold, name, student))


def _run_files(run: Path) -> list[Path]:
    """What there is of every finished run, its account first; a network's model last."""
    return [run / "run.json", run / "split.csv", run / "model.keras"]


def _train(steps: Steps, fold: Fold, kind: str, run: Path, training: Training, more: Sequence[str] = ()) -> None:
    recipe = fold.recipe
    words: list[object] = ["train", training.network, "--data", fold.table, "--out", run, "--positive", recipe.positive]
    words += ["--split", fold.split, "--folds", recipe.folds, "--fold", fold.number]
    words += ["--split-seed", recipe.split_seed, "--validation", recipe.validation]
    words += [*training.words(fold.weights), *more, "--resume", "--json"]
    if not steps.noted(run) and not (run / "run.json").exists():  # killed before there was anything to go on with
        shutil.rmtree(run, ignore_errors=True)
    steps.do(run, kind, f"{fold.title}: {kind}", words, _run_files(run))


def _to_fp32(steps: Steps, fold: Fold, name: str, student: Student) -> Path:
    bundle = fold.folder / f"{name}-fp32.tflite"
    steps.do(
        bundle, f"fp32 {name}", f"{fold.title}: {name} to fp32", _convert(fold, name, bundle, ["--fp32"]), [bundle]
    )
    return bundle


def _to_int8(steps: Steps, fold: Fold, name: str, student: Student) -> Path:
    """The first way that the gate passes; else what the first way gave, by the name that says so."""
    tried = []
    for number, way in enumerate(student.int8):
        bundle = fold.folder / f"{name}-int8{f'-{number + 1}' if number else ''}.tflite"
        failed = bundle.with_name(f"{bundle.stem}.gate-failed.tflite")
        words = _convert(fold, name, bundle, ["--int8", *way])
        kind, title = f"int8 {name}", f"{fold.title}: {' '.join([name, 'to int8', *way])}"
        if number:
            steps.one_more(kind)
        done = steps.do(bundle, kind, title, words, [bundle, failed], accept=(GateFailed.exit_code,))
        if done.exit_code == 0:
            return bundle
        tried.append(failed)
    return tried[0]


def _convert(fold: Fold, name: str, bundle: Path, how: Sequence[str]) -> list[object]:
    recipe = fold.recipe
    words: list[object] = ["convert", fold.folder / name, *how, "--out", bundle, "--report-only", "--force"]
    return [*words, "--data", fold.table, "--licence", recipe.licence, *recipe.convert, "--json"]


def _score(steps: Steps, fold: Fold, name: str, variant: str, target: Path) -> None:
    predictions = _predictions(fold, name, variant)
    words: list[object] = ["evaluate", target, "--part", "test", "--positive", fold.recipe.positive]
    words += [] if target.is_dir() else ["--data", fold.table]
    words += ["--predictions", predictions, "--json"]
    title = f"{fold.title}: {name} {variant} on the test part"
    steps.do(predictions.with_suffix(""), _scores_kind(name, variant), title, words, [predictions])


def _scores_kind(name: str, variant: str) -> str:
    return f"scores {name} {variant}"


def _predictions(fold: Fold, name: str, variant: str) -> Path:
    return fold.folder / f"{name}-{variant}.predictions.csv"


def collect(steps: Steps, folds: Sequence[Fold]) -> list[Judged]:
    """What is known of the test parts, of whichever folds have been scored."""
    found = []
    for fold in folds:
        for name, variant in fold.models():
            predictions = _predictions(fold, name, variant)
            if done := steps.noted(predictions.with_suffix("")):
                target = Path(steps.path(done.command[1]))
                conversion = None if target.is_dir() else steps.noted(_note_of(target))
                found.append(_judged(fold, name, variant, target, predictions, conversion))
    return found


def _note_of(bundle: Path) -> Path:
    return bundle.with_name(bundle.name.replace(".gate-failed", ""))


def _judged(fold: Fold, name: str, variant: str, target: Path, predictions: Path, conversion: Done | None) -> Judged:
    run = load_finished_run(target if target.is_dir() else fold.folder / name)
    table, root = run.split(), Path(run.info.data_path)
    row = {os.path.realpath(root / path): i for i, path in enumerate(table.paths)}
    with predictions.open(newline="", encoding="utf-8") as file:
        said = list(csv.DictReader(file))
    where = [row[os.path.realpath(line["path"])] for line in said]
    part_of = table.part_of()
    tested = [i for i in table.where("test") if part_of[table.sha256[i][:16]] == "test"]
    if sorted(where) != tested:
        raise EdgeCTError(f"{predictions}: not of the test part of {run.folder}")
    bundle = None if conversion is None else read_bundle(target)
    way = [] if conversion is None else [word for word in conversion.command if word in ("--fp32", "--int8")]
    return Judged(
        Facts(
            split=fold.split,
            fold=fold.number,
            folds=fold.recipe.folds,
            model=name,
            variant=variant,
            network=bundle.manifest.name if bundle else run.name,
            identity=bundle.identity if bundle else "",
            made=bundle.manifest.shrinking or "ptq" if bundle and way == ["--int8"] else "",
            gate="" if bundle is None else "failed" if conversion and conversion.exit_code else "passed",
            bytes=len(bundle.content) if bundle else None,
            threshold=bundle.manifest.operating_point.threshold if bundle else None,
            target_sensitivity=bundle.manifest.operating_point.target_sensitivity if bundle else None,
            split_seed=run.info.data.seed,
            data=run.info.data.name,
            fingerprint=run.info.data.fingerprint,
        ),
        sha256=tuple(table.sha256[i][:16] for i in where),
        labels=table.labels[where],
        groups=tuple(table.groups[i] for i in where),
        decisions=tuple(line["decision"] for line in said),
        probabilities=np.array([float(line["probability"] or "nan") for line in said]),
    )


def ship(steps: Steps, recipe: Recipe, folds: Sequence[Fold], into: Path, card: str, progress: Progress) -> list[Path]:
    """Copy the int8 bundles of the recipe's fold to `into`, each by the name of its student, with the model card in it.

    Raises `GateFailed` where the gate was not passed or a bundle is too large; then nothing is written.
    """
    [fold] = [one for one in folds if (one.split, one.number) == (recipe.ship.split, recipe.ship.fold)]
    contents = {}
    for name, student in recipe.students.items():
        done = steps.noted(_predictions(fold, name, "int8").with_suffix(""))
        if done is None:
            raise EdgeCTError(f"{fold.title}: {name} has not been made yet, and it is what the recipe ships")
        target = Path(steps.path(done.command[1]))
        bundle = read_bundle(target)
        if bundle.manifest.gate is None or not bundle.manifest.gate.passed:
            raise GateFailed(f"{target}: did not pass the gate; not shipped")
        content = add_members(bundle, {CARD: card.encode()} if card else {})
        if student.most_bytes and len(content) > student.most_bytes:
            raise GateFailed(
                f"{target}: {len(content):,} bytes with its card, over {student.most_bytes:,}; not shipped"
            )
        Classifier(unpack_bundle(content, str(target))).check_golden()
        contents[into / f"{name}.tflite"] = content
    for path, content in contents.items():
        write_bytes(path, content)
        progress.say(f"{path}: {len(content):,} bytes, {unpack_bundle(content, str(path)).identity}")
    return list(contents)


def _split_names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[Split, ...]:
    names = tuple(value.split(","))
    if not names or not set(names) <= set(SPLITS):
        raise click.BadParameter("random, grouped or both, with a comma")
    return tuple(split for split in SPLITS if split in names)


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in value.split(",") if word)
    except ValueError as error:
        raise click.BadParameter("numbers, with commas") from error


_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of slices, or a CSV.")
@click.option("--weights", type=_FOLDER, help="Where the weights files are that the recipe names.")
@click.option("--out", type=_FOLDER, required=True, help="Where runs, bundles and evidence go; the same to go on.")
@click.option("--splits", default="random,grouped", show_default=True, callback=_split_names)
@click.option("--folds", default="", callback=_numbers, help="Which, from 1, as 1,2; all by default.")
@click.option("--ship", "into", type=_FOLDER, help="Afterwards copy the bundles there that the recipe ships.")
@click.option("--card", type=click.Path(path_type=Path, dir_okay=False), help="With --ship: the model card to put in.")
@click.option("--only-ship", is_flag=True, help="Make nothing that is not made yet.")
def command(
    recipe: Path,
    data: Path,
    weights: Path | None,
    out: Path,
    splits: tuple[Split, ...],
    folds: tuple[int, ...],
    into: Path | None,
    card: Path | None,
    only_ship: bool,
) -> None:
    """Make the flagship of a recipe, or go on with it."""
    if (card or only_ship) and not into:
        raise click.UsageError("--card and --only-ship go with --ship")
    progress, read = Progress(), flagship_recipe.read(recipe)
    text = card.read_text(encoding="utf-8") if card else ""
    work = Flagship(read, data, weights, out, progress)
    if not only_ship:
        work.make(splits, folds)
    if into:
        work.ship(into, text)


if __name__ == "__main__":
    run_program(command)
