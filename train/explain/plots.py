"""The pictures, through matplotlib: maps over slices, activations by layer, curves. Readable in greyscale print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_ct.network_analysis.receptive_field import Centres, enlarge_map
from edge_ct.system.files import replace_atomically

from ..plots import plt
from .activations import Response

NOTE = "Research use only."
_OUTLINE = "#ff5a36"
_COLOURS = "cividis"  # readable by the colour-blind and in greyscale print


def over(
    axis: Any,
    pixels: np.ndarray,
    heat: np.ndarray | None,
    top: float | None = None,
    lesion: np.ndarray | None = None,
    at: Centres = None,
) -> None:
    """A slice, uint8 [h, w], and over it a map [a, b] of any size, opaque where it is strong; top: of its scale.

    lesion: bool [h, w], to be outlined. at: where the map's cells look.
    """
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    if heat is not None:
        large = np.maximum(enlarge_map(heat, *pixels.shape, at), 0)
        peak = float(large.max()) if top is None else top
        strength = np.clip(large / peak, 0, 1) if peak > 0 else np.zeros_like(large)
        axis.imshow(strength, cmap=_COLOURS, vmin=0, vmax=1, alpha=0.65 * np.sqrt(strength))
    if lesion is not None and lesion.any():
        axis.contour(lesion, levels=[0.5], colors=_OUTLINE, linewidths=0.8)
    axis.set_xticks(())
    axis.set_yticks(())


def grid(
    pixels: Sequence[np.ndarray],
    columns: dict[str, Sequence[np.ndarray | None]],
    rows: Sequence[str],
    title: str,
    path: Path,
    at: dict[str, Centres] | None = None,
) -> None:
    """A row a slice: the slice, then a column a kind of map. columns: heading -> one map a slice; rows: captions.

    at: heading -> where the cells of these maps look, where that was measured.
    """
    count = len(columns) + 1
    figure, axes = plt.subplots(
        len(rows), count, figsize=(1.9 * count + 0.4, 2.05 * len(rows) + 0.8), squeeze=False, layout="constrained"
    )
    for row, (own, caption) in enumerate(zip(pixels, rows, strict=True)):
        over(axes[row][0], own, None)
        axes[row][0].set_ylabel(caption, fontsize=7)
        for column, (heading, maps) in enumerate(columns.items(), start=1):
            over(axes[row][column], own, maps[row], at=(at or {}).get(heading))
    for column, heading in enumerate(("slice", *columns)):
        axes[0][column].set_title(heading, fontsize=8)
    entitle(figure, f"{title}\nmaps: dark to bright, no evidence to the most in that map. {NOTE}")
    save(figure, path)


def layer(response: Response, captions: Sequence[str], title: str, path: Path) -> None:
    """One layer: a row a slice, a column a filter. A filter has one scale for all slices."""
    rows, columns = response.maps.shape[:2]
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.25 * columns + 0.5, 1.35 * rows + 0.7), squeeze=False, layout="constrained"
    )
    for column in range(columns):
        low, high = float(response.maps[:, column].min()), float(response.maps[:, column].max())
        for row in range(rows):
            axes[row][column].imshow(response.maps[row, column], cmap="gray", vmin=low, vmax=max(high, low + 1e-9))
            axes[row][column].set(xticks=(), yticks=())
        axes[0][column].set_title(f"filter {response.filters[column]}", fontsize=6)
    for row, caption in enumerate(captions):
        axes[row][0].set_ylabel(caption, fontsize=6)
    entitle(figure, f"{title}, {response.layer}. {NOTE}")
    save(figure, path)


def strip(
    pixels: Sequence[np.ndarray], responses: Sequence[Response], captions: Sequence[str], title: str, path: Path
) -> None:
    """The depth at a glance: a row a slice, a column a layer, its most varied filter."""
    columns = len(responses) + 1
    figure, axes = plt.subplots(
        len(pixels), columns, figsize=(1.3 * columns + 0.5, 1.45 * len(pixels) + 0.8), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for row, own in enumerate(pixels):
        over(axes[row][0], own, None)
        axes[row][0].set_ylabel(captions[row], fontsize=6)
    axes[0][0].set_title("slice", fontsize=6)
    for column, response in enumerate(responses, start=1):
        low, high = float(response.maps[:, 0].min()), float(response.maps[:, 0].max())
        for row in range(len(pixels)):
            axes[row][column].imshow(response.maps[row, 0], cmap="gray", vmin=low, vmax=max(high, low + 1e-9))
            axes[row][column].set(xticks=(), yticks=())
        axes[0][column].set_title(short(response.layer), fontsize=6)
    entitle(figure, f"{title}: one filter a layer. {NOTE}")
    save(figure, path)


def short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}"


def entitle(figure: Any, title: str) -> None:
    """A title over the figure, in as many lines as its width takes."""
    figure.suptitle(title, fontsize=8, wrap=True)


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)
