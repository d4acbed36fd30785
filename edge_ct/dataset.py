"""A folder or CSV -> `Dataset`, its images, and its splits. Groups never straddle a split.

DIR/COVID/*.png  DIR/non-COVID/*.png        a sub-folder a class
path,label[,group]                          a CSV; paths relative to it
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from . import slices
from .errors import DataRejected, InputRejected
from .preprocess import Preprocess

SplitKind = Literal["random", "grouped"]
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled slices in a fixed order (by path).

    paths: n files. labels: int8 [n], 1 is positive. classes: (negative name, positive name).
    groups: n group names (patient, series, near-duplicates), or None where nothing is known.
    """

    name: str
    paths: tuple[Path, ...]
    labels: np.ndarray
    classes: tuple[str, str]
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Iterable[int]) -> Dataset:
        """The slices at `indices`, in that order."""
        chosen = list(indices)
        return replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            labels=self.labels[chosen],
            groups=tuple(self.groups[i] for i in chosen) if self.groups else None,
        )


@dataclass(frozen=True, eq=False)
class Images:
    """A dataset in memory. images: uint8 [n, size, size, 1]; sha256: n pixel identities; fingerprint: of them all."""

    images: np.ndarray
    sha256: tuple[str, ...]
    fingerprint: str


def load(data: Path, positive: str = "COVID", one_class: bool = False) -> Dataset:
    """List a folder or CSV of labelled slices. Raises `DataRejected`; no image is opened.

    one_class: accept data with slices of one class only (an external set, say).
    """
    try:
        kind = data.is_dir(), data.is_file()
    except OSError as error:
        raise DataRejected(f"{data}: cannot be read: {error.strerror}") from error
    if kind[0]:
        dataset = _from_folder(data, positive)
    elif kind[1]:
        dataset = _from_csv(data, positive)
    else:
        raise DataRejected(f"{data}: no such folder or CSV file")
    if not one_class:
        counts = Counter(dataset.labels.tolist())
        for label, name in enumerate(dataset.classes):
            if not counts[label]:
                raise DataRejected(f"{data}: no slice of class {name!r}; two classes are needed")
    return dataset


def load_images(
    dataset: Dataset, preprocess: Preprocess, on_done: Callable[[int], None] = lambda count: None, workers: int = 2
) -> Images:
    """Read and preprocess every slice, as the device does. Raises `DataRejected` naming the first unreadable ones.

    on_done is called with 1 after each slice.
    """

    def one(path: Path) -> tuple[np.ndarray, str] | InputRejected:
        try:
            slice_ = slices.read(path)
        except InputRejected as error:
            return error
        return preprocess(slice_.pixels), slice_.sha256

    images = np.empty((len(dataset), preprocess.size, preprocess.size, 1), np.uint8)
    hashes, failures = [], []
    with ThreadPoolExecutor(workers) as pool:
        for index, found in enumerate(pool.map(one, dataset.paths)):
            if isinstance(found, InputRejected):
                failures.append(found)
            else:
                images[index], sha256 = found
                hashes.append(sha256)
            on_done(1)
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise DataRejected(f"{failures[0]}{more}; edge-ct data check lists unreadable files")
    return Images(images, tuple(hashes), fingerprint(hashes, dataset.labels))


def fingerprint(hashes: Sequence[str], labels: np.ndarray) -> str:
    """SHA-256 over the sorted pixel identities and labels: the same set in any order or folder has the same one."""
    lines = sorted(f"{sha256} {label}\n" for sha256, label in zip(hashes, labels.tolist(), strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def split(dataset: Dataset, kind: SplitKind, seed: int, validation: float = 0.15, test: float = 0.2) -> tuple[str, ...]:
    """Assign each slice to train, validation or test, stratified by label; by whole groups where kind is `grouped`.

    validation, test: shares of the slices. Raises `DataRejected` where a part would lack a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold, train_test_split

    if kind == "grouped" and dataset.groups is None:
        raise DataRejected(f"{dataset.name}: a grouped split needs groups: a CSV with a group column")
    parts = np.full(len(dataset), "train", dtype=object)
    everything = np.arange(len(dataset))
    try:
        if kind == "random":
            rest, tested = train_test_split(everything, test_size=test, stratify=dataset.labels, random_state=seed)
            _, validated = train_test_split(
                rest, test_size=validation / (1 - test), stratify=dataset.labels[rest], random_state=seed
            )
        else:
            # Whole groups, dealt into twentieths; the first ones are the test part, the next the validation part.
            groups = np.asarray(dataset.groups)
            per_class = min(len(set(groups[dataset.labels == label])) for label in (0, 1))
            if per_class < len(PARTS):
                raise DataRejected(f"{dataset.name}: {per_class} groups of one class; three parts need three")
            folds = min(20, per_class)
            splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            dealt = [fold for _, fold in splitter.split(everything, dataset.labels, groups)]
            first = max(1, round(test * folds))
            second = first + max(1, round(validation * folds))
            tested, validated = np.concatenate(dealt[:first]), np.concatenate(dealt[first:second] or [[]]).astype(int)
    except ValueError as error:
        raise DataRejected(f"{dataset.name}: too few slices to split: {error}") from error
    parts[tested], parts[validated] = "test", "validation"
    check_split(dataset, parts.tolist(), whole_groups=kind == "grouped")
    return tuple(parts.tolist())


def folds(
    dataset: Dataset, kind: SplitKind, count: int, seed: int, validation: float = 0.15
) -> tuple[tuple[str, ...], ...]:
    """Cross-validation: `count` splits, each slice in the test part of exactly one; stratified by label.

    Each is as `split` gives it. validation: share of all slices, drawn from those outside the fold, by whole groups
    where kind is `grouped`. Raises `DataRejected` where a part would lack a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

    if kind == "grouped" and dataset.groups is None:
        raise DataRejected(f"{dataset.name}: grouped folds need groups: a CSV with a group column")
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
    found = []
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
            found.append(tuple(parts.tolist()))
    except ValueError as error:
        raise DataRejected(f"{dataset.name}: too few slices for {count} folds: {error}") from error
    return tuple(found)


def _some_groups(labels: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Indices of whole groups that hold about `share` of the slices, stratified by label."""
    from sklearn.model_selection import StratifiedGroupKFold

    per_class = min(len(set(groups[labels == label].tolist())) for label in (0, 1))
    if per_class < 2:
        raise DataRejected(f"{per_class} groups of one class outside a fold; training and validation need two")
    deals = min(20, per_class)
    splitter = StratifiedGroupKFold(deals, shuffle=True, random_state=seed)
    dealt = [own for _, own in splitter.split(groups, labels, groups)]
    return np.concatenate(dealt[: min(deals - 1, max(1, round(share * deals)))])


def check_split(dataset: Dataset, parts: Sequence[str], whole_groups: bool, where: str = "") -> None:
    """Raise `DataRejected` where a part lacks a class or, with `whole_groups`, a group is in two parts.

    where: said after the part's name.
    """
    for part in PARTS:
        present = {int(label) for label, own in zip(dataset.labels, parts, strict=True) if own == part}
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


def _from_folder(folder: Path, positive: str) -> Dataset:
    found = {child.name: slices.find(child) for child in sorted(folder.iterdir()) if child.is_dir()}
    found = {name: paths for name, paths in found.items() if paths}
    if len(found) != 2:
        listed = ", ".join(found) or "none"
        raise DataRejected(f"{folder}: two sub-folders with slices are needed, one a class; found: {listed}")
    classes = _classes(found, positive, folder)
    paths = [path for name in classes for path in found[name]]
    labels = np.array([label for label, name in enumerate(classes) for _ in found[name]], np.int8)
    return Dataset(folder.resolve().name, tuple(paths), labels, classes)


def _from_csv(table: Path, positive: str) -> Dataset:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataRejected(f"{table}: cannot be read as CSV: {error}") from error
    if not rows or not {"path", "label"} <= set(rows[0]):
        raise DataRejected(f"{table}: a CSV with the columns path,label[,group] and at least one row is needed")
    for number, row in enumerate(rows, 2):
        if not row["path"] or not row["label"]:
            raise DataRejected(f"{table}: row {number} has no path or no label")
    names = Counter(row["label"] for row in rows)
    if len(names) > 2:
        raise DataRejected(f"{table}: {len(names)} labels ({', '.join(sorted(names)[:4])}, ...); two are needed")
    classes = _classes(names, positive, table)
    rows.sort(key=lambda row: row["path"])
    groups = [row.get("group", "") for row in rows]
    if any(groups) and not all(groups):
        raise DataRejected(f"{table}: some rows have a group and some have none")
    return Dataset(
        table.parent.resolve().name,
        tuple(table.parent / row["path"] for row in rows),
        np.array([classes.index(row["label"]) for row in rows], np.int8),
        classes,
        tuple(groups) if any(groups) else None,
    )


def _classes(names: Iterable[str], positive: str, where: Path) -> tuple[str, str]:
    names = sorted(names)
    if positive not in names:
        raise DataRejected(f"{where}: no class named {positive!r} (found: {', '.join(names)}); name it with --positive")
    negative = next((name for name in names if name != positive), f"non-{positive}")
    return negative, positive
