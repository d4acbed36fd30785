"""Figures 4 to 7 of Garg et al. 2020: one row per network, one column per slice or layer.

The figures are small enough to be printed beside a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..explain.paper_figures import STAGES, FigureSlices, RunMaps, network_row, pair_with_modified
from .canvas import add_title, plt, save_figure
from .map_plots import NOTE, draw_overlay, shorten

_TILE = 0.92  # inches
_SMALL_FONT, _FONT = 5.5, 7
_SCALE_QUANTILE = 0.98  # of the cells above 0: the bright end of a network's scale


def draw_maps(runs: Sequence[RunMaps], slices: FigureSlices, label: int, count: int, path: Path) -> None:
    """Draw Grad-CAM of each base network and, to its right, of its Modified form (figures 4 and 5).

    A network has one scale for both classes, so that strengths can be compared between the two figures. The scale ends
    below the maximum; otherwise a single cell of a single slice would leave all others dark.

    Args:
        runs: Maps of each run.
        slices: The slices that were mapped.
        label: 0 or 1: the class whose slices are drawn.
        count: Maximum number of slices.
        path: The PNG file to write.
    """
    pairs = pair_with_modified(runs)
    shown = slices.first(label, count)
    both = any(modified is not None for _, modified in pairs)
    figure, axes = _make_tiles(len(pairs) + 1, len(shown) * (2 if both else 1))
    for block in range(2 if both else 1):
        for column, i in enumerate(shown):
            axis = axes[0][block * len(shown) + column]
            draw_overlay(axis, slices.pixels[i], None, lesion=slices.lesions[i])
        if both:
            middle = axes[0][block * len(shown) + (len(shown) - 1) // 2]
            middle.set_title(("as published", "Modified")[block], fontsize=_FONT + 1)
    axes[0][0].set_ylabel("slice", fontsize=_FONT)
    for row, (base, modified) in enumerate(pairs, start=1):
        axes[row][0].set_ylabel(_caption(base, slices), fontsize=_FONT)
        for block, run in enumerate((base, modified) if both else (base,)):
            top = scale_end(run.maps) if run else 0.0
            for column, i in enumerate(shown):
                axis = axes[row][block * len(shown) + column]
                if run is None:
                    axis.set_axis_off()
                    continue
                draw_overlay(axis, slices.pixels[i], run.maps[i], top, slices.lesions[i], run.centres)
                axis.set_xlabel(f"P {run.p[i]:.2f}", fontsize=_SMALL_FONT, labelpad=1)
    outlined = ", lesions outlined" if any(slices.lesions[i] is not None for i in shown) else ""
    add_title(
        figure,
        f"Grad-CAM of {slices.classes[label]}{outlined}. Transparent: no evidence; brightest: the strongest "
        f"{1 - _SCALE_QUANTILE:.0%} of the cells with evidence, over the slices of both classes. {NOTE}",
    )
    save_figure(figure, path)


def draw_depth(runs: Sequence[RunMaps], slices: FigureSlices, path: Path) -> None:
    """Draw the responses of layers along the depth to the positive slice, one row per network (figure 6).

    Of each layer the filter that varies most is shown.

    Args:
        runs: Maps and layer responses of each run.
        slices: The slices that were mapped.
        path: The PNG file to write.
    """
    bases = [base for base, _ in pair_with_modified(runs)]
    figure, axes = _make_tiles(len(bases), 1 + STAGES)
    for row, run in enumerate(bases):
        _draw_responses(axes[row], run, slices, 0, run.name)
    add_title(figure, f"Responses of layers from first to last; the filter that varies most is shown. {NOTE}")
    save_figure(figure, path)


def draw_class_pair(runs: Sequence[RunMaps], slices: FigureSlices, path: Path) -> None:
    """Draw the same responses to the positive slice above those to the negative one (figure 7).

    Each filter has one grey scale for both slices.

    Args:
        runs: Maps and layer responses of each run.
        slices: The slices that were mapped.
        path: The PNG file to write.
    """
    bases = [base for base, _ in pair_with_modified(runs)]
    figure, axes = _make_tiles(2 * len(bases), 1 + STAGES)
    for row, run in enumerate(bases):
        for which, name in enumerate(("positive", "negative")):
            _draw_responses(axes[2 * row + which], run, slices, which, f"{run.name}\n{name}")
    twin = " (the same phantom without its lesions)" if slices.lesions[slices.beside[0]] is not None else ""
    add_title(
        figure,
        f"The same filters for a positive slice and a negative one{twin}; each filter has one grey scale for both. "
        f"{NOTE}",
    )
    save_figure(figure, path)


def scale_end(maps: np.ndarray) -> float:
    """Return the bright end of a network's scale; 0 if its maps, float [n, h, w], show no evidence in any slice."""
    evidence = maps[maps > 0]
    return float(np.quantile(evidence, _SCALE_QUANTILE)) if evidence.size else 0.0


def _draw_responses(axes: Any, run: RunMaps, slices: FigureSlices, which: int, caption: str) -> None:
    i = slices.beside[which]
    draw_overlay(axes[0], slices.pixels[i], None, lesion=slices.lesions[i])
    axes[0].set_ylabel(caption, fontsize=_FONT)
    axes[0].set_xlabel(f"P {run.p[i]:.2f}", fontsize=_SMALL_FONT, labelpad=1)
    for axis in axes[1:]:
        axis.set_axis_off()
    for axis, response in zip(axes[1:], run.responses, strict=False):
        maps = response.maps[:, 0]
        axis.set_axis_on()
        axis.imshow(maps[which], cmap="gray", vmin=float(maps.min()), vmax=float(max(maps.max(), maps.min() + 1e-9)))
        axis.set(xticks=(), yticks=())
        axis.set_xlabel(shorten(response.layer), fontsize=_SMALL_FONT, labelpad=1)


def _make_tiles(rows: int, columns: int) -> tuple[Any, Any]:
    size = (_TILE * columns + 0.7, (_TILE + 0.12) * rows + 0.55)
    figure: Any
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.01, wspace=0.01, hspace=0.01)
    return figure, axes


def _caption(run: RunMaps, slices: FigureSlices) -> str:
    row = network_row(run, slices)
    pointing = "" if row.called is None else f"\nat lesions {row.hits} of {row.called}"
    return f"{run.name}\n{row.right} of {row.n} correct{pointing}"
