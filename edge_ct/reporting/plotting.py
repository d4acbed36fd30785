"""Helpers that the plots of several wings share: SVG and PNG output, markers, and a logarithmic time axis."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib

from ..system.files import replace_atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

# Shapes, not colours, tell models apart: reports are printed in greyscale.
MARKERS = ("o", "s", "D", "^", "v", "P")


def svg(figure: Any) -> str:
    """Return a figure as SVG text, the same bytes for the same figure, and close it."""
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "edge-ct"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def save_png(figure: Any, path: Path) -> None:
    """Write a figure to a PNG file at 150 dpi and close it."""
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    plt.close(figure)


def set_log_time_axis(axis: Any) -> None:
    """Give a plot a logarithmic x axis for the time of one slice in milliseconds.

    Ticks are at 1, 2 and 5 times a power of ten, in plain numbers: Matplotlib's own labels overlap.
    """
    axis.set(xscale="log", xlabel="model-only time of one slice, ms (median, log scale)")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
