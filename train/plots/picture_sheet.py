"""A sheet of pictures in rows, every pixel unchanged, with a heading per column and a caption per row."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.system.files import write_bytes

from .canvas import plt

# Measures of the sheet in pixels. Pictures smaller than a tile are enlarged, so that their captions have room.
_TILE, _GAP, _MARGIN, _LINE_HEIGHT, _LETTER_WIDTH = 112, 6, 12, 18, 7.3
_MAX_PIXELS, _MAX_SIDE = 40_000_000, 30_000


def check_sheet_size(rows: int, columns: int, side: int) -> None:
    """Check that a sheet is small enough to be drawn and looked at.

    Args:
        rows: Number of rows of pictures.
        columns: Number of pictures per row.
        side: Side of each picture in pixels.

    Raises:
        EdgeCTError: The sheet would be too large.
    """
    width, height = _sheet_size(rows, columns, side)
    if width * height > _MAX_PIXELS or max(width, height) > _MAX_SIDE:
        raise EdgeCTError(
            f"a sheet of {rows} x {columns} pictures of {side} px would have {width} x {height} px; "
            "ask for fewer pictures or a smaller size"
        )


def draw_picture_sheet(
    tiles: np.ndarray, headings: Sequence[str], captions: Sequence[str], title: Sequence[str], path: Path
) -> None:
    """Write a greyscale PNG of pictures in rows.

    Args:
        tiles: Pictures, uint8 [rows, columns, s, s].
        headings: One heading per column.
        captions: One caption per row; one that is too long loses its beginning.
        title: Lines of the title, wrapped to the width of the sheet.
        path: The PNG file to write.
    """
    rows, columns, side = tiles.shape[:3]
    zoom = _zoom(side)
    step = side * zoom + _GAP
    width, height = _sheet_size(rows, columns, side)
    letters = int((width - 2 * _MARGIN) / _LETTER_WIDTH)
    lines = [wrapped for line in title for wrapped in textwrap.wrap(_printable(line), letters)]
    top = _MARGIN + (len(lines) + 1) * _LINE_HEIGHT
    texts = [(_MARGIN, _MARGIN + row * _LINE_HEIGHT, line) for row, line in enumerate(lines)]
    texts += [(_MARGIN + column * step, top - _LINE_HEIGHT, heading) for column, heading in enumerate(headings)]
    room = int((columns * step - _GAP) / _LETTER_WIDTH)
    for row, caption in enumerate(map(_printable, captions)):
        shown = caption if len(caption) <= room else f"…{caption[1 - room :]}"
        texts.append((_MARGIN, top + row * (step + _LINE_HEIGHT), shown))
    page = _draw_text_page(width, height + len(lines) * _LINE_HEIGHT, texts)
    for row in range(rows):
        for column in range(columns):
            y, x = top + row * (step + _LINE_HEIGHT) + _LINE_HEIGHT, _MARGIN + column * step
            tile = tiles[row, column].repeat(zoom, 0).repeat(zoom, 1)
            page[y : y + len(tile), x : x + len(tile)] = tile
    encoded, content = cv2.imencode(".png", page)
    if not encoded:
        raise EdgeCTError(f"{path}: the sheet cannot be encoded as PNG")
    write_bytes(path, content.tobytes())


def _sheet_size(rows: int, columns: int, side: int) -> tuple[int, int]:
    """Return the width, and the height without the title, in pixels."""
    step = side * _zoom(side) + _GAP
    width = max(2 * _MARGIN + columns * step - _GAP, 5 * _TILE)
    return width, 2 * _MARGIN + _LINE_HEIGHT + rows * (step + _LINE_HEIGHT)


def _zoom(side: int) -> int:
    return -(-_TILE // side)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _draw_text_page(width: int, height: int, texts: Sequence[tuple[int, int, str]]) -> np.ndarray:
    """Draw lines of text on a white page, uint8 [height, width]; texts: left, top (in pixels) and the line."""
    # Some versions of Matplotlib round the size down and lose a pixel; half a pixel more prevents that.
    figure = plt.figure(figsize=((width + 0.5) / 100, (height + 0.5) / 100), dpi=100)
    for x, y, text in texts:
        figure.text(x / width, 1 - y / height, text, va="top", family="monospace", fontsize=8.7, parse_math=False)
    with warnings.catch_warnings():
        # A letter that the font lacks (say in a file name) gives a warning and is drawn as a box.
        warnings.simplefilter("ignore")
        figure.canvas.draw()
    page = np.array(figure.canvas.buffer_rgba())[:height, :width, 0]  # type: ignore[attr-defined]
    plt.close(figure)
    return page
