"""The training wing's pictures, through matplotlib; readable in greyscale print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from edge_ct.files import replacing
from edge_ct.metrics import Scores


def learning_curves(history: list[dict[str, str]], path: Path) -> None:
    """history: the rows of history.csv."""
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
    _save(figure, path)


def confusion_matrix(scores: Scores, classes: tuple[str, str], path: Path) -> None:
    """Counts on the test split at probability 0.5."""
    counts = scores.confusion
    cells = [[counts.tn, counts.fp], [counts.fn, counts.tp]]
    figure, axis = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
    axis.imshow(cells, cmap="Greys", vmin=0, vmax=max(1, 2 * max(map(max, cells))))
    for row in (0, 1):
        for column in (0, 1):
            axis.text(column, row, str(cells[row][column]), ha="center", va="center", fontsize=16)
    axis.set_xticks((0, 1), classes)
    axis.set_yticks((0, 1), classes)
    axis.set(xlabel="called", ylabel="true", title=f"test split, n = {scores.n}, at probability 0.5")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)
