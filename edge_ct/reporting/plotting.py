"""The benchmark wing's pictures, as SVG text for a page; readable in greyscale print."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ..system.files import replace_atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

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
            label=name,
        )
    _log_time(axis)
    axis.set(ylabel="sensitivity")
    axis.margins(x=0.2)
    axis.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    axis.grid(alpha=0.3, which="both")
    return svg(figure)


def _log_time(axis: Any) -> None:
    """A logarithmic axis of times, ticked at 1, 2 and 5 in plain numbers: those of Matplotlib run into each other."""
    axis.set(xscale="log", xlabel="model-only time of one slice, ms (median, log scale)")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def intervals(values: dict[str, dict[str, tuple[float, float, float]]]) -> str:
    """values: model -> metric -> (value, low, high), drawn side by side."""
    metrics = list(next(iter(values.values())))
    figure, axes = plt.subplots(1, len(metrics), figsize=(3 * len(metrics), 0.5 * len(values) + 1.2), sharey=True,
                                layout="constrained")  # fmt: skip
    names = list(values)
    for axis, metric in zip(axes, metrics, strict=True):
        for row, name in enumerate(names):
            value, low, high = values[name][metric]
            marker = _MARKERS[row % len(_MARKERS)]
            axis.errorbar(value, row, xerr=[[value - low], [high - value]], fmt=marker, color="black", ecolor="0.6",
                          capsize=3)  # fmt: skip
        axis.set(title=metric, yticks=range(len(names)), yticklabels=names)
        axis.grid(alpha=0.3, axis="x")
    axes[0].invert_yaxis()
    return svg(figure)


def svg(figure: Any) -> str:
    """A figure as SVG text; it is closed."""
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "edge-ct"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def tradeoff(points: list[dict[str, Any]], metrics: tuple[str, ...] = ("sensitivity", "accuracy")) -> Any:
    """A figure: each metric against the time of a slice, with the front that no other model is above and left of.

    points: of each model `label`, `ms`, `reference` and, by metric, (value, low, high). Numbers stand for the labels.
    """
    figure, axes = plt.subplots(1, len(metrics), figsize=(9.6, 4.3), layout="constrained")
    for axis, metric in zip(axes, metrics, strict=True):
        for number, point in enumerate(points, 1):
            value, low, high = point[metric]
            filled = _on_front(point, points, metric)
            axis.errorbar(
                point["ms"],
                value,
                yerr=[[value - low], [high - value]],
                fmt="*" if point["reference"] else "o",
                color="black",
                markerfacecolor="black" if filled else "white",
                ecolor="0.65",
                capsize=3,
                markersize=13 if point["reference"] else 8,
                zorder=3,
            )
            # Models of nearly one time: their numbers at three heights, each on a line to its point.
            rank = sorted(one["ms"] for one in points).index(point["ms"])
            axis.annotate(
                str(number),
                (point["ms"], value),
                xytext=(9, 9 + 15 * (rank % 3)),
                textcoords="offset points",
                fontsize=9,
                arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.6},
            )
        front = sorted((one["ms"], one[metric][0]) for one in points if _on_front(one, points, metric))
        axis.step(*zip(*front, strict=True), where="post", color="0.35", linewidth=1, linestyle="--", zorder=1)
        _log_time(axis)
        axis.set(ylabel=metric)
        axis.margins(x=0.15)
        axis.grid(alpha=0.3, which="both")
    listed = "   ".join(f"{number} {point['label']}" for number, point in enumerate(points, 1))
    figure.suptitle(textwrap.fill(listed, 110), fontsize=9)
    return figure


def _on_front(own: dict[str, Any], points: list[dict[str, Any]], metric: str) -> bool:
    cost = own["ms"], -own[metric][0]
    others = [(other["ms"], -other[metric][0]) for other in points]
    return not any(other != cost and other[0] <= cost[0] and other[1] <= cost[1] for other in others)


def reliability(models: dict[str, np.ndarray], labels: np.ndarray, bins: int = 10) -> str:
    """models: label -> P(positive) [n]. Mean probability against the share of positives of equal-width bins."""
    figure, axes = _small_multiples(len(models))
    for axis, (name, p) in zip(axes, models.items(), strict=False):
        index = np.minimum((p * bins).astype(int), bins - 1)
        filled = [own for own in range(bins) if (index == own).any()]
        counts = np.array([(index == own).sum() for own in filled])
        axis.plot((0, 1), (0, 1), color="0.6", linewidth=1)
        axis.scatter(
            [p[index == own].mean() for own in filled],
            [labels[index == own].mean() for own in filled],
            s=10 + 150 * counts / len(p),
            facecolors="none",
            edgecolors="black",
        )
        axis.set(title=name, xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), xlabel="mean P(positive)", ylabel="share positive")
    return svg(figure)


def roc(models: dict[str, tuple[np.ndarray, float]], labels: np.ndarray, reference: str) -> str:
    """models: label -> (P(positive) [n], threshold of the operating point). Grey: the reference's curve."""
    figure, axes = _small_multiples(len(models))
    truth = labels == 1
    for axis, (name, (p, threshold)) in zip(axes, models.items(), strict=False):
        if reference in models:
            axis.plot(*_roc_curve(models[reference][0], truth), color="0.7", linewidth=3)
        axis.plot(*_roc_curve(p, truth), color="black", linewidth=1)
        called = p >= threshold
        axis.plot(called[~truth].mean(), called[truth].mean(), "o", color="black", markerfacecolor="white")
        axis.set(title=name, xlim=(-0.02, 1), ylim=(0, 1.02), xlabel="1 - specificity", ylabel="sensitivity")
    return svg(figure)


def latencies(models: dict[str, dict[str, dict[float, float]]]) -> str:
    """models: label -> kind of query -> quantile in per cent -> milliseconds. Whiskers: 5 and 99 %."""
    figure, axis = plt.subplots(figsize=(8.4, 0.62 * len(models) + 1.2), layout="constrained")
    ticks = []
    for row, (name, kinds) in enumerate(models.items()):
        for offset, (kind, at) in enumerate(kinds.items()):
            own = {"med": at[50.0], "q1": at[25.0], "q3": at[75.0], "whislo": at[5.0], "whishi": at[99.0]}
            y = row + 0.18 * (2 * offset - 1)
            grey = "white" if offset else "0.75"
            axis.bxp(
                [own],
                positions=[y],
                widths=0.28,
                orientation="horizontal",
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": grey},
                medianprops={"color": "black"},
                manage_ticks=False,
                label=kind if row == 0 else None,
            )
        ticks.append(name)
    axis.set(xscale="log", xlabel="milliseconds a slice (log scale)", yticks=range(len(ticks)), yticklabels=ticks)
    axis.invert_yaxis()
    axis.grid(alpha=0.3, axis="x", which="both")
    axis.legend(fontsize=8)
    return svg(figure)


def robustness(rows: Sequence[dict[str, object]]) -> str:
    """Rows of `robustness.measure`: sensitivity, specificity and the share rejected, a panel a kind of change."""
    kinds = [kind for kind in dict.fromkeys(str(row["change"]) for row in rows) if kind != "none"]
    figure, axes = plt.subplots(3, 3, figsize=(9, 7), layout="constrained", sharey=True)
    panels = list(axes.flat)
    lines = (("sensitivity", "o", "black"), ("specificity", "s", "0.45"), ("rejected_share", "x", "0.65"))
    for axis, kind in zip(panels, kinds, strict=False):
        own = [row for row in rows if row["change"] == kind]
        places = np.arange(len(own))
        for name, marker, colour in lines:
            ends = ("", "_low", "_high")
            value, low, high = (np.array([float(str(row[name + end]) or "nan") for row in own]) for end in ends)
            apart = (value - low, high - value)
            axis.errorbar(places, value, yerr=apart, marker=marker, color=colour, capsize=2, linewidth=0.8, label=name)
        axis.set_xticks(places, [str(row["amount"]) for row in own], fontsize=7)
        axis.set_title(kind, fontsize=9)
        axis.set_ylim(-0.03, 1.03)
        axis.grid(alpha=0.3)
    for axis in panels[len(kinds) :]:
        axis.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    names = [label.replace("rejected_share", "rejected") for label in labels]
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    return svg(figure)


def save_png(figure: Any, path: Path) -> None:
    """Write a figure as PNG, for a README."""
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    plt.close(figure)


def _roc_curve(p: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1 - specificity, sensitivity) at every threshold, from none to all called."""
    order = np.argsort(-p, kind="stable")
    last = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    hits, alarms = (np.append(0, np.cumsum(own[order])[last]) / own.sum() for own in (truth, ~truth))
    return alarms, hits


def _small_multiples(count: int) -> tuple[Any, list[Any]]:
    columns = min(4, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.5 * columns, 2.6 * rows), layout="constrained", squeeze=False)
    flat = list(axes.flat)
    for axis in flat:
        axis.set_aspect("equal")
        axis.title.set_fontsize(8)
        axis.tick_params(labelsize=7)
        axis.xaxis.label.set_fontsize(8)
        axis.yaxis.label.set_fontsize(8)
    for axis in flat[count:]:
        axis.set_visible(False)
    return figure, flat
