"""A contact sheet of augmented slices, to check an augmentation policy by eye."""

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
from .augment import Augment, load_policy


class PreviewOptions(msgspec.Struct, frozen=True):
    """Options of a preview.

    Attributes:
        augment: Name of an augmentation policy, or a .json file.
        slices: Maximum number of slices, one per row.
        per_slice: Augmented versions of each slice.
        size: Side of a slice in pixels.
        positive: Name of the positive class.
        seed: Seed of the augmentation.
    """

    augment: str = "standard"
    slices: int = 6
    per_slice: int = 6
    size: int = 224
    positive: str = "COVID"
    seed: int = 0


class PreviewSheet(msgspec.Struct, frozen=True):
    """Output of `data preview --json`: the path of the sheet, the complete policy, and the slice in each row."""

    sheet: str
    policy: str
    augment: Augment
    slices: list[str]


def write_preview(
    data: Path, out: Path, options: PreviewOptions, force: bool = False, progress: Progress = QUIET
) -> PreviewSheet:
    """Draw slices as they are and as they are augmented in the first epochs of a training, one column per epoch.

    Augmentation is drawn from seed, epoch and the index of the slice; here the index counts the slices of the data
    set, in a training those of its training split.

    Args:
        data: Folder or CSV of slices.
        out: PNG file to write.
        options: Options of the preview.
        force: True to replace what is at `out`.
        progress: Where to report progress.

    Raises:
        DataRejected: The data cannot be used.
        EdgeCTError: Unknown policy, too large a sheet, or `out` cannot be written.
    """
    contact_sheet.check_path(out, force)
    augment = load_policy(options.augment)
    dataset = load(data, options.positive)
    chosen = choose_slices(dataset.labels, options.slices, options.seed)
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
        [
            f"{options.augment}, {options.size} px, seed {options.seed}; {dataset.name}. Research use only.",
            f"Ranges: {_changes(augment)}.",
        ],
        out,
    )
    return PreviewSheet(str(out), options.augment, augment, names)


def choose_slices(labels: np.ndarray, count: int, seed: int) -> list[int]:
    """Choose `count` slices, alternating between the classes, positive first; fewer if a class has too few."""
    generator = np.random.default_rng(seed)
    chosen: list[tuple[int, int]] = []
    for label, wanted in ((1, -(-count // 2)), (0, count // 2)):
        candidates = np.flatnonzero(labels == label)
        drawn = np.sort(generator.choice(candidates, min(wanted, len(candidates)), replace=False)).tolist()
        chosen += [(2 * row - label, index) for row, index in enumerate(drawn)]
    return [index for _, index in sorted(chosen)]


def _names(dataset: Dataset, data: Path) -> list[str]:
    root = data if data.is_dir() else data.parent
    return [os.path.relpath(path, root) for path in dataset.paths]


def _changes(augment: Augment) -> str:
    values, defaults = msgspec.to_builtins(augment), msgspec.to_builtins(Augment())
    return ", ".join(f"{field}={value:g}" for field, value in values.items() if value != defaults[field]) or "none"
