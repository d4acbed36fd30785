"""The flagship's evidence: every probability of the test parts, and the table that follows from them.

    python -m edge_ct.recipes.flagship.evidence benchmarks/results [PLOT.svg]

reads flagship-predictions.csv and flagship-folds.csv there and writes flagship-evidence.csv, byte for byte the same
wherever it is done, and draws it. The first has a row a slice, split, model and variant: the beginning of its pixel
identity, never a name. The second has what a fold's model is: thresholds, bytes, whether it passed the gate.
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
from edge_ct.metrics import BOOTSTRAPS, mcnemar_p, score, wilson
from edge_ct.system import csv_text
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text

PREDICTIONS, FOLDS, EVIDENCE = "flagship-predictions.csv", "flagship-folds.csv", "flagship-evidence.csv"
_ESTIMATES = ("accuracy", "sensitivity", "specificity", "auc", "ece")
_DECISIONS = ("positive", "negative", "refer", "rejected")
_COLUMNS = ("sha256", "label", "group", "split", "fold", "model", "variant", "decision", "probability")


class Facts(msgspec.Struct, frozen=True):
    """A model of one fold. folds: of how many it is one. variant: keras, fp32 or int8.

    made: how the int8 file came to be. gate: passed, failed, or "" where there is none. threshold: the operating point.
    The teacher is no bundle and has neither these nor bytes.
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
class Judged:
    """What a model of one fold says of the fold's test part; of each slice, n of them, in the order of the data.

    In that order `evaluate` draws its bootstrap samples, so that intervals are the same too.

    sha256: first 16 hex digits of its pixel identity. labels: 0 or 1. probabilities: P(positive), nan where rejected.
    """

    facts: Facts
    sha256: tuple[str, ...]
    labels: np.ndarray
    groups: tuple[str, ...]
    decisions: tuple[str, ...]
    probabilities: np.ndarray


def write(folder: Path, found: Sequence[Judged]) -> None:
    """Write the three tables."""
    ordered = sorted(found, key=lambda one: _key(one.facts))
    write_text(folder / PREDICTIONS, to_csv(_COLUMNS, _rows(ordered)))
    facts = [msgspec.to_builtins(one.facts) for one in ordered]
    names = Facts.__struct_fields__
    write_text(folder / FOLDS, to_csv(names, ([_shown(row[name]) for name in names] for row in facts)))
    regenerate(folder)


def regenerate(folder: Path) -> None:
    """Write flagship-evidence.csv from the other two. Raises `EdgeCTError` where they are damaged."""
    write_text(folder / EVIDENCE, text_of(read(folder)))


def read(folder: Path) -> list[Judged]:
    """Read flagship-predictions.csv and flagship-folds.csv. Raises `EdgeCTError`."""
    try:
        with (folder / FOLDS).open(newline="", encoding="utf-8") as file:
            facts = [_facts(row) for row in csv.DictReader(file)]
        lines: dict[tuple[str, ...], list[dict[str, str]]] = {}
        with (folder / PREDICTIONS).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                lines.setdefault((row["split"], row["fold"], row["model"], row["variant"]), []).append(row)
        found = [_judged(one, lines.pop((one.split, str(one.fold), one.model, one.variant))) for one in facts]
    except (OSError, KeyError, ValueError, msgspec.ValidationError, csv.Error) as error:
        raise EdgeCTError(f"{folder}: missing or damaged: {type(error).__name__} {error}") from error
    if lines:
        raise EdgeCTError(f"{folder / PREDICTIONS}: nothing in {FOLDS} is known of {next(iter(lines))}")
    return found


def text_of(found: Sequence[Judged]) -> str:
    """flagship-evidence.csv: of each split, model and variant all folds together, then each."""
    rows = list(_evidence(found))
    return to_csv(tuple(rows[0]), (row.values() for row in rows)) if rows else ""


def _evidence(found: Sequence[Judged]) -> Iterable[dict[str, object]]:
    by: dict[tuple[str, str, str], list[Judged]] = {}
    for one in sorted(found, key=lambda one: _key(one.facts)):
        by.setdefault((one.facts.split, one.facts.model, one.facts.variant), []).append(one)
    for (split, model, variant), own in by.items():
        before = by.get((split, model, "fp32"), []) if variant == "int8" else []
        _check(own)
        yield _row(own, before, "all", len(own))
        for one in own:
            fold = one.facts.fold
            yield _row([one], [other for other in before if other.facts.fold == fold], str(fold), len(own))


def _check(own: Sequence[Judged]) -> None:
    """Raise `EdgeCTError` where folds are not of one set, or share a group that they should not."""
    first, home = own[0].facts, dict[str, int]()
    for one in own:
        facts = one.facts
        if (facts.fingerprint, facts.split_seed, facts.folds) != (first.fingerprint, first.split_seed, first.folds):
            raise EdgeCTError(
                f"{facts.split} split, {facts.model}: folds {first.fold} and {facts.fold} are of other sets"
            )
        for group in one.groups if facts.split == "grouped" else ():
            if home.setdefault(group, facts.fold) != facts.fold:
                raise EdgeCTError(f"group {group} is in folds {home[group]} and {facts.fold}")


def _row(own: Sequence[Judged], before: Sequence[Judged], fold: str, done: int) -> dict[str, object]:
    facts, first = [one.facts for one in own], own[0].facts
    labels, p = _together(own)
    seen = ~np.isnan(p)
    scores = score(labels[seen], p[seen])
    decisions = [decision for one in own for decision in one.decisions]
    row: dict[str, object] = {
        **{name: getattr(first, name) for name in ("split", "model", "variant")},
        "fold": fold,
        "folds_done": done,
        "folds": first.folds,
        "n": scores.n,
        "positives": int((labels[seen] == 1).sum()),
    }
    for name in _ESTIMATES:
        row |= csv_text.estimate_columns(name, msgspec.to_builtins(getattr(scores, name)))
    row |= _at_threshold(own)
    row |= _by_group(own)
    row |= _lost(own, before)
    row |= {f"said_{name}": decisions.count(name) for name in _DECISIONS}
    row["positives_rejected"] = int((~seen & (labels == 1)).sum())
    row["gates_passed"] = "" if not first.gate else sum(one.gate == "passed" for one in facts)
    row["bytes"] = _shown(max((one.bytes for one in facts if one.bytes is not None), default=None))
    return row


def _at_threshold(own: Sequence[Judged]) -> dict[str, str]:
    """Sensitivity and specificity at each fold's operating point."""
    thresholds = [one.facts.threshold for one in own if one.facts.threshold is not None]
    row = {"threshold": f"{thresholds[0]:.4f}" if len(thresholds) == 1 else ""}
    labels, p = _together(own)
    bars = np.concatenate([np.full(len(one.labels), one.facts.threshold or 0.5) for one in own])
    for name, label in (("sensitivity", 1), ("specificity", 0)):
        chosen = (labels == label) & ~np.isnan(p)
        right = (p[chosen] >= bars[chosen]) == (label == 1)
        estimate = wilson(int(right.sum()), len(right) if thresholds else 0)
        row |= csv_text.estimate_columns(f"{name}_at_threshold", msgspec.to_builtins(estimate))
    return row


def _by_group(own: Sequence[Judged]) -> dict[str, object]:
    """How many likely patients there are, and 95 % intervals where they are drawn again, not their slices.

    Slices of one patient are right or wrong together, so these are what a new patient's slices are told by.
    """
    labels, p = _together(own)
    names = np.array([group for one in own for group in one.groups])
    seen = ~np.isnan(p)
    labels, p = labels[seen], p[seen]
    groups, place = np.unique(names[seen], return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), BOOTSTRAPS)
    row: dict[str, object] = {"groups": len(groups)}
    right = (p >= 0.5) == (labels == 1)
    for name, chosen in (("accuracy", labels >= 0), ("sensitivity", labels == 1), ("specificity", labels == 0)):
        of = np.bincount(place, chosen, len(groups))
        share = drawn @ np.bincount(place, chosen & right, len(groups)) / np.maximum(drawn @ of, 1)
        low, high = np.percentile(share, [2.5, 97.5])
        row |= {f"{name}_by_group_low": f"{low:.5f}", f"{name}_by_group_high": f"{high:.5f}"}
    return row


def _lost(own: Sequence[Judged], before: Sequence[Judged]) -> dict[str, object]:
    """What int8 lost against fp32 on the same slices, at probability 0.5; blank for all else."""
    names = ("sensitivity_lost", "positives_lost", "positives_found", "mcnemar_p_positives", "mcnemar_p")
    if [one.facts.fold for one in own] != [one.facts.fold for one in before]:
        return dict.fromkeys(names, "")
    if any(one.sha256 != other.sha256 for one, other in zip(own, before, strict=True)):
        raise EdgeCTError(f"{own[0].facts.model}: fp32 and int8 judged other slices")
    (labels, p), (_, other) = _together(own), _together(before)
    both = ~np.isnan(p) & ~np.isnan(other)
    labels, calls, was = labels[both], p[both] >= 0.5, other[both] >= 0.5
    positive = labels == 1
    lost, found = int((was & ~calls & positive).sum()), int((~was & calls & positive).sum())
    return {
        "sensitivity_lost": f"{(lost - found) / max(1, int(positive.sum())):.5f}",
        "positives_lost": lost,
        "positives_found": found,
        "mcnemar_p_positives": f"{mcnemar_p(labels[positive], was[positive], calls[positive]):.4f}",
        "mcnemar_p": f"{mcnemar_p(labels, was, calls):.4f}",
    }


def _together(own: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray]:
    """labels [n], probabilities [n]."""
    return np.concatenate([one.labels for one in own]), np.concatenate([one.probabilities for one in own])


def _rows(found: Sequence[Judged]) -> Iterable[tuple[object, ...]]:
    for one in found:
        facts, rows = one.facts, zip(one.sha256, one.labels.tolist(), one.groups, strict=True)
        for (sha256, label, group), decision, p in zip(rows, one.decisions, one.probabilities.tolist(), strict=True):
            probability = "" if np.isnan(p) else repr(p)
            yield sha256, label, group, facts.split, facts.fold, facts.model, facts.variant, decision, probability


def _judged(facts: Facts, rows: list[dict[str, str]]) -> Judged:
    return Judged(
        facts,
        tuple(row["sha256"] for row in rows),
        np.array([int(row["label"]) for row in rows]),
        tuple(row["group"] for row in rows),
        tuple(row["decision"] for row in rows),
        np.array([float(row["probability"] or "nan") for row in rows]),
    )


def _facts(row: dict[str, str]) -> Facts:
    # An empty field is none where it is of a number.
    given = {
        name: value or (None if name in ("bytes", "threshold", "target_sensitivity") else "")
        for name, value in row.items()
    }
    return msgspec.convert(given, Facts, strict=False)


def _key(facts: Facts) -> tuple[bool, bool, str, str, int]:
    """Random before grouped, the teacher before its students, fp32 before int8."""
    return facts.split == "grouped", facts.variant != "keras", facts.model, facts.variant, facts.fold


def _shown(value: object) -> object:
    return "" if value is None else value


def drawn(found: Sequence[Judged]) -> str:
    """The table as SVG: accuracy, sensitivity and specificity of all folds together; intervals by likely patients."""
    from edge_ct.reporting import plotting

    values: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in _evidence(found):
        if row["fold"] == "all":
            name = f"{row['model']} {row['variant']}, {row['split']}, n = {row['n']}"
            values[name] = {
                metric: (
                    _number(row[metric]),
                    _number(row[f"{metric}_by_group_low"]),
                    _number(row[f"{metric}_by_group_high"]),
                )
                for metric in ("accuracy", "sensitivity", "specificity")
            }
    return plotting.intervals(values)


def _number(shown: object) -> float:
    return float(str(shown) or "nan")


def main(folder: str, plot: str = "") -> None:
    """Regenerate the table, and the plot where one is named."""
    regenerate(Path(folder))
    if plot:
        write_text(Path(plot), drawn(read(Path(folder))))


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.argument("plot", type=click.Path(dir_okay=False), default="")
def command(folder: str, plot: str) -> None:
    """Regenerate the table from the predictions in FOLDER, and draw it as SVG."""
    main(folder, plot)


if __name__ == "__main__":
    run_program(command)
