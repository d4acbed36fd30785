"""What is wrong with a dataset, before anything is trained on it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from edge_ct import headers, near_duplicates, slices
from edge_ct.dataset import load
from edge_ct.errors import InputRejected
from edge_ct.progress import QUIET, Progress

# Above this, something other than the picture tells the label better than chance would on a set of some hundred slices.
SHORTCUT_AUC = 0.6
# Bits of 256 that two copies of one slice differ in at most, after another window or compression.
SAME = 20


class Unreadable(msgspec.Struct, frozen=True):
    """A file that is not a slice, and why."""

    path: str
    reason: str


class Pair(msgspec.Struct, frozen=True):
    """Two slices alike. distance: Hamming, of 256 bits."""

    first: str
    second: str
    distance: int


class Audit(msgspec.Struct, frozen=True):
    """What `data check --json` prints.

    classes, formats, channels: counts. sides: smallest, median and largest side in pixels.
    duplicates: sets of files with the same pixels. near_duplicate_groups: groups of two and more, none of them exact.
    conflicts: the nearest of them, where their labels differ. shortcuts: cross-validated AUC of predicting the label
    from the container alone, from one property at a time and from all; 0.5 is chance, None where it does not vary.
    """

    n: int
    classes: dict[str, int]
    unreadable: list[Unreadable]
    formats: dict[str, int]
    channels: dict[str, int]
    sides: tuple[int, float, int]
    duplicates: list[list[str]]
    near_duplicate_pairs: int
    near_duplicate_groups: int
    slices_in_near_duplicate_groups: int
    conflicts: list[Pair]
    shortcuts: dict[str, float | None]
    warnings: list[str]


def check(data: Path, positive: str, progress: Progress = QUIET) -> Audit:
    """Read every slice of a folder or CSV. Raises `DataRejected` where there are not two classes."""
    dataset = load(data, positive)
    root = data if data.is_dir() else data.parent
    unreadable, names, labels, hashes, identities, properties = [], [], [], [], [], []
    with progress.bar("reading slices", len(dataset)) as on_done:
        for path, label in zip(dataset.paths, dataset.labels, strict=True):
            name = os.path.relpath(path, root)
            try:
                content = slices.read_bytes(path)
                one = slices.decode(content, name)
            except InputRejected as error:
                unreadable.append(Unreadable(name, str(error).removeprefix(f"{name}: ")))
            else:
                names.append(name)
                labels.append(int(label))
                hashes.append(near_duplicates.difference_hash(one.pixels))
                identities.append(one.sha256)
                properties.append(_container(content, one.pixels))
            on_done(1)
    truth = np.array(labels)
    stacked = np.stack(hashes) if hashes else np.empty((0, 32), np.uint8)
    pairs = near_duplicates.pairs(stacked)
    near = [pair for pair in pairs if identities[pair[0]] != identities[pair[1]]]
    groups = Counter(near_duplicates.groups(stacked, near_duplicates.ALIKE))
    sides = [side for row in properties for side in (row["width"], row["height"])]
    audit = Audit(
        n=len(names),
        classes={name: labels.count(index) for index, name in enumerate(dataset.classes)},
        unreadable=unreadable,
        formats=dict(Counter(str(row["format"]) for row in properties)),
        channels=dict(Counter(str(row["channels"]) for row in properties)),
        sides=(min(sides), float(np.median(sides)), max(sides)) if sides else (0, 0.0, 0),
        duplicates=_duplicates(names, identities),
        near_duplicate_pairs=len(near),
        near_duplicate_groups=sum(size > 1 for size in groups.values()),
        slices_in_near_duplicate_groups=sum(size for size in groups.values() if size > 1),
        conflicts=[
            Pair(names[i], names[j], distance)
            for i, j, distance in pairs
            if labels[i] != labels[j] and distance <= SAME
        ],
        shortcuts=_shortcuts(properties, truth),
        warnings=[],
    )
    return msgspec.structs.replace(audit, warnings=_warnings(audit))


def _container(content: bytes, pixels: np.ndarray) -> dict[str, int | str]:
    height, width = pixels.shape
    if content[128:132] == b"DICM":
        return {"format": "DICOM", "channels": 1, "width": width, "height": height}
    header = headers.parse(content)
    return {"format": header.format, "channels": header.channels, "width": width, "height": height}


def _duplicates(names: list[str], identities: list[str]) -> list[list[str]]:
    same = defaultdict(list)
    for name, identity in zip(names, identities, strict=True):
        same[identity].append(name)
    return [files for files in same.values() if len(files) > 1]


def _shortcuts(properties: list[dict[str, int | str]], labels: np.ndarray) -> dict[str, float | None]:
    formats = sorted({str(row["format"]) for row in properties})
    columns = {
        "format": [[formats.index(str(row["format"]))] for row in properties],
        "channels": [[row["channels"]] for row in properties],
        "size": [[row["width"], row["height"]] for row in properties],
        "aspect": [[int(row["width"]) / int(row["height"])] for row in properties],
    }
    columns["all"] = np.hstack([np.array(rows, float) for rows in columns.values()]).tolist()
    return {name: _predictability(np.array(rows, float), labels) for name, rows in columns.items()}


def _predictability(features: np.ndarray, labels: np.ndarray) -> float | None:
    """Cross-validated AUC of a small tree; None where the features are constant or a class is too small."""
    if len(labels) == 0 or (features == features[0]).all() or np.bincount(labels, minlength=2).min() < 5:
        return None
    tree = DecisionTreeClassifier(min_samples_leaf=5, max_leaf_nodes=32, random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(
        roc_auc_score(labels, cross_val_predict(tree, features, labels, cv=folds, method="predict_proba")[:, 1])
    )


def _warnings(audit: Audit) -> list[str]:
    found = []
    if audit.unreadable:
        found.append(f"{len(audit.unreadable)} files cannot be read")
    fewest, most = min(audit.classes.values()), max(audit.classes.values())
    if fewest * 3 < most:
        found.append(f"unbalanced: {fewest} slices of one class, {most} of the other")
    if audit.duplicates:
        found.append(f"{sum(map(len, audit.duplicates))} files in {len(audit.duplicates)} sets of equal pixels")
    if audit.near_duplicate_groups:
        found.append(
            f"{audit.slices_in_near_duplicate_groups} slices in {audit.near_duplicate_groups} near-duplicate groups: "
            "a random split would test on what it trained on; use --split grouped"
        )
    if audit.conflicts:
        found.append(f"{len(audit.conflicts)} pairs of near-duplicates have different labels")
    for name, auc in audit.shortcuts.items():
        if auc is not None and auc > SHORTCUT_AUC and name != "all":
            found.append(f"{name} alone predicts the label (AUC {auc:.2f}): a network may learn that instead")
    return found
