"""What a decision rests on: the class map, at no extra cost, or occlusion where the graph has none."""

from __future__ import annotations

import numpy as np

from edge_ct.classifier import Classifier, Judgement
from edge_ct.network_analysis.occlusion import occlusion_map as evidence_of_patches

from .heatmap import Heat, of_class_map


def heat_of(judgement: Judgement, classifier: Classifier, budget: float = 2.0) -> Heat | None:
    """The heat map of a judgement; None for a slice that was not judged.

    budget: seconds that occlusion may take.
    """
    if judgement.slice is None or judgement.outputs is None or judgement.result.decision == "rejected":
        return None
    class_map = judgement.outputs.class_map
    if class_map is not None:
        return of_class_map(class_map, classifier.manifest)
    return occlusion(classifier, judgement.slice.pixels, budget)


def occlusion(classifier: Classifier, pixels: np.ndarray, budget: float = 2.0) -> Heat:
    """What the calibrated log-odds lose with each patch. pixels: uint8 [h, w]."""
    calibration = classifier.manifest.calibration

    def log_odds(images: np.ndarray) -> np.ndarray:
        logits = np.stack([classifier.infer(image)[1].logits for image in images]).astype(np.float64)
        odds = calibration.slope * (logits[:, 1] - logits[:, 0]) + calibration.intercept
        return np.where(np.isfinite(odds), odds, 0.0)

    return Heat(evidence_of_patches(log_odds, classifier.manifest.preprocess(pixels), budget), "occlusion")
