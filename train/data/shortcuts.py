"""Properties that predict the label without a look at the lungs: file format, frame, grey-value window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from edge_ct.imaging import image_headers

# An AUC above this, and above what chance gives for a set of this size, counts as a shortcut.
SHORTCUT_AUC = 0.6
_MODES = {1: "grey", 2: "grey+alpha", 3: "RGB", 4: "RGBA"}
_CONTAINER = ("format", "mode", "depth", "channels", "size", "aspect")
_DRAWN = ("border", "window")

Property = str | int | float


def read_properties(content: bytes, pixels: np.ndarray) -> dict[str, Property]:
    """Return the properties of a slice that have nothing to do with the lungs.

    `mode` is the colour type. `depth` is the number of bits per sample, or 0 for DICOM. `border` and `border_spread`
    are the mean and the standard deviation of the grey values along the frame, where air, table or body is visible.
    `darkest` and `brightest` are the extreme grey values, `black` and `white` the fractions of pixels at 0 and 255;
    they show the window of the export.

    Args:
        content: The file.
        pixels: The decoded slice, uint8 [h, w].
    """
    height, width = pixels.shape
    frame = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    drawn: dict[str, Property] = {
        "width": width,
        "height": height,
        "border": float(frame.mean()),
        "border_spread": float(frame.std()),
        "darkest": int(pixels.min()),
        "brightest": int(pixels.max()),
        "black": float((pixels == 0).mean()),
        "white": float((pixels == 255).mean()),
    }
    if content[128:132] == b"DICM":
        return {"format": "DICOM", "mode": "grey", "depth": 0, "channels": 1, **drawn}
    header = image_headers.parse(content)
    return {"format": header.format, "mode": _mode(header), "depth": header.bits, "channels": header.channels, **drawn}


def _mode(header: image_headers.Header) -> str:
    if header.palette:
        return "palette"
    if header.format == "JPEG" and header.channels != 1:
        return {3: "YCbCr", 4: "CMYK"}.get(header.channels, f"{header.channels} channels")
    return _MODES.get(header.channels, f"{header.channels} channels")


def audit_shortcuts(rows: list[dict[str, Property]], labels: np.ndarray) -> dict[str, float | None]:
    """Measure how well single properties predict the label.

    Args:
        rows: Properties of each slice.
        labels: 0 or 1 [n].

    Returns:
        Cross-validated AUC by property, and for all properties of the file together ("all"); None if a property does
        not vary or a class is too small.
    """
    if not rows:
        return dict.fromkeys((*_CONTAINER, *_DRAWN, "all"))
    columns = {
        "format": _categories(rows, "format"),
        "mode": _categories(rows, "mode"),
        "depth": [[row["depth"]] for row in rows],
        "channels": [[row["channels"]] for row in rows],
        "size": [[row["width"], row["height"]] for row in rows],
        "aspect": [[int(row["width"]) / int(row["height"])] for row in rows],
        "border": [[row["border"], row["border_spread"]] for row in rows],
        "window": [[row[name] for name in ("darkest", "brightest", "black", "white")] for row in rows],
    }
    scores = {name: predictability(np.array(values, float), labels) for name, values in columns.items()}
    container = np.hstack([np.array(columns[name], float).reshape(len(rows), -1) for name in _CONTAINER])
    return {**scores, "all": predictability(container, labels)}


def _categories(rows: list[dict[str, Property]], name: str) -> list[list[float]]:
    """Encode names as one column per value; with a rank per name, a tree would need several cuts to isolate one."""
    values = sorted({str(row[name]) for row in rows})
    return [[float(row[name] == value) for value in values] for row in rows]


def predictability(features: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the cross-validated AUC of a small decision tree.

    Args:
        features: [n, d].
        labels: 0 or 1 [n].

    Returns:
        The AUC; None if the features are constant or a class has fewer than five slices.
    """
    if len(labels) == 0 or (features == features[0]).all() or np.bincount(labels, minlength=2).min() < 5:
        return None
    tree = DecisionTreeClassifier(min_samples_leaf=5, max_leaf_nodes=32, random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(
        roc_auc_score(labels, cross_val_predict(tree, features, labels, cv=folds, method="predict_proba")[:, 1])
    )


class SourceLeak(msgspec.Struct, frozen=True):
    """How well the label of a slice follows from its source alone.

    Attributes:
        auc: AUC of the share of positives in the source of a slice; 0.5 is chance.
        balanced_accuracy: That of calling a slice positive where positives come from its source more often than
            negatives do.
        one_class: Sources that have slices of one class only, whose label follows from the source with certainty.
    """

    auc: float
    balanced_accuracy: float
    one_class: tuple[str, ...]


def measure_source_leak(sources: Sequence[str], labels: np.ndarray) -> SourceLeak | None:
    """Measure how well the source alone predicts the label.

    Args:
        sources: Source of each slice, [n].
        labels: 0 or 1 [n].

    Returns:
        The leak; None for a single source, or a single class.
    """
    names, place = np.unique(np.asarray(sources), return_inverse=True)
    positives, negatives = (np.bincount(place[labels == label], minlength=len(names)) for label in (1, 0))
    if len(names) < 2 or not positives.sum() * negatives.sum():
        return None
    share = positives / (positives + negatives)
    return SourceLeak(
        float(roc_auc_score(labels, share[place])),
        float(np.maximum(positives / positives.sum(), negatives / negatives.sum()).sum() / 2),
        tuple(names[(positives == 0) | (negatives == 0)].tolist()),
    )


def is_shortcut(auc: float | None, negatives: int, positives: int) -> bool:
    """Return True if an AUC is above `SHORTCUT_AUC` and above the 97.5th percentile of chance.

    The standard deviation of the AUC under chance is that of the Mann-Whitney U statistic,
    sqrt((a + b + 1) / (12 a b)) for class sizes a and b.
    """
    if auc is None or not negatives * positives:
        return False
    deviation = math.sqrt((negatives + positives + 1) / (12 * negatives * positives))
    return auc > max(SHORTCUT_AUC, 0.5 + 1.96 * deviation)
