"""A folder or CSV of labelled slices as a `Dataset`, and its images.

DIR/COVID/*.png  DIR/non-COVID/*.png        one sub-folder for each class
path,label[,group][,source][,weight]        a CSV file; paths are relative to its folder
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import slices
from .errors import DataRejected, InputRejected
from .imaging.slice_files import list_slices
from .preprocess import Preprocess
from .system.csv_text import read_table

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled slices in a fixed order (by path).

    Attributes:
        name: Name of the folder, or of the folder that holds the CSV file.
        paths: n files.
        labels: int8 [n]; 1 is positive.
        classes: Name of the negative class, name of the positive class.
        groups: n group names (patient, series, near-duplicates), or None where no groups are known.
        sources: n names of the hospital or data set that each slice comes from, or None where they are not known.
        weights: float32 [n], how much each label can be trusted, relative to 1; None where all count alike.
    """

    name: str
    paths: tuple[Path, ...]
    labels: np.ndarray
    classes: tuple[str, str]
    groups: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Iterable[int]) -> Dataset:
        """Return the slices at `indices`, in that order."""
        chosen = list(indices)
        return replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            labels=self.labels[chosen],
            groups=tuple(self.groups[i] for i in chosen) if self.groups else None,
            sources=tuple(self.sources[i] for i in chosen) if self.sources else None,
            weights=None if self.weights is None else self.weights[chosen],
        )

    def two_class_sources(self) -> tuple[str, ...]:
        """Return the sources that have slices of both classes, by name: each can be left out to test on it."""
        pairs = set(zip(self.sources or (), self.labels.tolist(), strict=False))
        return tuple(sorted(source for source, label in pairs if label == 1 and (source, 0) in pairs))


@dataclass(frozen=True, eq=False)
class Images:
    """A dataset in memory.

    Attributes:
        images: uint8 [n, size, size, 1].
        sha256: n identities of the pixels.
        fingerprint: Identity of the whole set.
    """

    images: np.ndarray
    sha256: tuple[str, ...]
    fingerprint: str


def load(data: Path, positive: str = "COVID", one_class: bool = False) -> Dataset:
    """List a folder or CSV of labelled slices without opening an image.

    Args:
        data: The folder or CSV file.
        positive: Name of the positive class.
        one_class: Accept data with slices of one class only, such as an external set.

    Raises:
        DataRejected: if the data cannot be read or has not the classes that are needed.
    """
    try:
        is_folder, is_file = data.is_dir(), data.is_file()
    except OSError as error:
        raise DataRejected(f"{data}: cannot be read: {error.strerror}") from error
    if is_folder:
        dataset = _from_folder(data, positive)
    elif is_file:
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
    """Read and preprocess every slice, as the device does.

    Args:
        dataset: The slices.
        preprocess: How pixels become the input of a network.
        on_done: Called with 1 after each slice.
        workers: Number of threads.

    Raises:
        DataRejected: naming the first unreadable slice.
    """

    def load_slice(path: Path) -> tuple[np.ndarray, str] | InputRejected:
        try:
            slice_ = slices.read(path)
        except InputRejected as error:
            return error
        return preprocess(slice_.pixels), slice_.sha256

    images = np.empty((len(dataset), preprocess.size, preprocess.size, 1), np.uint8)
    hashes, failures = [], []
    with ThreadPoolExecutor(workers) as pool:
        for index, loaded in enumerate(pool.map(load_slice, dataset.paths)):
            if isinstance(loaded, InputRejected):
                failures.append(loaded)
            else:
                images[index], sha256 = loaded
                hashes.append(sha256)
            on_done(1)
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise DataRejected(f"{failures[0]}{more}; edge-ct data check lists unreadable files")
    return Images(images, tuple(hashes), fingerprint(hashes, dataset.labels))


def fingerprint(hashes: Sequence[str], labels: np.ndarray) -> str:
    """Compute SHA-256 over the sorted pixel identities and labels: it does not depend on order or file names."""
    lines = sorted(f"{sha256} {label}\n" for sha256, label in zip(hashes, labels.tolist(), strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _from_folder(folder: Path, positive: str) -> Dataset:
    files = {
        child.name: list_slices(child).with_unreadable
        for child in sorted(folder.iterdir())
        if child.is_dir() and child.name[0] != "."
    }
    files = {name: paths for name, paths in files.items() if paths}
    if len(files) != 2:
        listed = ", ".join(files) or "none"
        raise DataRejected(
            f"{folder}: two sub-folders with slices are needed, one for each class; sub-folders with slices: {listed}"
        )
    classes = _classes(files, positive, folder)
    paths = [path for name in classes for path in files[name]]
    labels = np.array([label for label, name in enumerate(classes) for _ in files[name]], np.int8)
    return Dataset(folder.resolve().name, tuple(paths), labels, classes)


def _from_csv(table: Path, positive: str) -> Dataset:
    rows = read_table(table, "path,label[,group][,source][,weight]")
    for number, row in enumerate(rows, 2):
        if not row["path"] or not row["label"]:
            raise DataRejected(f"{table}: row {number} has no path or no label")
    names = Counter(row["label"] for row in rows)
    if len(names) > 2:
        raise DataRejected(f"{table}: {len(names)} labels ({', '.join(sorted(names)[:4])}, ...); two are needed")
    classes = _classes(names, positive, table)
    rows.sort(key=lambda row: row["path"])
    return Dataset(
        table.parent.resolve().name,
        tuple(table.parent / row["path"] for row in rows),
        np.array([classes.index(row["label"]) for row in rows], np.int8),
        classes,
        _names(rows, "group", table),
        _names(rows, "source", table),
        _weights(rows, table),
    )


def _names(rows: Sequence[dict[str, str]], column: str, table: Path) -> tuple[str, ...] | None:
    """Return the names in an optional column; None where it is missing or empty."""
    names = tuple(row.get(column, "") for row in rows)
    if any(names) and not all(names):
        raise DataRejected(f"{table}: some rows have a {column} and some have none")
    return names if any(names) else None


def _weights(rows: Sequence[dict[str, str]], table: Path) -> np.ndarray | None:
    """Return the numbers in the optional column `weight`; None where it is missing or empty."""
    texts = _names(rows, "weight", table)
    if texts is None:
        return None
    weights = []
    for number, text in enumerate(texts, start=2):
        try:
            weights.append(float(text))
        except ValueError as error:
            raise DataRejected(f"{table}: row {number}: the weight {text[:40]!r} is not a number") from error
    if not all(0 < weight < math.inf for weight in weights):
        raise DataRejected(f"{table}: a weight is not above 0: leave the slice out instead")
    return np.array(weights, np.float32)


def _classes(names: Iterable[str], positive: str, where: Path) -> tuple[str, str]:
    names = sorted(names)
    if positive not in names:
        raise DataRejected(
            f"{where}: no class named {positive!r} (its classes: {', '.join(names)}); name it with --positive"
        )
    negative = next((name for name in names if name != positive), f"non-{positive}")
    return negative, positive
