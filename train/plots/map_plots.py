"""Heat maps over slices, and activation maps of layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_ct.network_analysis.receptive_field import Centres, enlarge_map

from ..explain.activations import LayerResponse
from .canvas import add_title, plt, save_figure

NOTE = "Research use only."
_OUTLINE = "#ff5a36"
_COLOURS = "cividis"  # distinguishable for colour-blind readers and in greyscale print


def draw_overlay(
    axis: Any,
    pixels: np.ndarray,
    heat: np.ndarray | None,
    top: float | None = None,
    lesion: np.ndarray | None = None,
    at: Centres = None,
) -> None:
    """Draw a slice and, over it, a map that is the more opaque the stronger it is.

    Args:
        axis: The matplotlib axis to draw on.
        pixels: The slice, uint8 [h, w].
        heat: The map, float [a, b] of any size; None draws the slice alone.
        top: Map value at the bright end of the scale; None is the maximum of this map.
        lesion: Mask of known lesions, bool [h, w], which is outlined.
        at: Measured centres of the map's cells.
    """
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    if heat is not None:
        large = np.maximum(enlarge_map(heat, pixels.shape[0], pixels.shape[1], at), 0)
        peak = float(large.max()) if top is None else top
        strength = np.clip(large / peak, 0, 1) if peak > 0 else np.zeros_like(large)
        axis.imshow(strength, cmap=_COLOURS, vmin=0, vmax=1, alpha=0.65 * np.sqrt(strength))
    if lesion is not None and lesion.any():
        axis.contour(lesion, levels=[0.5], colors=_OUTLINE, linewidths=0.8)
    axis.set_xticks(())
    axis.set_yticks(())


def draw_map_grid(
    pixels: Sequence[np.ndarray],
    columns: dict[str, Sequence[np.ndarray | None]],
    captions: Sequence[str],
    title: str,
    path: Path,
    at: dict[str, Centres] | None = None,
) -> None:
    """Draw one row per slice: the slice itself, then one column per kind of map.

    Args:
        pixels: The slices, uint8 [h, w] each.
        columns: Heading -> one map per slice.
        captions: One caption per slice.
        title: First line of the title.
        path: The PNG file to write.
        at: Heading -> measured centres of the cells of these maps.
    """
    count = len(columns) + 1
    size = (1.9 * count + 0.4, 2.05 * len(captions) + 0.8)
    figure, axes = plt.subplots(len(captions), count, figsize=size, squeeze=False, layout="constrained")
    for row, (slice_pixels, caption) in enumerate(zip(pixels, captions, strict=True)):
        draw_overlay(axes[row][0], slice_pixels, None)
        axes[row][0].set_ylabel(caption, fontsize=7)
        for column, (heading, maps) in enumerate(columns.items(), start=1):
            draw_overlay(axes[row][column], slice_pixels, maps[row], at=(at or {}).get(heading))
    for column, heading in enumerate(("slice", *columns)):
        axes[0][column].set_title(heading, fontsize=8)
    add_title(figure, f"{title}\nmaps: from dark (no evidence) to bright (the strongest evidence in that map). {NOTE}")
    save_figure(figure, path)


def draw_layer(response: LayerResponse, captions: Sequence[str], title: str, path: Path) -> None:
    """Draw the activation maps of one layer: a row per slice, a column per filter.

    Each filter has one grey scale for all slices.

    Args:
        response: The layer's activation maps.
        captions: One caption per slice.
        title: Beginning of the title; the name of the layer follows.
        path: The PNG file to write.
    """
    rows, columns = response.maps.shape[:2]
    size = (1.25 * columns + 0.5, 1.35 * rows + 0.7)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for column in range(columns):
        _draw_filter([axes[row][column] for row in range(rows)], response.maps[:, column])
        axes[0][column].set_title(f"filter {response.filters[column]}", fontsize=6)
    for row, caption in enumerate(captions):
        axes[row][0].set_ylabel(caption, fontsize=6)
    add_title(figure, f"{title}, {response.layer}. {NOTE}")
    save_figure(figure, path)


def draw_depth_strip(
    pixels: Sequence[np.ndarray], responses: Sequence[LayerResponse], captions: Sequence[str], title: str, path: Path
) -> None:
    """Draw one row per slice and one column per layer, with the filter of each layer that varies most.

    Args:
        pixels: The slices, uint8 [h, w] each.
        responses: Activation maps of the layers, in order of depth.
        captions: One caption per slice.
        title: Beginning of the title.
        path: The PNG file to write.
    """
    rows, columns = len(pixels), len(responses) + 1
    size = (1.3 * columns + 0.5, 1.45 * rows + 0.8)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for row, slice_pixels in enumerate(pixels):
        draw_overlay(axes[row][0], slice_pixels, None)
        axes[row][0].set_ylabel(captions[row], fontsize=6)
    axes[0][0].set_title("slice", fontsize=6)
    for column, response in enumerate(responses, start=1):
        _draw_filter([axes[row][column] for row in range(rows)], response.maps[:, 0])
        axes[0][column].set_title(shorten(response.layer), fontsize=6)
    add_title(figure, f"{title}: one filter per layer. {NOTE}")
    save_figure(figure, path)


def shorten(name: str) -> str:
    """Shorten the name of a layer to 18 letters by leaving out its middle."""
    return name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}"


def _draw_filter(axes: Sequence[Any], maps: np.ndarray) -> None:
    """Draw one filter's maps, float [n, h, w], each on its own axis and all on one grey scale."""
    low, high = float(maps.min()), float(maps.max())
    for axis, values in zip(axes, maps, strict=True):
        axis.imshow(values, cmap="gray", vmin=low, vmax=max(high, low + 1e-9))
        axis.set(xticks=(), yticks=())
