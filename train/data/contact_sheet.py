"""Contact sheets of groups and pairs of slices, for a person to check."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_ct import slices
from edge_ct.dataset import Dataset
from edge_ct.errors import EdgeCTError
from edge_ct.reporting.counts import count_of
from edge_ct.system.files import refuse_existing

from ..plots.picture_sheet import draw_picture_sheet
from .similarity import Link

_COLUMNS, _ROWS, _SIDE = 10, 20, 128
_PAIR_SIDE = 224
_GREY, _WHITE = 128, 255
_NOTE = "Research use only."


def check_path(path: Path, force: bool) -> None:
    """Raise `EdgeCTError` if a sheet cannot be written: the name is not that of a PNG, or the file exists."""
    if path.suffix.lower() != ".png":
        raise EdgeCTError(f"{path}: a contact sheet is a PNG; choose a name that ends in .png")
    refuse_existing(path, force)


def draw_groups(dataset: Dataset, groups: Sequence[str], links: Sequence[Link], path: Path) -> None:
    """Draw the largest groups, one per row, and then links, five pairs per row.

    Args:
        dataset: The slices.
        groups: Group of each slice.
        links: Links to draw.
        path: PNG file to write.
    """
    members = defaultdict(list)
    for index, name in enumerate(groups):
        members[name].append(index)
    largest = sorted(members, key=lambda name: (-len(members[name]), name))[:_ROWS]
    rows, captions = [], []
    for name in largest:
        indices = members[name]
        shown = sorted({round(position) for position in np.linspace(0, len(indices) - 1, min(_COLUMNS, len(indices)))})
        counts = Counter(dataset.classes[dataset.labels[index]] for index in indices)
        rows.append([indices[position] for position in shown])
        captions.append(
            f"{name}: {count_of(len(indices), 'slice')} ({', '.join(f'{n} {label}' for label, n in counts.items())})"
        )
    for start in range(0, len(links), _COLUMNS // 2):
        part = links[start : start + _COLUMNS // 2]
        rows.append([index for link in part for index in (link.first, link.second)])
        names = (
            f"{dataset.paths[link.first].stem}, {dataset.paths[link.second].stem} {link.similarity:.2f}"
            for link in part
        )
        captions.append(f"weak: {'; '.join(names)}")
    tiles = np.full((len(rows), _COLUMNS, _SIDE, _SIDE), _WHITE, np.uint8)
    for row, indices in enumerate(rows):
        for column, index in enumerate(indices):
            tiles[row, column] = fit_to_square(slices.read(dataset.paths[index]).pixels, _SIDE)
    title = (
        f"{dataset.name}: the largest of {count_of(len(members), 'group')} of "
        f"{count_of(len(dataset), 'slice')}, and the weakest links "
        f"(similarity of gradients). {_NOTE}"
    )
    draw_picture_sheet(tiles, [""] * _COLUMNS, captions, [title], path)


def draw_pairs(pairs: Sequence[tuple[Path, Path]], captions: Sequence[str], title: str, path: Path) -> None:
    """Draw one pair per row: the two slices, and their difference (dark where they differ)."""
    tiles = np.empty((len(pairs), 3, _PAIR_SIDE, _PAIR_SIDE), np.uint8)
    for row, pair in enumerate(pairs):
        first, second = (fit_to_square(slices.read(file).pixels, _PAIR_SIDE) for file in pair)
        tiles[row] = first, second, 255 - cv2.absdiff(first, second)
    draw_picture_sheet(tiles, ["first", "second", "difference"], captions, [f"{title} {_NOTE}"], path)


def fit_to_square(pixels: np.ndarray, side: int) -> np.ndarray:
    """Scale a slice, uint8 [h, w], to fit the centre of a grey square, uint8 [side, side]."""
    height, width = pixels.shape
    scale = side / max(height, width)
    small = max(1, round(width * scale)), max(1, round(height * scale))
    resized = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (side - small[1]) // 2, (side - small[0]) // 2
    box = np.full((side, side), _GREY, np.uint8)
    box[top : top + small[1], left : left + small[0]] = resized
    return box
