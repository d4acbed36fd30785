"""The flagship's evidence: every probability of the test parts, and the table that follows from them.

    python -m edge_ct.recipes.flagship.evidence benchmarks/results [PLOT.svg]

reads flagship-predictions.csv and flagship-folds.csv, writes flagship-evidence.csv, the same bytes on every machine,
and draws it. The first file has one row a slice, split, model and variant, with the beginning of the slice's pixel
identity and no file name. The second describes the model of each fold: threshold, size, whether it passed the gate.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import msgspec
import numpy as np

from edge_ct.cli import run_program
from edge_ct.errors import EdgeCTError
from edge_ct.manifest import Estimate
from edge_ct.metrics import BOOTSTRAPS, mcnemar_p, score, wilson
from edge_ct.system.csv_text import estimate_columns, to_csv
from edge_ct.system.files import write_text

PREDICTIONS, FOLDS, EVIDENCE = "flagship-predictions.csv", "flagship-folds.csv", "flagship-evidence.csv"
_ESTIMATES = ("accuracy", "sensitivity", "specificity", "auc", "ece")
_DECISIONS = ("positive", "negative", "refer", "rejected")
_COLUMNS = ("sha256", "label", "group", "split", "fold", "model", "variant", "decision", "probability")
_NUMBERS = ("bytes", "threshold", "target_sensitivity")  # columns of flagship-folds.csv that may be empty


class FoldModel(msgspec.Struct, frozen=True):
    """A model of one fold, one row of flagship-folds.csv. The teacher is not a bundle.

    Attributes:
        split: Split of the fold.
        fold: Number of the fold, from 1.
        folds: Number of folds.
        model: Name of the teacher or student.
        variant: `keras`, `fp32` or `int8`.
        network: Name of the network.
        identity: Name and seal of the bundle; empty for the teacher.
        made: How the int8 file was made; empty for other variants.
        gate: Whether the gate was passed; empty for the teacher.
        bytes: Size of the bundle; None for the teacher.
        threshold: Operating point of the bundle; None for the teacher.
        target_sensitivity: Sensitivity that the operating point was chosen for; None for the teacher.
        split_seed: Random seed of the folds.
        data: Name of the data set.
        fingerprint: Fingerprint of the data set.
    """

    split: str
    fold: int
    folds: int
    model: str
    variant: str
    network: str
    identity: str
    made: str
    gate: Literal["", "passed", "failed"]
    bytes: int | None
    threshold: float | None
    target_sensitivity: float | None
    split_seed: int
    data: str
    fingerprint: str


@dataclass(frozen=True, eq=False)
class FoldPredictions:
    """The predictions of a fold's model for the n slices of the fold's test part.

    The slices are in the order in which `evaluate` scores them: bootstrap samples, and therefore intervals, are then
    the same.

    Attributes:
        model: The model.
        sha256: First 16 hex digits of each slice's pixel identity.
        labels: 0 or 1, [n].
        groups: Likely patient of each slice.
        decisions: Decision for each slice.
        probabilities: P(positive), float [n]; NaN for a rejected slice.
    """

    model: FoldModel
    sha256: tuple[str, ...]
    labels: np.ndarray
    groups: tuple[str, ...]
    decisions: tuple[str, ...]
    probabilities: np.ndarray


def write_evidence(folder: Path, predictions: Sequence[FoldPredictions]) -> None:
    """Write flagship-predictions.csv, flagship-folds.csv and flagship-evidence.csv."""
    ordered = sorted(predictions, key=lambda part: _sort_key(part.model))
    write_text(folder / PREDICTIONS, to_csv(_COLUMNS, _prediction_rows(ordered)))
    models = [msgspec.to_builtins(part.model) for part in ordered]
    names = FoldModel.__struct_fields__
    rows = (["" if model[name] is None else model[name] for name in names] for model in models)
    write_text(folder / FOLDS, to_csv(names, rows))
    regenerate(folder)


def regenerate(folder: Path) -> None:
    """Write flagship-evidence.csv from the other two files; raises `EdgeCTError` if these are damaged."""
    write_text(folder / EVIDENCE, evidence_csv(read_predictions(folder)))


def read_predictions(folder: Path) -> list[FoldPredictions]:
    """Read flagship-predictions.csv and flagship-folds.csv.

    Raises:
        EdgeCTError: A file is missing or damaged, or one file has models that the other does not have.
    """
    try:
        with (folder / FOLDS).open(newline="", encoding="utf-8") as file:
            models = [_read_model(row) for row in csv.DictReader(file)]
        rows: dict[tuple[str, ...], list[dict[str, str]]] = {}
        with (folder / PREDICTIONS).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.setdefault((row["split"], row["fold"], row["model"], row["variant"]), []).append(row)
        predictions = [
            _read_rows(model, rows.pop((model.split, str(model.fold), model.model, model.variant))) for model in models
        ]
    except (OSError, KeyError, ValueError, msgspec.ValidationError, csv.Error) as error:
        raise EdgeCTError(
            f"{folder}: {PREDICTIONS} or {FOLDS} is missing or damaged: {type(error).__name__} {error}"
        ) from error
    if rows:
        raise EdgeCTError(f"{folder / PREDICTIONS}: {FOLDS} has no row for {next(iter(rows))}")
    return predictions


def evidence_csv(predictions: Sequence[FoldPredictions]) -> str:
    """Return flagship-evidence.csv: for each split, model and variant all folds together, then each fold."""
    rows = list(evidence_rows(predictions))
    return to_csv(tuple(rows[0]), (row.values() for row in rows)) if rows else ""


def evidence_rows(predictions: Sequence[FoldPredictions]) -> Iterable[dict[str, object]]:
    """Yield the rows of flagship-evidence.csv; raises `EdgeCTError` if folds do not belong together."""
    by_model: dict[tuple[str, str, str], list[FoldPredictions]] = {}
    for part in sorted(predictions, key=lambda part: _sort_key(part.model)):
        by_model.setdefault((part.model.split, part.model.model, part.model.variant), []).append(part)
    for (split, model, variant), parts in by_model.items():
        fp32 = by_model.get((split, model, "fp32"), []) if variant == "int8" else []
        _check_folds(parts)
        yield _evidence_row(parts, fp32, "all", len(parts))
        for part in parts:
            fold = part.model.fold
            same_fold = [other for other in fp32 if other.model.fold == fold]
            yield _evidence_row([part], same_fold, str(fold), len(parts))


def _check_folds(parts: Sequence[FoldPredictions]) -> None:
    """Raise `EdgeCTError` if folds belong to different data, or share a group although the split is grouped."""
    first, fold_of_group = parts[0].model, dict[str, int]()
    for part in parts:
        model = part.model
        if (model.fingerprint, model.split_seed, model.folds) != (first.fingerprint, first.split_seed, first.folds):
            raise EdgeCTError(
                f"{model.split} split, {model.model}: folds {first.fold} and {model.fold} were made from different "
                "data "
                "or splits; make both from the same data and recipe"
            )
        for group in part.groups if model.split == "grouped" else ():
            if fold_of_group.setdefault(group, model.fold) != model.fold:
                raise EdgeCTError(f"group {group} is in folds {fold_of_group[group]} and {model.fold}")


def _evidence_row(
    parts: Sequence[FoldPredictions], fp32: Sequence[FoldPredictions], fold: str, folds_done: int
) -> dict[str, object]:
    models, first = [part.model for part in parts], parts[0].model
    labels, p = _pool(parts)
    accepted = ~np.isnan(p)
    scores = score(labels[accepted], p[accepted])
    decisions = [decision for part in parts for decision in part.decisions]
    row: dict[str, object] = {
        **{name: getattr(first, name) for name in ("split", "model", "variant")},
        "fold": fold,
        "folds_done": folds_done,
        "folds": first.folds,
        "n": scores.n,
        "positives": int((labels[accepted] == 1).sum()),
    }
    for name in _ESTIMATES:
        row |= _estimate_columns(name, getattr(scores, name))
    row |= _scores_at_threshold(parts)
    row |= _group_intervals(parts)
    row |= _int8_loss(parts, fp32)
    row |= {f"said_{name}": decisions.count(name) for name in _DECISIONS}
    row["positives_rejected"] = int((~accepted & (labels == 1)).sum())
    row["gates_passed"] = sum(model.gate == "passed" for model in models) if first.gate else ""
    row["bytes"] = max((model.bytes for model in models if model.bytes is not None), default="")
    return row


def _scores_at_threshold(parts: Sequence[FoldPredictions]) -> dict[str, str]:
    """Return sensitivity and specificity at each fold's operating point."""
    thresholds = [part.model.threshold for part in parts if part.model.threshold is not None]
    row = {"threshold": f"{thresholds[0]:.4f}" if len(thresholds) == 1 else ""}
    labels, p = _pool(parts)
    bars = np.concatenate([np.full(len(part.labels), part.model.threshold or 0.5) for part in parts])
    for name, label in (("sensitivity", 1), ("specificity", 0)):
        chosen = (labels == label) & ~np.isnan(p)
        right = (p[chosen] >= bars[chosen]) == (label == 1)
        estimate = wilson(int(right.sum()), len(right) if thresholds else 0)
        row |= _estimate_columns(f"{name}_at_threshold", estimate)
    return row


def _group_intervals(parts: Sequence[FoldPredictions]) -> dict[str, object]:
    """Return the number of likely patients, and 95 % bootstrap intervals that draw patients instead of slices.

    Slices of one patient are right or wrong together, so these intervals hold for the slices of a new patient.
    """
    labels, p = _pool(parts)
    names = np.array([group for part in parts for group in part.groups])
    accepted = ~np.isnan(p)
    labels, p = labels[accepted], p[accepted]
    groups, place = np.unique(names[accepted], return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), BOOTSTRAPS)
    row: dict[str, object] = {"groups": len(groups)}
    right = (p >= 0.5) == (labels == 1)
    for name, chosen in (("accuracy", labels >= 0), ("sensitivity", labels == 1), ("specificity", labels == 0)):
        totals = drawn @ np.bincount(place, chosen, len(groups))
        shares = drawn @ np.bincount(place, chosen & right, len(groups)) / np.maximum(totals, 1)
        low, high = np.percentile(shares, [2.5, 97.5])
        row |= {f"{name}_by_group_low": f"{low:.5f}", f"{name}_by_group_high": f"{high:.5f}"}
    return row


def _int8_loss(parts: Sequence[FoldPredictions], fp32: Sequence[FoldPredictions]) -> dict[str, object]:
    """Return what int8 lost against fp32 on the same slices, at probability 0.5; empty columns for other variants."""
    names = ("sensitivity_lost", "positives_lost", "positives_found", "mcnemar_p_positives", "mcnemar_p")
    if [part.model.fold for part in parts] != [part.model.fold for part in fp32]:
        return dict.fromkeys(names, "")
    if any(part.sha256 != other.sha256 for part, other in zip(parts, fp32, strict=True)):
        raise EdgeCTError(
            f"{parts[0].model.model}: fp32 and int8 have predictions of different slices; score both again"
        )
    (labels, p), (_, p_fp32) = _pool(parts), _pool(fp32)
    both = ~np.isnan(p) & ~np.isnan(p_fp32)
    labels, calls, before = labels[both], p[both] >= 0.5, p_fp32[both] >= 0.5
    positive = labels == 1
    lost, gained = int((before & ~calls & positive).sum()), int((~before & calls & positive).sum())
    return {
        "sensitivity_lost": f"{(lost - gained) / max(1, int(positive.sum())):.5f}",
        "positives_lost": lost,
        "positives_found": gained,
        "mcnemar_p_positives": f"{mcnemar_p(labels[positive], before[positive], calls[positive]):.4f}",
        "mcnemar_p": f"{mcnemar_p(labels, before, calls):.4f}",
    }


def _pool(parts: Sequence[FoldPredictions]) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels [n] and probabilities [n] of several folds."""
    return np.concatenate([part.labels for part in parts]), np.concatenate([part.probabilities for part in parts])


def _estimate_columns(name: str, estimate: Estimate) -> dict[str, str]:
    return estimate_columns(name, msgspec.to_builtins(estimate))


def _prediction_rows(predictions: Sequence[FoldPredictions]) -> Iterable[tuple[object, ...]]:
    for part in predictions:
        model, slices = part.model, zip(part.sha256, part.labels.tolist(), part.groups, strict=True)
        for (sha256, label, group), decision, p in zip(
            slices, part.decisions, part.probabilities.tolist(), strict=True
        ):
            probability = "" if np.isnan(p) else repr(p)
            yield sha256, label, group, model.split, model.fold, model.model, model.variant, decision, probability


def _read_rows(model: FoldModel, rows: list[dict[str, str]]) -> FoldPredictions:
    return FoldPredictions(
        model,
        tuple(row["sha256"] for row in rows),
        np.array([int(row["label"]) for row in rows]),
        tuple(row["group"] for row in rows),
        tuple(row["decision"] for row in rows),
        np.array([float(row["probability"] or "nan") for row in rows]),
    )


def _read_model(row: dict[str, str]) -> FoldModel:
    fields = {name: value or (None if name in _NUMBERS else "") for name, value in row.items()}
    return msgspec.convert(fields, FoldModel, strict=False)


def _sort_key(model: FoldModel) -> tuple[bool, bool, str, str, int]:
    """Order random before grouped, the teacher before its students, fp32 before int8."""
    return model.split == "grouped", model.variant != "keras", model.model, model.variant, model.fold


def evidence_plot(predictions: Sequence[FoldPredictions]) -> str:
    """Return accuracy, sensitivity and specificity of all folds together as SVG, with intervals by likely patient."""
    from ..plots import metric_intervals

    values: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in evidence_rows(predictions):
        if row["fold"] == "all":
            title = f"{row['model']} {row['variant']}, {row['split']}, n = {row['n']}"
            values[title] = {
                metric: (
                    _number(row[metric]),
                    _number(row[f"{metric}_by_group_low"]),
                    _number(row[f"{metric}_by_group_high"]),
                )
                for metric in ("accuracy", "sensitivity", "specificity")
            }
    return metric_intervals(values)


def _number(cell: object) -> float:
    return float(str(cell) or "nan")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("plot", type=click.Path(path_type=Path, dir_okay=False), required=False)
def command(folder: Path, plot: Path | None) -> None:
    """Write flagship-evidence.csv from the predictions in FOLDER, and draw it as the SVG file PLOT."""
    regenerate(folder)
    if plot:
        write_text(plot, evidence_plot(read_predictions(folder)))


if __name__ == "__main__":
    run_program(command)
