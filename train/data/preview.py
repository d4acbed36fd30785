"""A contact sheet: what training makes of some slices. Looked at, it tells a policy that goes too far."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.dataset import Dataset, load, load_images
from edge_ct.preprocess import Preprocess
from edge_ct.system.progress import QUIET, Progress

from ..plots.picture_sheet import check_sheet_size, draw_picture_sheet
from . import contact_sheet
from .augment import Augment, policy


class Options(msgspec.Struct, frozen=True):
    """What to show. augment: a policy's name or JSON file. slices: rows, at most. per_slice: versions of each."""

    augment: str = "standard"
    slices: int = 6
    per_slice: int = 6
    size: int = 224
    positive: str = "COVID"
    seed: int = 0


class Sheet(msgspec.Struct, frozen=True):
    """What `data preview --json` prints: where the sheet is, the policy in full, and the slices by row."""

    sheet: str
    policy: str
    augment: Augment
    slices: list[str]


def write(data: Path, out: Path, options: Options, force: bool = False, progress: Progress = QUIET) -> Sheet:
    """Draw a PNG of slices of a folder or CSV, each as it is and as a training draws it in its first epochs.

    A column is an epoch; a slice's number, from which its changes are drawn beside seed and epoch, is its place in the
    dataset (in a training, its place in the training part). Raises `DataRejected` for data that cannot be used,
    `EdgeCTError` for an unknown policy, a sheet too large, and where `out` cannot be written.
    """
    contact_sheet.check_path(out, force)
    augment = policy(options.augment)
    dataset = load(data, options.positive)
    chosen = choose(dataset.labels, options.slices, options.seed)
    check_sheet_size(len(chosen), options.per_slice + 1, options.size)
    shown = dataset.take(chosen)
    with progress.bar("reading slices", len(shown)) as on_done:
        images = load_images(shown, Preprocess(options.size), on_done).images
    epochs = range(options.per_slice)
    rows = [
        [image, *(augment(image, np.random.default_rng((options.seed, epoch, index))) for epoch in epochs)]
        for index, image in zip(chosen, images, strict=True)
    ]
    names = _names(shown, data)
    draw_picture_sheet(
        np.array(rows)[..., 0],
        ["original", *(f"epoch {epoch}" for epoch in epochs)],
        [f"{dataset.classes[label]}: {name}" for label, name in zip(shown.labels, names, strict=True)],
        [f"{options.augment}, {options.size} px, seed {options.seed}; {dataset.name}. Research use only.",
         f"Ranges: {_changes(augment)}."],
        out,
    )  # fmt: skip
    return Sheet(str(out), options.augment, augment, names)


def choose(labels: np.ndarray, count: int, seed: int) -> list[int]:
    """Indices of `count` slices, the classes in turn, positive first; fewer where a class has not enough."""
    generator = np.random.default_rng(seed)
    found: list[tuple[int, int]] = []
    for label, wanted in ((1, -(-count // 2)), (0, count // 2)):
        own = np.flatnonzero(labels == label)
        drawn = np.sort(generator.choice(own, min(wanted, len(own)), replace=False)).tolist()
        found += [(2 * row - label, index) for row, index in enumerate(drawn)]
    return [index for _, index in sorted(found)]


def _names(dataset: Dataset, data: Path) -> list[str]:
    root = data if data.is_dir() else data.parent
    return [os.path.relpath(path, root) for path in dataset.paths]


def _changes(augment: Augment) -> str:
    own, off = msgspec.to_builtins(augment), msgspec.to_builtins(Augment())
    return ", ".join(f"{field}={value:g}" for field, value in own.items() if value != off[field]) or "none"
