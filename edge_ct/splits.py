"""Splits of a dataset into training, validation and test parts. Groups never straddle a grouped split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .dataset import PARTS, Dataset
from .errors import DataRejected
from .reporting.counts import count_of

SplitKind = Literal["random", "grouped", "source", "none"]
_EACH_PART = "each part needs slices, or groups, of both classes"


def split(
    dataset: Dataset,
    kind: SplitKind,
    seed: int,
    validation: float = 0.15,
    test: float = 0.2,
    test_source: str | None = None,
) -> tuple[str, ...]:
    """Assign each slice to train, validation or test.

    Args:
        dataset: The slices.
        kind: `random` draws slices, stratified by label; `grouped` draws whole groups, stratified by label; `source`
            tests on all slices of one source and draws the validation part from the others, by whole groups where
            groups are known; `none` trains on every slice.
        seed: Seed of the draw.
        validation: Share of the slices in the validation part.
        test: Share of the slices in the test part; a source split does not use it.
        test_source: The source that a source split tests on.

    Returns:
        For each slice the name of its part.

    Raises:
        DataRejected: where a part would lack a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold, train_test_split

    _check_columns(dataset, kind)
    if kind == "none":
        return ("train",) * len(dataset)
    if kind == "source":
        return _without_source(dataset, test_source or "", seed, validation)
    parts = np.full(len(dataset), "train", dtype=object)
    everything = np.arange(len(dataset))
    try:
        if kind == "random":
            rest, tested = train_test_split(everything, test_size=test, stratify=dataset.labels, random_state=seed)
            _, validated = train_test_split(
                rest, test_size=validation / (1 - test), stratify=dataset.labels[rest], random_state=seed
            )
        else:
            # Whole groups are dealt into twentieths; the first ones are the test part, the next the validation part.
            groups = np.asarray(dataset.groups)
            per_class = min(len(set(groups[dataset.labels == label])) for label in (0, 1))
            if per_class < len(PARTS):
                raise DataRejected(
                    f"{dataset.name}: {count_of(per_class, 'group')} of one class; three parts need three"
                )
            count = min(20, per_class)
            splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
            dealt = [fold for _, fold in splitter.split(everything, dataset.labels, groups)]
            first = max(1, round(test * count))
            second = first + max(1, round(validation * count))
            tested, validated = np.concatenate(dealt[:first]), np.concatenate(dealt[first:second] or [[]]).astype(int)
    except ValueError as error:
        raise DataRejected(f"{dataset.name}: too few slices to split: {_EACH_PART}") from error
    parts[tested], parts[validated] = "test", "validation"
    check_split(dataset, parts.tolist(), whole_groups=kind == "grouped")
    return tuple(parts.tolist())


def folds(
    dataset: Dataset, kind: SplitKind, count: int, seed: int, validation: float = 0.15
) -> tuple[tuple[str, ...], ...]:
    """Make the splits of a cross-validation: each slice is in the test part of exactly one of them.

    Args:
        dataset: The slices.
        kind: As for `split`. With `source`, each source of both classes is the test part of one fold, in the order of
            their names; slices of the other sources are tested in none.
        count: Number of folds; with `source`, the number of sources of both classes.
        seed: Seed of the draw.
        validation: Share of all slices, drawn from those outside the fold.

    Raises:
        DataRejected: where a part would lack a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

    _check_columns(dataset, kind)
    if kind == "source":
        sources = dataset.two_class_sources()
        if count != len(sources):
            raise DataRejected(
                f"{dataset.name}: {count_of(len(sources), 'source')} with both classes "
                f"({', '.join(sources) or 'none'}); "
                f"a source split has one fold for each of them, not {count}"
            )
        return tuple(_without_source(dataset, source, seed, validation) for source in sources)
    grouped = kind == "grouped"
    groups = np.asarray(dataset.groups) if grouped else np.arange(len(dataset))
    share = validation * count / (count - 1)  # of what is left outside a fold
    if share >= 1:
        raise DataRejected(f"{count} folds and a validation share of {validation:g} leave nothing to train on")
    for label, name in enumerate(dataset.classes):
        units = len(set(groups[dataset.labels == label].tolist()))
        if units < max(count, len(PARTS)):
            what = "groups with slices" if grouped else "slices"
            raise DataRejected(
                f"{dataset.name}: {units} {what} of class {name!r}; {count} folds need {max(count, len(PARTS))}"
            )
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(count, shuffle=True, random_state=seed)
    splits = []
    try:
        dealt = splitter.split(groups, dataset.labels, groups if grouped else None)
        for number, (rest, tested) in enumerate(dealt, 1):
            labels = dataset.labels[rest]
            if grouped:
                validated = rest[_some_groups(labels, groups[rest], share, seed)]
            else:
                _, validated = train_test_split(rest, test_size=share, stratify=labels, random_state=seed)
            parts = np.full(len(dataset), "train", dtype=object)
            parts[tested], parts[validated] = "test", "validation"
            check_split(dataset, parts.tolist(), grouped, f", fold {number} of {count}")
            splits.append(tuple(parts.tolist()))
    except ValueError as error:
        raise DataRejected(f"{dataset.name}: too few slices for {count} folds: {_EACH_PART}") from error
    return tuple(splits)


def _check_columns(dataset: Dataset, kind: SplitKind) -> None:
    for name, column in (("grouped", dataset.groups), ("source", dataset.sources)):
        if kind == name and column is None:
            wanted = "groups" if name == "grouped" else "sources"
            raise DataRejected(f"{dataset.name}: a {name} split needs {wanted}: give a CSV with a {wanted[:-1]} column")


def _without_source(dataset: Dataset, source: str, seed: int, validation: float) -> tuple[str, ...]:
    """Test on one source; validate on a share of all slices, drawn from the other sources."""
    from sklearn.model_selection import train_test_split

    sources = np.asarray(dataset.sources)
    rest = np.flatnonzero(sources != source)
    if len(rest) == len(dataset):
        raise DataRejected(
            f"{dataset.name}: no slice of source {source!r}; its sources are {', '.join(sorted(set(sources.tolist())))}"
        )
    share = validation * len(dataset) / max(len(rest), 1)
    if share >= 1:
        raise DataRejected(
            f"{dataset.name}: without {source!r}, a validation share of {validation:g} leaves nothing to train on"
        )
    labels = dataset.labels[rest]
    try:
        if dataset.groups is None:
            _, validated = train_test_split(rest, test_size=share, stratify=labels, random_state=seed)
        else:
            validated = rest[_some_groups(labels, np.asarray(dataset.groups)[rest], share, seed)]
    except ValueError as error:
        raise DataRejected(f"{dataset.name}: too few slices without source {source!r}: {_EACH_PART}") from error
    parts = np.full(len(dataset), "test", dtype=object)
    parts[rest], parts[validated] = "train", "validation"
    check_split(dataset, parts.tolist(), dataset.groups is not None, f", without source {source!r}")
    return tuple(parts.tolist())


def _some_groups(labels: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return the indices of whole groups that hold about `share` of the slices, stratified by label."""
    from sklearn.model_selection import StratifiedGroupKFold

    per_class = min(len(set(groups[labels == label].tolist())) for label in (0, 1))
    if per_class < 2:
        raise DataRejected(
            f"{count_of(per_class, 'group')} of one class outside a fold; training and validation need two"
        )
    count = min(20, per_class)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    dealt = [fold for _, fold in splitter.split(groups, labels, groups)]
    return np.concatenate(dealt[: min(count - 1, max(1, round(share * count)))])


def check_split(dataset: Dataset, parts: Sequence[str], whole_groups: bool, where: str = "") -> None:
    """Check that every part of a split has both classes and that groups are whole.

    Args:
        dataset: The slices.
        parts: For each slice the name of its part.
        whole_groups: Whether a group must not be in two parts.
        where: Added to the message after the name of the part.

    Raises:
        DataRejected: where a part lacks a class or, with `whole_groups`, a group is in two parts.
    """
    for part in PARTS:
        present = {int(label) for label, name in zip(dataset.labels, parts, strict=True) if name == part}
        for label, name in enumerate(dataset.classes):
            if label not in present:
                raise DataRejected(
                    f"{dataset.name}: no slice of class {name!r} in the {part} split{where}; more data is needed"
                )
    if whole_groups and dataset.groups is not None:
        home: dict[str, str] = {}
        for group, part in zip(dataset.groups, parts, strict=True):
            if home.setdefault(group, part) != part:
                raise DataRejected(f"{dataset.name}: group {group!r} is in two splits, {home[group]} and {part}")
