"""Plots of the recipes' reports as SVG text, readable in greyscale print."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt

from edge_ct.manifest import Estimate
from edge_ct.reporting.plotting import MARKERS, set_log_time_axis, svg


def accuracy_latency(points: dict[str, tuple[float, float, float, float]]) -> str:
    """Plot the sensitivity of each model against the time it needs for one slice.

    Args:
        points: Model name -> (milliseconds, sensitivity, lower end, upper end of its 95 % interval).
    """
    figure, axis = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    for (name, (ms, value, low, high)), marker in zip(points.items(), MARKERS, strict=False):
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
    set_log_time_axis(axis)
    axis.set(ylabel="sensitivity")
    axis.margins(x=0.2)
    axis.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    axis.grid(alpha=0.3, which="both")
    return svg(figure)


def metric_intervals(values: dict[str, dict[str, tuple[float, float, float]]]) -> str:
    """Plot metrics of several models with their intervals, one panel a metric.

    Args:
        values: Model name -> metric name -> (value, lower end, upper end); every model has the same metrics.
    """
    metrics = list(next(iter(values.values())))
    names = list(values)
    figure, axes = plt.subplots(
        1,
        len(metrics),
        figsize=(3 * len(metrics), 0.5 * len(values) + 1.2),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for axis, metric in zip(axes[0], metrics, strict=True):
        for row, name in enumerate(names):
            value, low, high = values[name][metric]
            axis.errorbar(
                value,
                row,
                xerr=[[value - low], [high - value]],
                fmt=MARKERS[row % len(MARKERS)],
                color="black",
                ecolor="0.6",
                capsize=3,
            )
        axis.set(title=metric, yticks=range(len(names)), yticklabels=names)
        axis.grid(alpha=0.3, axis="x")
    axes[0, 0].invert_yaxis()
    return svg(figure)


def auc_by_source(values: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Plot the AUC of several models on each source, with intervals.

    Args:
        values: Model name -> source -> AUC; a source that a model was not measured on has no mark.
    """
    sources = list(dict.fromkeys(source for estimates in values.values() for source in estimates))
    figure, axis = plt.subplots(figsize=(7, 0.55 * len(sources) + 1.2), layout="constrained")
    for number, ((model, estimates), marker) in enumerate(zip(values.items(), MARKERS, strict=False)):
        rows = [source for source in sources if source in estimates and estimates[source].value is not None]
        centres = [estimates[source].value or 0.0 for source in rows]
        lows = [value - (estimates[source].low or value) for source, value in zip(rows, centres, strict=True)]
        highs = [(estimates[source].high or value) - value for source, value in zip(rows, centres, strict=True)]
        places = [sources.index(source) + 0.25 * number for source in rows]
        axis.errorbar(
            centres,
            places,
            xerr=[lows, highs],
            fmt=marker,
            color="black",
            ecolor="0.6",
            capsize=3,
            label=model,
            markerfacecolor="white" if number else "black",
        )
    axis.axvline(0.5, color="0.6", linestyle="--", linewidth=1)
    axis.set(xlabel="AUC; the dashed line is chance", yticks=range(len(sources)), yticklabels=sources)
    axis.invert_yaxis()
    axis.grid(alpha=0.3, axis="x")
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(values))
    return svg(figure)
