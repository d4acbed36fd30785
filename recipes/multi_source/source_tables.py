"""One table of the labelled slices of all sources, and one of all slices with lesion masks."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edge_ct.dataset import Dataset, load
from edge_ct.errors import DataRejected
from edge_ct.system.csv_text import read_table, to_csv
from edge_ct.system.files import write_text

from .source_recipe import SourceData, SourceRecipe

SLICES, LESIONS, EXTERNAL = "slices.csv", "lesions.csv", "external.csv"


def write_slices(
    table: Path, parts: Sequence[tuple[SourceData, Path]], positive: str, left_out: bool = False
) -> Dataset:
    """Write the table of all labelled slices, and read it again.

    Args:
        table: The CSV to write, `path,label,group,source,weight`; paths are absolute.
        parts: Each entry of the recipe, and the folder or CSV of its slices.
        positive: Name of the positive class.
        left_out: Write the slices of the sources that the recipe leaves out, instead of the others.

    Raises:
        DataRejected: Slices have no group or no source.
    """
    rows = []
    for entry, path in parts:
        dataset = load(path, positive, one_class=True)
        if dataset.groups is None:
            raise DataRejected(f"{path}: its slices have no groups")
        if dataset.sources is None and not entry.source:
            raise DataRejected(f"{path}: no source column: name the source in the recipe")
        sources = dataset.sources or (entry.source,) * len(dataset)
        weights = np.ones(len(dataset)) if dataset.weights is None else dataset.weights
        for file, label, group, source, weight in zip(
            dataset.paths, dataset.labels.tolist(), dataset.groups, sources, weights.tolist(), strict=True
        ):
            if (source in entry.leave_out) != left_out:
                continue
            for pattern, factor in entry.weights.items():
                if matches(file, pattern):
                    weight *= factor
            # A group name of one source says nothing in another one.
            rows.append((file.resolve(), dataset.classes[label], _qualified(group, source), source, f"{weight:g}"))
    write_text(table, to_csv(("path", "label", "group", "source", "weight"), sorted(rows)))
    return load(table, positive)


def write_lesions(table: Path, recipe: SourceRecipe, data: Path, dataset: Dataset) -> int:
    """Write the table of all slices with lesion masks: those of the recipe, and labelled slices without lesions.

    Args:
        table: The CSV to write, `path,lesion_mask,lung_mask,group`; paths are absolute.
        recipe: The recipe.
        data: The folder that the recipe's paths are relative to.
        dataset: The labelled slices.

    Returns:
        The number of slices in the table.
    """
    rows = []
    source = data / recipe.lesions
    if recipe.lesions:
        for row in read_table(source, MASK_COLUMNS):
            masks = [str((source.parent / row[name]).resolve()) if row[name] else "" for name in _MASKS]
            group = row["group"]
            rows.append((str((source.parent / row["path"]).resolve()), *masks, _known_group(group, dataset)))
    for file, group in zip(dataset.paths, dataset.groups or (), strict=True):
        if any(matches(file, pattern) for pattern in recipe.without_lesions):
            rows.append((str(file), "", "", group))
    write_text(table, to_csv(("path", *_MASKS, "group"), rows))
    return len(rows)


MASK_COLUMNS = "path,lesion_mask,lung_mask,group"
_MASKS = ("lesion_mask", "lung_mask")


def matches(path: Path, pattern: str) -> bool:
    """Tell whether the end of a path fits a pattern, folder by folder; `*` stands for any characters of a name."""
    wanted = pattern.split("/")
    return len(path.parts) >= len(wanted) and all(
        fnmatch.fnmatchcase(part, word) for part, word in zip(path.parts[-len(wanted) :], wanted, strict=True)
    )


def _qualified(group: str, source: str) -> str:
    return group if group.startswith(source) else f"{source}-{group}"


def _known_group(group: str, dataset: Dataset) -> str:
    """Return the name that a patient of the lesion masks has among the labelled slices."""
    names: Iterable[str] = set(dataset.groups or ())
    return next((name for name in sorted(names) if name == group or name.endswith(f"-{group}")), group)
