"""The one module of the training wing that imports matplotlib: its backend, titles and saved files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from edge_ct.system.files import replace_atomically

__all__ = ["add_title", "plt", "save_figure"]


def add_title(figure: Any, title: str) -> None:
    """Set a title above the whole figure, wrapped to the figure's width."""
    figure.suptitle(title, fontsize=8, wrap=True)


def save_figure(figure: Any, path: Path, dpi: int = 130) -> None:
    """Write a figure as PNG, atomically, and close it.

    Args:
        figure: A matplotlib figure.
        path: The file to write; an existing one is replaced.
        dpi: Resolution in dots per inch.
    """
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    plt.close(figure)
