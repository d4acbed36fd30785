"""The benchmark wing's pictures, as SVG text for a page; readable in greyscale print."""

from __future__ import annotations

import io
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_MARKERS = ("o", "s", "D", "^", "v", "P")


def accuracy_latency(points: dict[str, tuple[float, float, float, float]]) -> str:
    """points: model -> (milliseconds, value, low, high) of sensitivity."""
    figure, axis = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    for (name, (ms, value, low, high)), marker in zip(points.items(), _MARKERS, strict=False):
        axis.errorbar(
            ms,
            value,
            yerr=[[value - low], [high - value]],
            fmt=marker,
            color="black",
            ecolor="0.6",
            capsize=3,
            markersize=7,
        )
        axis.annotate(name, (ms, value), xytext=(7, 5), textcoords="offset points", fontsize=9)
    axis.set(xscale="log", xlabel="model-only time of one slice, ms (median, log scale)", ylabel="sensitivity")
    axis.margins(x=0.35)
    axis.grid(alpha=0.3, which="both")
    return _svg(figure)


def intervals(values: dict[str, dict[str, tuple[float, float, float]]]) -> str:
    """values: model -> metric -> (value, low, high), drawn side by side."""
    metrics = list(next(iter(values.values())))
    figure, axes = plt.subplots(1, len(metrics), figsize=(3 * len(metrics), 0.5 * len(values) + 1.2), sharey=True,
                                layout="constrained")  # fmt: skip
    names = list(values)
    for axis, metric in zip(axes, metrics, strict=True):
        for row, name in enumerate(names):
            value, low, high = values[name][metric]
            axis.errorbar(value, row, xerr=[[value - low], [high - value]], fmt=_MARKERS[row], color="black",
                          ecolor="0.6", capsize=3)  # fmt: skip
        axis.set(title=metric, yticks=range(len(names)), yticklabels=names)
        axis.grid(alpha=0.3, axis="x")
    axes[0].invert_yaxis()
    return _svg(figure)


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "edge-ct"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
