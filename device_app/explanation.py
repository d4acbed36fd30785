"""What a decision rests on: the class map, at no extra cost, or occlusion where the graph has none.

Occlusion (Zeiler and Fergus 2014, section 4.1): a patch of the slice is blurred away, and what the calibrated log-odds
lose by it is that patch's evidence. It is given for each cell as a class map gives it, so that their mean is what all
patches together weigh, and one colour scale serves both. Finer grids take more inferences; the finest that fits the
budget is used.
"""

from __future__ import annotations

import math
from time import perf_counter

import cv2
import numpy as np

from edge_ct.classifier import Classifier, Judgement
from edge_ct.manifest import Calibration

from .heatmap import Heat, evidence

GRIDS = (4, 6, 8, 12, 16)


def heat_of(judgement: Judgement, classifier: Classifier, budget: float = 2.0) -> Heat | None:
    """The heat map of a judgement; None for a slice that was not judged.

    budget: seconds that occlusion may take.
    """
    if judgement.slice is None or judgement.outputs is None or judgement.result.decision == "rejected":
        return None
    class_map = judgement.outputs.class_map
    if class_map is not None:
        return Heat(evidence(class_map, classifier.manifest.calibration), "class map")
    return occlusion(classifier, judgement.slice.pixels, budget)


def occlusion(classifier: Classifier, pixels: np.ndarray, budget: float = 2.0) -> Heat:
    """The evidence of each cell of a grid, by blurring it away. pixels: uint8 [h, w].

    The coarsest grid is always finished, so a slow machine takes longer than `budget` seconds rather than explain
    nothing.
    """
    calibration = classifier.manifest.calibration
    image = classifier.manifest.preprocess(pixels)
    size = image.shape[0]
    side = max(3, size // 4) | 1
    blurred = cv2.blur(image[:, :, 0], (side, side))[:, :, np.newaxis]
    begun = perf_counter()
    base = _log_odds(classifier, image, calibration)
    once = perf_counter() - begun
    cells = max((grid for grid in GRIDS if grid * grid * once <= budget and grid <= size), default=GRIDS[0])
    found = np.empty((cells, cells), np.float32)
    edges = [round(size * i / cells) for i in range(cells + 1)]
    for row in range(cells):
        for column in range(cells):
            hidden = image.copy()
            patch = np.s_[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
            hidden[patch] = blurred[patch]
            found[row, column] = base - _log_odds(classifier, hidden, calibration)
    return Heat(found * np.float32(cells * cells), "occlusion")


def _log_odds(classifier: Classifier, image: np.ndarray, calibration: Calibration) -> float:
    _, outputs = classifier.infer(image)
    odds = calibration.slope * (float(outputs.logits[1]) - float(outputs.logits[0])) + calibration.intercept
    return odds if math.isfinite(odds) else 0.0
