"""The evidence behind a decision: from the class map at no extra cost, or by occlusion if the graph has none."""

from __future__ import annotations

import numpy as np

from edge_ct.classifier import Classifier, Judgement
from edge_ct.network_analysis.occlusion import occlusion_map
from edge_ct.network_analysis.receptive_field import centres_in_slice

from .heatmap import Heat, map_heat


def heat_of(judgement: Judgement, classifier: Classifier, budget: float = 2.0) -> Heat | None:
    """Return the heat map of a judgement.

    Args:
        judgement: The judgement.
        classifier: The classifier that made it.
        budget: Maximum time in seconds for occlusion.

    Returns:
        The heat map; None for a rejected slice.
    """
    if judgement.slice is None or judgement.outputs is None or judgement.result.decision == "rejected":
        return None
    heat = map_heat(judgement, classifier.manifest)
    return heat if heat is not None else occlusion_heat(classifier, judgement.slice.pixels, budget)


def occlusion_heat(classifier: Classifier, pixels: np.ndarray, budget: float = 2.0) -> Heat:
    """Return the calibrated log-odds that are lost when each patch of a slice is blurred.

    Args:
        classifier: The classifier.
        pixels: uint8 [h, w].
        budget: Maximum time in seconds.
    """
    calibration = classifier.manifest.calibration

    def log_odds(images: np.ndarray) -> np.ndarray:
        logits = np.stack([classifier.infer(image)[1].logits for image in images]).astype(np.float64)
        odds = calibration.slope * (logits[:, 1] - logits[:, 0]) + calibration.intercept
        return np.where(np.isfinite(odds), odds, 0.0)

    preprocess = classifier.manifest.preprocess
    region = preprocess.region(pixels)
    evidence = occlusion_map(log_odds, preprocess.resized(pixels, region), budget)
    return Heat(evidence, "occlusion", centres_in_slice(None, evidence.shape, region, pixels.shape))
