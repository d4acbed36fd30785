"""Folds, final models that are calibrated on the folds, and trials: each step is an `edge-ct` command.

The final models learn from every slice. What is said of them comes from the folds: a fold's int8 bundle is measured on
the slices that it did not learn from, and their outputs calibrate the final bundle (cross-fitting). The same call
resumes after a kill; with fewer splits, models or stages it does less, and what has been done is kept.

RUNS/slices.csv, lesions.csv    the slices of all sources, and those with lesion masks
RUNS/SPLIT-FOLD/NAME/           the run of a model in a fold; the fold of a source split is the source that is left out
RUNS/SPLIT-FOLD/NAME-training-1/  the first training, where the recipe has several
RUNS/SPLIT-FOLD/NAME-int8.*     its bundle, and what that says of the test part of the fold
RUNS/final/NAME/, NAME-int8.*   the run on all slices, and the bundle
RUNS/trials/NAME/SPLIT-FOLD*    the runs of trials, and their bundles
RUNS/final/NAME-external.*      what the bundle says of sources that were left out of every training
RUNS/evidence.csv, trials.csv   results by split, model and source
RUNS/NAME-lesions.csv           the lesion map against masks, by patient
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_ct.bundle import read_bundle
from edge_ct.dataset import Dataset, load
from edge_ct.errors import EdgeCTError, GateFailed
from edge_ct.manifest import DecisionRule
from edge_ct.reporting.counts import count_of
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import exclusive_lock, write_text
from edge_ct.system.progress import Progress

from ..resumable import ResumableSteps
from .fold_predictions import TestPredictions, predict_unseen, read_predictions
from .lesion_evidence import measure_lesion_maps
from .source_evidence import evidence_rows
from .source_recipe import (
    EVIDENCE_SPLITS,
    SOURCE_SPLITS,
    EvidenceSplit,
    ShippedModel,
    SourceData,
    SourceRecipe,
    SourceSplit,
    with_weights,
)
from .source_tables import EXTERNAL, LESIONS, SLICES, write_lesions, write_slices

Stage = Literal["folds", "final", "trials"]
STAGES: tuple[Stage, ...] = ("folds", "final", "trials")


@dataclass(frozen=True)
class SourceFold:
    """One fold of one split. `key` is its number, from 1, or the source that is left out."""

    split: SourceSplit
    key: str

    @property
    def name(self) -> str:
        """Name of the fold's folder, such as `grouped-1` or `source-mosmed`."""
        return f"{self.split}-{self.key}"


@dataclass(frozen=True, eq=False)
class FoldResult:
    """What the bundle of a fold says of the test part of the fold, and the thresholds by which it decides."""

    predictions: TestPredictions
    rule: DecisionRule


class CrossFitPipeline:
    """A recipe, and the folder where it is carried out."""

    def __init__(
        self,
        recipe: SourceRecipe,
        data: Path,
        weights: Path | None,
        out: Path,
        progress: Progress,
        most_folds: int | None = None,
    ) -> None:
        """Prepare the pipeline; nothing is read yet.

        Args:
            recipe: What to do.
            data: The folder that the recipe's paths are relative to.
            weights: Folder of the weights files that the recipe names, or None.
            out: Folder of the results.
            progress: Where to show progress.
            most_folds: Maximum number of folds of the random and of the grouped split that are made and used; None for
                all of the recipe.

        Raises:
            EdgeCTError: A weights file is missing.
        """
        self._fold_count = min(recipe.folds, most_folds or recipe.folds)
        self._recipe, self._progress = recipe, progress
        self._out, self._data = out.resolve(), data.resolve()
        self._weights = weights.resolve() if weights else None
        self._folders = {"OUT": self._out, "DATA": self._data, **({"WEIGHTS": self._weights} if self._weights else {})}
        for model in recipe.models.values():
            with_weights(model.train, self._weights)
        for trial in recipe.trials.values():
            with_weights(recipe.trial_words(trial), self._weights)

    def make(
        self,
        splits: Sequence[SourceSplit] = SOURCE_SPLITS,
        models: Sequence[str] = (),
        stages: Sequence[Stage] = STAGES,
    ) -> None:
        """Carry out the recipe, except for what has been done.

        Args:
            splits: Splits to carry out in the stage `folds`.
            models: Models to make; empty means all.
            stages: `folds`, `final` (which needs the grouped folds) and `trials`.

        Raises:
            CommandFailed: A step failed.
            EdgeCTError: The results in the folder were made by another recipe.
        """
        chosen = tuple(models) or tuple(self._recipe.models)
        if unknown := set(chosen) - set(self._recipe.models):
            names = ", ".join(self._recipe.models)
            raise EdgeCTError(f"the recipe has no model {unknown.pop()}; its models are {names}")
        with exclusive_lock(self._out):
            dataset = self._prepare()
            folds = self._folds(dataset)
            wanted = [fold for fold in folds if fold.split in splits] if "folds" in stages else []
            trial_folds = self._trial_folds(folds) if "trials" in stages else []
            finals = chosen if "final" in stages else ()
            kinds = [kind for _ in wanted for name in chosen for kind in (f"train {name}", f"int8 {name}")]
            kinds += [kind for name in finals for kind in (f"final {name}", f"int8 {name}")]
            kinds += [f"trial {kind}" for _ in trial_folds for _ in self._recipe.trials for kind in ("train", "int8")]
            steps = ResumableSteps(self._out, self._folders, self._progress, kinds)
            # The final models rest on the grouped folds, and are wanted most.
            for fold in (fold for fold in wanted if fold.split == "grouped"):
                self._make_fold(steps, fold, chosen, dataset, folds)
            for name in finals:
                self._make_final(steps, name, folds)
                self._judge_external(name)
                self._write_evidence(folds)
            for fold in (fold for fold in wanted if fold.split != "grouped"):
                self._make_fold(steps, fold, chosen, dataset, folds)
            for fold in trial_folds:
                self._make_trials(steps, fold, dataset)

    def bundle(self, name: str) -> Path:
        """Return the final bundle of a model."""
        return self._out / "final" / f"{name}-int8.tflite"

    @property
    def recipe(self) -> SourceRecipe:
        """The recipe."""
        return self._recipe

    @property
    def out(self) -> Path:
        """Folder of the results."""
        return self._out

    def fold_results(self, split: EvidenceSplit, name: str) -> list[FoldResult]:
        """Return the results of a model in the folds of a split, or of its final bundle, that have been made."""
        if split == "external":
            table = self._external_predictions(name)
            made = table.exists()
            return [FoldResult(read_predictions(table), _decision_rule(self.bundle(name)))] if made else []
        dataset = load(self._out / SLICES, self._recipe.positive)
        steps = ResumableSteps(self._out, self._folders, self._progress)
        results = []
        for fold in self._folds(dataset):
            run = self._out / fold.name / name
            bundle = self._made_bundle(steps, run, self._recipe.models[name])
            table = run.with_name(f"{name}-int8.predictions.csv")
            if fold.split == split and bundle is not None and table.exists():
                results.append(FoldResult(read_predictions(table), _decision_rule(bundle)))
        return results

    def _prepare(self) -> Dataset:
        """Write the tables of slices and lesions, or read them."""
        table, lesions = self._out / SLICES, self._out / LESIONS
        if table.exists() and lesions.exists():
            return load(table, self._recipe.positive)
        dataset = write_slices(
            table, [(entry, self._grouped(entry)) for entry in self._recipe.sources], self._recipe.positive
        )
        count = write_lesions(lesions, self._recipe, self._data, dataset)
        self._progress.say(
            f"{table}: {count_of(len(dataset), 'slice')}; {lesions}: {count_of(count, 'slice')} with lesion masks"
        )
        return dataset

    def _grouped(self, entry: SourceData) -> Path:
        """Return the slices of an entry with groups: likely patients where the data do not name them."""
        data = self._data / entry.data
        if load(data, self._recipe.positive, one_class=True).groups is not None:
            return data
        table = self._out / f"{entry.source or data.name}-groups.csv"
        words = ["data", "group", data, "--out", table, "--positive", self._recipe.positive, "--force", "--json"]
        steps = ResumableSteps(self._out, self._folders, self._progress, ["groups"])
        steps.run(table.with_suffix(""), "groups", f"likely patients of {data.name}", words, [table])
        return table

    def _folds(self, dataset: Dataset) -> list[SourceFold]:
        numbers = [str(number) for number in range(1, self._fold_count + 1)]
        folds = [SourceFold(split, number) for split in ("grouped", "random") for number in numbers]
        return [*folds, *(SourceFold("source", source) for source in dataset.two_class_sources())]

    def _trial_folds(self, folds: list[SourceFold]) -> list[SourceFold]:
        chosen = [fold for fold in folds if fold.name in self._recipe.trial_folds]
        if len(chosen) < len(self._recipe.trial_folds):
            raise EdgeCTError(f"the recipe's trial folds must be some of {', '.join(fold.name for fold in folds)}")
        return chosen

    def _make_fold(
        self, steps: ResumableSteps, fold: SourceFold, models: Sequence[str], dataset: Dataset, folds: list[SourceFold]
    ) -> None:
        for name in models:
            model, run = self._recipe.models[name], self._out / fold.name / name
            self._train_model(steps, fold, f"train {name}", run, model)
            bundle = self._convert(steps, f"int8 {name}", run, model, [])
            predict_unseen(run.with_name(f"{name}-int8.predictions.csv"), bundle, dataset, self._progress)
        self._write_evidence(folds)

    def _make_final(self, steps: ResumableSteps, name: str, folds: list[SourceFold]) -> None:
        model, run = self._recipe.models[name], self._out / "final" / name
        grouped = [fold for fold in folds if fold.split == "grouped"]
        bundles = [self._made_bundle(steps, self._out / fold.name / name, model) for fold in grouped]
        missing = [fold.name for fold, bundle in zip(grouped, bundles, strict=True) if bundle is None]
        if missing:
            raise EdgeCTError(f"the final {name} is calibrated on the grouped folds; make {missing[0]} first")
        self._train_model(steps, None, f"final {name}", run, model)
        options = [word for bundle in bundles for word in ("--cross-fit", str(bundle))]
        table = self._out / f"{name}-lesions.csv"
        if self._recipe.lesions:
            held_out = {
                bundle: frozenset(read_predictions(self._out / fold.name / f"{name}-int8.predictions.csv").groups)
                for fold, bundle in zip(grouped, bundles, strict=True)
                if bundle is not None
            }
            evidence = measure_lesion_maps(self._out / LESIONS, held_out, table, self._progress)
            self._progress.say(
                f"{name}: lesion map on {evidence.patients} held-out patients: Dice {evidence.dice:.3f}, pointing game "
                f"{evidence.pointing_game:.3f}, error of the share {evidence.share_error:.3f}"
            )
            options += ["--lesion-evidence", str(table)]
        bundle = self._convert(steps, f"int8 {name}", run, model, options)
        if model.most_bytes and bundle.stat().st_size > model.most_bytes:
            raise GateFailed(f"{bundle}: {bundle.stat().st_size:,} bytes, over the limit of {model.most_bytes:,}")

    def _judge_external(self, name: str) -> None:
        """Judge the sources that were left out of every training with the final bundle of a model."""
        if any(entry.leave_out for entry in self._recipe.sources):
            table = self._out / EXTERNAL
            if not table.exists():
                parts = [(entry, self._grouped(entry)) for entry in self._recipe.sources]
                write_slices(table, parts, self._recipe.positive, left_out=True)
            dataset = load(table, self._recipe.positive)
            predict_unseen(self._external_predictions(name), self.bundle(name), dataset, self._progress, part=None)

    def _external_predictions(self, name: str) -> Path:
        return self._out / "final" / f"{name}-external.predictions.csv"

    def _make_trials(self, steps: ResumableSteps, fold: SourceFold, dataset: Dataset) -> None:
        for name, trial in self._recipe.trials.items():
            run = self._out / "trials" / name / fold.name
            self._train(steps, fold, "trial train", run, self._recipe.trial_words(trial))
            bundle = self._convert(steps, "trial int8", run, self._recipe.models[trial.model], [])
            predict_unseen(run.with_name(f"{fold.name}-int8.predictions.csv"), bundle, dataset, self._progress)
            self._write_trials()

    def _train_model(
        self, steps: ResumableSteps, fold: SourceFold | None, kind: str, run: Path, model: ShippedModel
    ) -> None:
        """Train a model, in several trainings if the recipe says so; those before the last are at NAME-training-N."""
        words = list(model.train)
        for number, further in enumerate(model.train_further, 1):
            earlier = run.with_name(f"{run.name}-training-{number}")
            steps.add_step(f"{kind}, training {number}")
            self._train(steps, fold, f"{kind}, training {number}", earlier, words)
            words = [*model.train, *further, "--weights", str(earlier)]
        self._train(steps, fold, kind, run, words)

    def _train(self, steps: ResumableSteps, fold: SourceFold | None, kind: str, run: Path, training: list[str]) -> None:
        recipe = self._recipe
        network, *options = with_weights(training, self._weights)
        words: list[object] = ["train", network, "--data", self._out / SLICES, "--out", run]
        words += ["--positive", recipe.positive]
        if fold is None:
            words += ["--split", "none"]
        elif fold.split == "source":
            words += ["--split", "source", "--test-source", fold.key]
        else:
            words += ["--split", fold.split, "--folds", recipe.folds, "--fold", fold.key]
        words += ["--split-seed", recipe.split_seed]
        words += [] if fold is None else ["--validation", recipe.validation]
        words += ["--lesions", self._out / LESIONS] if recipe.lesions and "--no-lesions" not in options else []
        words += [option for option in options if option != "--no-lesions"]
        if steps.recorded(run) is None and not (run / "run.json").exists():
            # It was killed before there was anything to resume.
            shutil.rmtree(run, ignore_errors=True)
        files = [run / "run.json", run / "split.csv", run / "model.keras"]
        title = f"{run.relative_to(self._out)}: {kind}"
        steps.run(run, kind, title, [*words, "--resume", "--json"], files)

    def _convert(self, steps: ResumableSteps, kind: str, run: Path, model: ShippedModel, more: Sequence[str]) -> Path:
        """Convert to int8 with the first options that pass the gate, or else with the first ones; return the bundle."""
        for number, options in enumerate(model.int8):
            bundle, failed = _bundle_files(run, number)
            words = ["convert", run, "--int8", *options, "--out", bundle, "--licence", self._recipe.licence]
            words += [*self._recipe.convert, *more, "--report-only", "--force", "--json"]
            if number:
                steps.add_step(kind)
            title = f"{run.relative_to(self._out)}: {' '.join(['to int8', *options])}"
            step = steps.run(bundle, kind, title, words, [bundle, failed], accept=(GateFailed.exit_code,))
            if step.exit_code == 0:
                return bundle
        return _bundle_files(run, 0)[1]

    def _made_bundle(self, steps: ResumableSteps, run: Path, model: ShippedModel) -> Path | None:
        """Return the bundle of a run that has been converted, as `_convert` does; None if it has not."""
        steps_made = [steps.recorded(_bundle_files(run, number)[0]) for number in range(len(model.int8))]
        for number, step in enumerate(steps_made):
            if step is not None and step.exit_code == 0:
                return _bundle_files(run, number)[0]
        return _bundle_files(run, 0)[1] if steps_made and all(steps_made) else None

    def _write_evidence(self, folds: Sequence[SourceFold]) -> None:
        rows: list[dict[str, object]] = []
        for split in EVIDENCE_SPLITS:
            for name in self._recipe.models:
                tables = [
                    self._out / fold.name / f"{name}-int8.predictions.csv" for fold in folds if fold.split == split
                ]
                tables += [self._external_predictions(name)] if split == "external" else []
                made = [read_predictions(table) for table in tables if table.exists()]
                if made:
                    rows += evidence_rows(split, name, made, self._recipe.comparisons)
        _write_rows(self._out / "evidence.csv", rows)

    def _write_trials(self) -> None:
        rows: list[dict[str, object]] = []
        for name, trial in self._recipe.trials.items():
            for fold in self._recipe.trial_folds:
                run = self._out / "trials" / name / fold
                table = run.with_name(f"{fold}-int8.predictions.csv")
                if table.exists():
                    trial_rows = evidence_rows(fold, name, [read_predictions(table)], self._recipe.comparisons)
                    what = " ".join([*(f"without {option}" for option in trial.leave_out), *trial.train])
                    rows += [{**row, "varies": what} for row in trial_rows]
        _write_rows(self._out / "trials.csv", rows)


def _decision_rule(bundle: Path) -> DecisionRule:
    return read_bundle(bundle).manifest.decision_rule


def _bundle_files(run: Path, number: int) -> tuple[Path, Path]:
    """Return the bundle that a set of options makes of a run, and its name if it failed the gate."""
    bundle = run.with_name(f"{run.name}-int8{f'-{number + 1}' if number else ''}.tflite")
    return bundle, bundle.with_name(f"{bundle.stem}.gate-failed.tflite")


def _write_rows(path: Path, rows: Sequence[dict[str, object]]) -> None:
    if rows:
        write_text(path, to_csv(tuple(rows[0]), (row.values() for row in rows)))
