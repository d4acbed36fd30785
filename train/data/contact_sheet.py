"""Slices beside each other, for a person to judge what the figures say: groups, and pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_ct import slices
from edge_ct.dataset import Dataset
from edge_ct.errors import EdgeCTError
from edge_ct.system.files import refuse_existing

from ..plots.picture_sheet import draw_picture_sheet
from .similarity import Link

_COLUMNS, _ROWS, _SIDE = 10, 20, 128
_PAIR_SIDE = 224
_GREY, _WHITE = 128, 255
_NOTE = "Research use only."


def check_path(path: Path, force: bool) -> None:
    """Raise `EdgeCTError` where no sheet can be written: another format than PNG, or something is there already."""
    if path.suffix.lower() != ".png":
        raise EdgeCTError(f"{path}: a contact sheet is a PNG; give it a name that ends in .png")
    refuse_existing(path, force)


def draw_groups(dataset: Dataset, groups: Sequence[str], links: Sequence[Link], path: Path) -> None:
    """A PNG of the largest groups, a row each, and of links, five pairs a row. groups: one name a slice."""
    members = defaultdict(list)
    for index, name in enumerate(groups):
        members[name].append(index)
    largest = sorted(members, key=lambda name: (-len(members[name]), name))[:_ROWS]
    rows, captions = [], []
    for name in largest:
        own = members[name]
        shown = sorted({round(at) for at in np.linspace(0, len(own) - 1, min(_COLUMNS, len(own)))})
        counts = Counter(dataset.classes[dataset.labels[index]] for index in own)
        rows.append([own[at] for at in shown])
        captions.append(f"{name}: {len(own)} slices ({', '.join(f'{n} {label}' for label, n in counts.items())})")
    for start in range(0, len(links), _COLUMNS // 2):
        part = links[start : start + _COLUMNS // 2]
        rows.append([index for link in part for index in (link.first, link.second)])
        captions.append("weak: " + "; ".join(
            f"{dataset.paths[link.first].stem}, {dataset.paths[link.second].stem} {link.similarity:.2f}"
            for link in part))  # fmt: skip
    tiles = np.full((len(rows), _COLUMNS, _SIDE, _SIDE), _WHITE, np.uint8)
    for row, indices in enumerate(rows):
        for column, index in enumerate(indices):
            tiles[row, column] = boxed(slices.read(dataset.paths[index]).pixels, _SIDE)
    title = [f"{dataset.name}: the largest of {len(members)} groups of {len(dataset)} slices, and the weakest links "
             f"(similarity of gradients). {_NOTE}"]  # fmt: skip
    draw_picture_sheet(tiles, [""] * _COLUMNS, captions, title, path)


def draw_pairs(pairs: Sequence[tuple[Path, Path]], captions: Sequence[str], title: str, path: Path) -> None:
    """A PNG of pairs, a row each: the two slices, and where they differ, dark."""
    tiles = np.empty((len(pairs), 3, _PAIR_SIDE, _PAIR_SIDE), np.uint8)
    for row, pair in enumerate(pairs):
        first, second = (boxed(slices.read(one).pixels, _PAIR_SIDE) for one in pair)
        tiles[row] = first, second, 255 - cv2.absdiff(first, second)
    draw_picture_sheet(tiles, ["first", "second", "difference"], captions, [f"{title} {_NOTE}"], path)


def boxed(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 [h, w] -> uint8 [side, side]: as large as fits, in the middle of grey."""
    height, width = pixels.shape
    scale = side / max(height, width)
    small = max(1, round(width * scale)), max(1, round(height * scale))
    resized = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (side - small[1]) // 2, (side - small[0]) // 2
    box = np.full((side, side), _GREY, np.uint8)
    box[top : top + small[1], left : left + small[0]] = resized
    return box
