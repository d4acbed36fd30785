"""The predictions of a fold's models for its test part, read from what the steps of the pipeline left."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.bundle import Bundle, read_bundle
from edge_ct.errors import EdgeCTError
from edge_ct.run import Run, load_finished_run

from ..resumable import ResumableSteps, StepRecord
from .evidence import FoldModel, FoldPredictions
from .recipe import TEACHER, FlagshipRecipe, Split


@dataclass(frozen=True)
class FoldOutputs:
    """One fold of one split, and where its results are.

    Attributes:
        recipe: The recipe.
        split: The split.
        number: Number of the fold, from 1.
        folder: Folder of the results.
    """

    recipe: FlagshipRecipe
    split: Split
    number: int
    folder: Path

    @property
    def title(self) -> str:
        """Title of the fold, for progress."""
        return f"{self.split} split, fold {self.number} of {self.recipe.folds}"

    def models(self) -> list[tuple[str, str]]:
        """Return name and variant of each model that is scored."""
        students = [(name, variant) for name in self.recipe.students for variant in ("fp32", "int8")]
        return [(TEACHER, "keras"), *students]

    def predictions(self, name: str, variant: str) -> Path:
        """Return the CSV of a model's predictions for the test part."""
        return self.folder / f"{name}-{variant}.predictions.csv"


def collect_predictions(steps: ResumableSteps, folds: Sequence[FoldOutputs]) -> list[FoldPredictions]:
    """Return the predictions of every model that has been scored on the test part of its fold."""
    collected = []
    for fold in folds:
        for name, variant in fold.models():
            predictions = fold.predictions(name, variant)
            if step := steps.recorded(predictions.with_suffix("")):
                target = Path(steps.path(step.command[1]))
                conversion = None if target.is_dir() else steps.recorded(_conversion_record(target))
                collected.append(_fold_predictions(fold, name, variant, target, conversion))
    return collected


def _conversion_record(bundle: Path) -> Path:
    return bundle.with_name(bundle.name.replace(".gate-failed", ""))


def _fold_predictions(
    fold: FoldOutputs, name: str, variant: str, target: Path, conversion: StepRecord | None
) -> FoldPredictions:
    path = fold.predictions(name, variant)
    run = load_finished_run(target if target.is_dir() else fold.folder / name)
    table, root = run.split(), Path(run.info.data_path)
    index_of = {os.path.realpath(root / file): index for index, file in enumerate(table.paths)}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    indices = [index_of[os.path.realpath(row["path"])] for row in rows]
    part_of = table.part_of()
    tested = [index for index in table.where("test") if part_of[table.sha256[index][:16]] == "test"]
    if sorted(indices) != tested:
        raise EdgeCTError(f"{path}: not the predictions of the test part of {run.folder}; delete it to score again")
    return FoldPredictions(
        _fold_model(fold, name, variant, run, None if conversion is None else read_bundle(target), conversion),
        sha256=tuple(table.sha256[index][:16] for index in indices),
        labels=table.labels[indices],
        groups=tuple(table.groups[index] for index in indices),
        decisions=tuple(row["decision"] for row in rows),
        probabilities=np.array([float(row["probability"] or "nan") for row in rows]),
    )


def _fold_model(
    fold: FoldOutputs, name: str, variant: str, run: Run, bundle: Bundle | None, conversion: StepRecord | None
) -> FoldModel:
    data = run.info.data
    model = FoldModel(
        split=fold.split,
        fold=fold.number,
        folds=fold.recipe.folds,
        model=name,
        variant=variant,
        network=run.name,
        identity="",
        made="",
        gate="",
        bytes=None,
        threshold=None,
        target_sensitivity=None,
        split_seed=data.seed,
        data=data.name,
        fingerprint=data.fingerprint,
    )
    if bundle is None or conversion is None:
        return model
    manifest = bundle.manifest
    is_int8 = "--int8" in conversion.command
    return msgspec.structs.replace(
        model,
        network=manifest.name,
        identity=bundle.identity,
        made=(manifest.shrinking or "ptq") if is_int8 else "",
        gate="failed" if conversion.exit_code else "passed",
        bytes=len(bundle.content),
        threshold=manifest.operating_point.threshold,
        target_sensitivity=manifest.operating_point.target_sensitivity,
    )
