"""Plots of the benchmark reports, readable in greyscale print."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import msgspec
import numpy as np

from edge_ct.reporting.plotting import set_log_time_axis, svg


class TradeoffPoint(msgspec.Struct, frozen=True):
    """One model of the trade-off plot.

    Attributes:
        label: Name of the model.
        ms: Median milliseconds of one slice, model only.
        reference: Whether it is the model that the others are compared with.
        metrics: Metric name -> (value, lower end, upper end of its 95 % interval).
    """

    label: str
    ms: float
    reference: bool
    metrics: dict[str, tuple[float, float, float]]


def tradeoff(points: Sequence[TradeoffPoint], metrics: Sequence[str] = ("sensitivity", "accuracy")) -> Any:
    """Return a figure of each metric against the time of a slice, with the Pareto front.

    Numbers stand for the models; their names are listed above the panels.

    Args:
        points: The models.
        metrics: One panel for each of these.
    """
    figure, axes = plt.subplots(1, len(metrics), figsize=(9.6, 4.3), layout="constrained", squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        _draw_tradeoff(axis, points, metric)
    listed = "   ".join(f"{number} {point.label}" for number, point in enumerate(points, 1))
    figure.suptitle(textwrap.fill(listed, 110), fontsize=9)
    return figure


def _draw_tradeoff(axis: Any, points: Sequence[TradeoffPoint], metric: str) -> None:
    times = sorted(point.ms for point in points)
    for number, point in enumerate(points, 1):
        value, low, high = point.metrics[metric]
        axis.errorbar(
            point.ms,
            value,
            yerr=[[value - low], [high - value]],
            fmt="*" if point.reference else "o",
            color="black",
            markerfacecolor="black" if _is_on_front(point, points, metric) else "white",
            ecolor="0.65",
            capsize=3,
            markersize=13 if point.reference else 8,
            zorder=3,
        )
        # The numbers of models with nearly the same time are put at three heights, so that they do not overlap.
        axis.annotate(
            str(number),
            (point.ms, value),
            xytext=(9, 9 + 15 * (times.index(point.ms) % 3)),
            textcoords="offset points",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.6},
        )
    front = sorted((point.ms, point.metrics[metric][0]) for point in points if _is_on_front(point, points, metric))
    axis.step(*zip(*front, strict=True), where="post", color="0.35", linewidth=1, linestyle="--", zorder=1)
    set_log_time_axis(axis)
    axis.set(ylabel=metric)
    axis.margins(x=0.15)
    axis.grid(alpha=0.3, which="both")


def _is_on_front(point: TradeoffPoint, points: Sequence[TradeoffPoint], metric: str) -> bool:
    cost = point.ms, -point.metrics[metric][0]
    others = [(other.ms, -other.metrics[metric][0]) for other in points]
    return not any(other != cost and other[0] <= cost[0] and other[1] <= cost[1] for other in others)


def reliability(models: Mapping[str, np.ndarray], labels: np.ndarray, bins: int = 10) -> str:
    """Plot the share of positives against the mean probability in bins of equal width, as SVG text.

    Args:
        models: Model name -> P(positive), float [n].
        labels: 0 or 1, [n].
        bins: Number of bins between 0 and 1.
    """
    figure, axes = _small_multiples(len(models))
    for axis, (name, p) in zip(axes, models.items(), strict=False):
        index = np.minimum((p * bins).astype(int), bins - 1)
        filled = [number for number in range(bins) if (index == number).any()]
        counts = np.array([(index == number).sum() for number in filled])
        axis.plot((0, 1), (0, 1), color="0.6", linewidth=1)
        axis.scatter(
            [p[index == number].mean() for number in filled],
            [labels[index == number].mean() for number in filled],
            s=10 + 150 * counts / len(p),
            facecolors="none",
            edgecolors="black",
        )
        axis.set(title=name, xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), xlabel="mean P(positive)", ylabel="share positive")
    return svg(figure)


def roc(models: Mapping[str, tuple[np.ndarray, float]], labels: np.ndarray, reference: str) -> str:
    """Plot ROC curves with operating points, as SVG text; the reference's curve is grey in every panel.

    Args:
        models: Model name -> (P(positive), float [n]; threshold of the operating point).
        labels: 0 or 1, [n].
        reference: Name of the reference model.
    """
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


def latency_boxes(models: Mapping[str, Mapping[str, Mapping[float, float]]]) -> str:
    """Plot latency distributions as boxes with whiskers at 5 and 99 %, as SVG text.

    Args:
        models: Model name -> kind of query -> quantile in per cent -> milliseconds.
    """
    figure, axis = plt.subplots(figsize=(8.4, 0.62 * len(models) + 1.2), layout="constrained")
    for row, kinds in enumerate(models.values()):
        for number, (kind, quantiles) in enumerate(kinds.items()):
            box = {
                "med": quantiles[50.0],
                "q1": quantiles[25.0],
                "q3": quantiles[75.0],
                "whislo": quantiles[5.0],
                "whishi": quantiles[99.0],
            }
            axis.bxp(
                [box],
                positions=[row + 0.18 * (2 * number - 1)],
                widths=0.28,
                orientation="horizontal",
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": "white" if number else "0.75"},
                medianprops={"color": "black"},
                manage_ticks=False,
                label=kind if row == 0 else None,
            )
    axis.set(
        xscale="log",
        xlabel="milliseconds per slice (log scale)",
        yticks=range(len(models)),
        yticklabels=list(models),
    )
    axis.invert_yaxis()
    axis.grid(alpha=0.3, axis="x", which="both")
    axis.legend(fontsize=8)
    return svg(figure)


def robustness(rows: Sequence[Mapping[str, object]]) -> str:
    """Plot sensitivity, specificity and the share of rejected slices, one panel a kind of change, as SVG text.

    Args:
        rows: What `robustness.measure` returns.
    """
    kinds = [kind for kind in dict.fromkeys(str(row["change"]) for row in rows) if kind != "none"]
    figure, axes = plt.subplots(3, 3, figsize=(9, 7), layout="constrained", sharey=True)
    panels = list(axes.flat)
    lines = (("sensitivity", "o", "black"), ("specificity", "s", "0.45"), ("rejected_share", "x", "0.65"))
    for axis, kind in zip(panels, kinds, strict=False):
        of_kind = [row for row in rows if row["change"] == kind]
        places = np.arange(len(of_kind))
        for name, marker, colour in lines:
            value, low, high = (
                np.array([float(str(row[name + end]) or "nan") for row in of_kind]) for end in ("", "_low", "_high")
            )
            axis.errorbar(
                places,
                value,
                yerr=(value - low, high - value),
                marker=marker,
                color=colour,
                capsize=2,
                linewidth=0.8,
                label=name.replace("rejected_share", "rejected"),
            )
        axis.set_xticks(places, [str(row["amount"]) for row in of_kind], fontsize=7)
        axis.set_title(kind, fontsize=9)
        axis.set_ylim(-0.03, 1.03)
        axis.grid(alpha=0.3)
    for axis in panels[len(kinds) :]:
        axis.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return svg(figure)


def _roc_curve(p: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 - specificity and sensitivity at every threshold, from no slice called positive to all of them."""
    order = np.argsort(-p, kind="stable")
    last = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    hits, alarms = (np.append(0, np.cumsum(mask[order])[last]) / mask.sum() for mask in (truth, ~truth))
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
