"""Figures of a training run and of a study: learning curves, confusion matrix, box plots of the metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_ct.metrics import Scores

from .canvas import plt, save_figure

_DPI = 120


def draw_learning_curves(history: list[dict[str, str]], path: Path) -> None:
    """Draw loss and accuracy over the epochs, for training and validation.

    Args:
        history: The rows of `history.csv`: column name to value.
        path: The PNG file to write.
    """
    epochs = [float(row["epoch"]) for row in history]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for column, style, label in ((name, "-", "training (augmented)"), (f"val_{name}", "--", "validation")):
            axis.plot(epochs, [float(row[column]) for row in history], style, color="black", label=label)
        axis.set(xlabel="epoch", ylabel=name)
        axis.grid(alpha=0.3)
    best = min(history, key=lambda row: float(row["val_loss"]))
    axes[0].axvline(float(best["epoch"]), color="0.6", linewidth=1, label="kept")
    axes[0].legend(frameon=False)
    save_figure(figure, path, _DPI)


def draw_confusion_matrix(scores: Scores, classes: tuple[str, str], path: Path) -> None:
    """Draw the counts on the test split at probability 0.5.

    Args:
        scores: The scores of the test split.
        classes: Names of the negative and the positive class.
        path: The PNG file to write.
    """
    counts = scores.confusion
    cells = [[counts.tn, counts.fp], [counts.fn, counts.tp]]
    figure, axis = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
    axis.imshow(cells, cmap="Greys", vmin=0, vmax=max(1, 2 * max(map(max, cells))))
    for row in (0, 1):
        for column in (0, 1):
            axis.text(column, row, str(cells[row][column]), ha="center", va="center", fontsize=16)
    axis.set_xticks((0, 1), classes)
    axis.set_yticks((0, 1), classes)
    axis.set(xlabel="predicted class", ylabel="true class", title=f"test split, n = {scores.n}, at probability 0.5")
    save_figure(figure, path, _DPI)


def draw_metric_boxes(values: dict[str, dict[str, list[float]]], title: str, path: Path) -> None:
    """Draw one panel per metric with a box per network: median, quartiles, whiskers, and a dot per run.

    Args:
        values: Metric -> network -> one value per run. A network without runs keeps an empty row.
        title: Title of the figure.
        path: The PNG file to write.
    """
    networks = list(next(iter(values.values())))
    height = 0.34 * len(networks) + 1.3
    figure, axes = plt.subplots(1, len(values), figsize=(2.6 * len(values), height), sharey=True, layout="constrained")
    grey = {"color": "0.45"}
    for axis, (metric, runs) in zip(np.atleast_1d(axes), values.items(), strict=True):
        positions = [position for position, name in enumerate(networks) if runs[name]]
        drawn = [runs[networks[position]] for position in positions]
        if drawn:
            axis.boxplot(
                drawn,
                positions=positions,
                orientation="horizontal",
                widths=0.6,
                showfliers=False,
                medianprops={"color": "black"},
                boxprops=grey,
                whiskerprops=grey,
                capprops=grey,
                manage_ticks=False,
            )
        for position, run_values in zip(positions, drawn, strict=True):
            axis.plot(
                run_values,
                [position] * len(run_values),
                "o",
                color="black",
                alpha=0.35,
                markersize=3,
                markeredgewidth=0,
            )
        axis.set(title=metric, yticks=range(len(networks)), yticklabels=networks)
        axis.grid(alpha=0.3, axis="x")
    np.atleast_1d(axes)[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path, _DPI)
