"""The training wing's pictures, through matplotlib; readable in greyscale print."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.metrics import Scores
from edge_ct.system.files import replace_atomically, write_bytes

# A contact sheet, in pixels. Smaller tiles are enlarged, so that their captions have room.
_TILE, _GAP, _MARGIN, _LINE, _LETTER = 112, 6, 12, 18, 7.3
_SHEET_PIXELS = 40_000_000


def learning_curves(history: list[dict[str, str]], path: Path) -> None:
    """history: the rows of history.csv."""
    epochs = [float(row["epoch"]) for row in history]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for column, style, label in ((name, "-", "training (augmented)"), (f"val_{name}", "--", "validation")):
            axis.plot(epochs, [float(row[column]) for row in history], style, color="black", label=label)
        axis.set(xlabel="epoch", ylabel=name)
        axis.grid(alpha=0.3)
    best = min(history, key=lambda row: float(row["val_loss"]))
    axes[0].axvline(float(best["epoch"]), color="0.6", linewidth=1, label="kept")
    axes[0].legend(frameon=False)
    _save(figure, path)


def confusion_matrix(scores: Scores, classes: tuple[str, str], path: Path) -> None:
    """Counts on the test split at probability 0.5."""
    counts = scores.confusion
    cells = [[counts.tn, counts.fp], [counts.fn, counts.tp]]
    figure, axis = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
    axis.imshow(cells, cmap="Greys", vmin=0, vmax=max(1, 2 * max(map(max, cells))))
    for row in (0, 1):
        for column in (0, 1):
            axis.text(column, row, str(cells[row][column]), ha="center", va="center", fontsize=16)
    axis.set_xticks((0, 1), classes)
    axis.set_yticks((0, 1), classes)
    axis.set(xlabel="called", ylabel="true", title=f"test split, n = {scores.n}, at probability 0.5")
    _save(figure, path)


def boxes(values: dict[str, dict[str, list[float]]], title: str, path: Path) -> None:
    """values: metric -> network -> one value a run. A panel a metric: median, quartiles, whiskers, and every run."""
    networks = list(next(iter(values.values())))
    height = 0.34 * len(networks) + 1.3
    figure, axes = plt.subplots(1, len(values), figsize=(2.6 * len(values), height), sharey=True, layout="constrained")
    for axis, (metric, runs) in zip(np.atleast_1d(axes), values.items(), strict=True):
        places = [place for place, name in enumerate(networks) if runs[name]]
        drawn = [runs[networks[place]] for place in places]
        if drawn:
            axis.boxplot(drawn, positions=places, orientation="horizontal", widths=0.6, showfliers=False,
                         medianprops={"color": "black"}, boxprops={"color": "0.45"}, whiskerprops={"color": "0.45"},
                         capprops={"color": "0.45"}, manage_ticks=False)  # fmt: skip
        for place, own in zip(places, drawn, strict=True):
            axis.plot(own, [place] * len(own), "o", color="black", alpha=0.35, markersize=3, markeredgewidth=0)
        axis.set(title=metric, yticks=range(len(networks)), yticklabels=networks)
        axis.grid(alpha=0.3, axis="x")
    np.atleast_1d(axes)[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def check_sheet(rows: int, columns: int, side: int) -> None:
    """Raise `EdgeCTError` where a contact sheet of that many tiles would be too large to be drawn and looked at."""
    width, height = _sheet_size(rows, columns, side)
    if width * height > _SHEET_PIXELS or max(width, height) > 30_000:
        raise EdgeCTError(
            f"a sheet of {rows} x {columns} pictures of {side} px would have {width} x {height} px; "
            "ask for fewer, or for a smaller size"
        )


def contact_sheet(
    tiles: np.ndarray, headings: Sequence[str], captions: Sequence[str], title: Sequence[str], path: Path
) -> None:
    """Write a greyscale PNG of pictures in rows, every pixel of theirs as it is.

    tiles: uint8 [rows, columns, s, s]. headings: one a column. captions: one a row. title: lines, wrapped to the width.
    """
    rows, columns, side = tiles.shape[:3]
    zoom = _zoom(side)
    step = side * zoom + _GAP
    width, height = _sheet_size(rows, columns, side)
    lines = [part for line in title for part in textwrap.wrap(_printable(line), int((width - 2 * _MARGIN) / _LETTER))]
    top = _MARGIN + (len(lines) + 1) * _LINE
    texts = [(_MARGIN, _MARGIN + row * _LINE, line) for row, line in enumerate(lines)]
    texts += [(_MARGIN + column * step, top - _LINE, heading) for column, heading in enumerate(headings)]
    room = int((columns * step - _GAP) / _LETTER)
    for row, caption in enumerate(map(_printable, captions)):
        shown = caption if len(caption) <= room else f"…{caption[1 - room :]}"
        texts.append((_MARGIN, top + row * (step + _LINE), shown))
    page = _page(width, height + len(lines) * _LINE, texts)
    for row in range(rows):
        for column in range(columns):
            y, x = top + row * (step + _LINE) + _LINE, _MARGIN + column * step
            tile = tiles[row, column].repeat(zoom, 0).repeat(zoom, 1)
            page[y : y + len(tile), x : x + len(tile)] = tile
    encoded, content = cv2.imencode(".png", page)
    if not encoded:
        raise EdgeCTError(f"{path}: cannot be encoded")
    write_bytes(path, content.tobytes())


def _sheet_size(rows: int, columns: int, side: int) -> tuple[int, int]:
    """Width, and height without the title."""
    step = side * _zoom(side) + _GAP
    return max(2 * _MARGIN + columns * step - _GAP, 5 * _TILE), 2 * _MARGIN + _LINE + rows * (step + _LINE)


def _zoom(side: int) -> int:
    return -(-_TILE // side)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _page(width: int, height: int, texts: Sequence[tuple[int, int, str]]) -> np.ndarray:
    """A white page with lines of text, uint8 [height, width]; texts: left, top in pixels, and what to write."""
    # Some versions of Matplotlib round the size down and lose a pixel: half of one more keeps it.
    figure = plt.figure(figsize=((width + 0.5) / 100, (height + 0.5) / 100), dpi=100)
    for x, y, text in texts:
        figure.text(x / width, 1 - y / height, text, va="top", family="monospace", fontsize=8.7, parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks, say in a file's name: a box stands for them
        figure.canvas.draw()
    page = np.array(figure.canvas.buffer_rgba())[:height, :width, 0]
    plt.close(figure)
    return page


def _save(figure: Any, path: Path) -> None:
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)
