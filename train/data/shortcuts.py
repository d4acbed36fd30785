"""What gives the label away without a look at the lungs: the container's properties, the frame, the window."""

from __future__ import annotations

import math

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from edge_ct.imaging import image_headers

# Above this, and above what chance gives a set of that size, something other than the lungs tells the label.
SHORTCUT_AUC = 0.6
_MODES = {1: "grey", 2: "grey+alpha", 3: "RGB", 4: "RGBA"}
_CONTAINER = ("format", "mode", "depth", "channels", "size", "aspect")
_DRAWN = ("border", "window")

Property = str | int | float


def properties(content: bytes, pixels: np.ndarray) -> dict[str, Property]:
    """Of a file that has been read as `pixels`, uint8 [h, w].

    mode: of a PNG its colour type. depth: bits a sample, 0 for DICOM, which states it elsewhere.
    border, border_spread: mean and standard deviation of the grey along the frame, where air or tape or body is.
    darkest, brightest: the least and the greatest grey; black, white: shares of 0 and 255. The export's window shows.
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


def audit(rows: list[dict[str, Property]], labels: np.ndarray) -> dict[str, float | None]:
    """Cross-validated AUC of telling the label from one property at a time, and from all of the container.

    rows: n times `properties`. labels: [n]. None where a property does not vary or a class is too small.
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
    found = {name: predictability(np.array(values, float), labels) for name, values in columns.items()}
    container = np.hstack([np.array(columns[name], float).reshape(len(rows), -1) for name in _CONTAINER])
    return {**found, "all": predictability(container, labels)}


def _categories(rows: list[dict[str, Property]], name: str) -> list[list[float]]:
    """One column a value: a tree over ranks of names would need several cuts for one of them."""
    values = sorted({str(row[name]) for row in rows})
    return [[float(row[name] == value) for value in values] for row in rows]


def predictability(features: np.ndarray, labels: np.ndarray) -> float | None:
    """Cross-validated AUC of a small tree; None where the features are constant or a class is too small.

    features: [n, d]. labels: [n], 0 and 1.
    """
    if len(labels) == 0 or (features == features[0]).all() or np.bincount(labels, minlength=2).min() < 5:
        return None
    tree = DecisionTreeClassifier(min_samples_leaf=5, max_leaf_nodes=32, random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(
        roc_auc_score(labels, cross_val_predict(tree, features, labels, cv=folds, method="predict_proba")[:, 1])
    )


def tells(auc: float | None, negatives: int, positives: int) -> bool:
    """Whether an AUC is a shortcut: above `SHORTCUT_AUC`, and above the 97.5th percentile of chance.

    The standard deviation of the AUC of chance is that of the Mann-Whitney U: sqrt((a + b + 1) / (12 a b)).
    """
    if auc is None or not negatives * positives:
        return False
    deviation = math.sqrt((negatives + positives + 1) / (12 * negatives * positives))
    return auc > max(SHORTCUT_AUC, 0.5 + 1.96 * deviation)
