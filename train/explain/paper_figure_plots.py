"""The pictures of `overview`: rows of networks, columns of slices or of layers. Small enough to be kept with a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..plots import plt
from . import paper_figures, plots
from .paper_figures import Seen, Views

_TILE = 0.92  # inches
_SMALL, _TEXT = 5.5, 7
_BRIGHT = 0.98  # share of the cells above 0 that are within the scale


def maps(seen: Sequence[Seen], views: Views, label: int, count: int, path: Path) -> None:
    """Grad-CAM of each base network, and right of it of its Modified form, over the same slices of one class.

    A network has one scale for both classes, so that what is faint here and bright there is so for it. The scale ends
    below the most, or one cell of one slice would leave all others dark.
    """
    found = paper_figures.pairs(seen)
    shown = views.first(label, count)
    both = any(modified is not None for _, modified in found)
    figure, axes = _tiles(len(found) + 1, len(shown) * (2 if both else 1))
    for block in range(2 if both else 1):
        for column, i in enumerate(shown):
            axis = axes[0][block * len(shown) + column]
            plots.over(axis, views.pixels[i], None, lesion=views.lesions[i])
        if both:
            middle = axes[0][block * len(shown) + (len(shown) - 1) // 2]
            middle.set_title(("as published", "Modified")[block], fontsize=_TEXT + 1)
    axes[0][0].set_ylabel("slice", fontsize=_TEXT)
    for row, (base, modified) in enumerate(found, start=1):
        axes[row][0].set_ylabel(_named(base, views), fontsize=_TEXT)
        for block, one in enumerate((base, modified) if both else (base,)):
            top = scale_end(one.maps) if one else 0.0
            for column, i in enumerate(shown):
                axis = axes[row][block * len(shown) + column]
                if one is None:
                    axis.set_axis_off()
                    continue
                plots.over(axis, views.pixels[i], one.maps[i], top, views.lesions[i], one.centres)
                axis.set_xlabel(f"P {one.p[i]:.2f}", fontsize=_SMALL, labelpad=1)
    outlined = ", lesions outlined" if any(views.lesions[i] is not None for i in shown) else ""
    plots.entitle(
        figure,
        f"Grad-CAM of {views.classes[label]}{outlined}: clear is nothing, bright the strongest {1 - _BRIGHT:.0%} of "
        f"the cells in which a network sees something, in slices of either class. {plots.NOTE}",
    )
    plots.save(figure, path)


def depth(seen: Sequence[Seen], views: Views, path: Path) -> None:
    """What layers along the depth make of the positive slice: a row a network, each layer's most varied filter."""
    chosen = [base for base, _ in paper_figures.pairs(seen)]
    figure, axes = _tiles(len(chosen), 1 + paper_figures.STAGES)
    for row, one in enumerate(chosen):
        _responses(axes[row], one, views, 0, one.name)
    plots.entitle(
        figure, f"What layers along the depth respond to, first to last: the filter that varies most. {plots.NOTE}"
    )
    plots.save(figure, path)


def beside(seen: Sequence[Seen], views: Views, path: Path) -> None:
    """As `depth`, the positive slice over the negative one; a filter has one grey scale for both."""
    chosen = [base for base, _ in paper_figures.pairs(seen)]
    figure, axes = _tiles(2 * len(chosen), 1 + paper_figures.STAGES)
    for row, one in enumerate(chosen):
        for which, name in enumerate(("positive", "negative")):
            _responses(axes[2 * row + which], one, views, which, f"{one.name}\n{name}")
    twins = " (the same phantom without its lesions)" if views.lesions[views.beside[0]] is not None else ""
    plots.entitle(
        figure,
        f"The same filters for a positive slice and a negative one{twins}, each filter on one grey scale for both. "
        f"{plots.NOTE}",
    )
    plots.save(figure, path)


def scale_end(maps: np.ndarray) -> float:
    """The end of a network's scale; 0 where it sees nothing in any slice."""
    something = maps[maps > 0]
    return float(np.quantile(something, _BRIGHT)) if something.size else 0.0


def _responses(axes: Any, one: Seen, views: Views, which: int, caption: str) -> None:
    i = views.beside[which]
    plots.over(axes[0], views.pixels[i], None, lesion=views.lesions[i])
    axes[0].set_ylabel(caption, fontsize=_TEXT)
    axes[0].set_xlabel(f"P {one.p[i]:.2f}", fontsize=_SMALL, labelpad=1)
    for axis in axes[1:]:
        axis.set_axis_off()
    for axis, response in zip(axes[1:], one.responses, strict=False):
        own = response.maps[:, 0]
        axis.set_axis_on()
        axis.imshow(own[which], cmap="gray", vmin=float(own.min()), vmax=float(max(own.max(), own.min() + 1e-9)))
        axis.set(xticks=(), yticks=())
        axis.set_xlabel(plots.short(response.layer), fontsize=_SMALL, labelpad=1)


def _tiles(rows: int, columns: int) -> tuple[Any, Any]:
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(_TILE * columns + 0.7, (_TILE + 0.12) * rows + 0.55),
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.01, wspace=0.01, hspace=0.01)
    return figure, axes


def _named(one: Seen, views: Views) -> str:
    found = paper_figures.row(one, views)
    pointing = "" if found.called is None else f"\nat lesions {found.hits} of {found.called}"
    return f"{one.name}\n{found.right} of {found.n} right{pointing}"
