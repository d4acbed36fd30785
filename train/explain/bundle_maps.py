"""Maps of a bundle, computed by the engine that the device runs, and their agreement with the maps of its run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from edge_ct.classifier import Classifier
from edge_ct.errors import EdgeCTError, ModelRejected
from edge_ct.network_analysis.receptive_field import Centres

from .grad_cam import compute_maps
from .map_comparison import iou, rank_correlation, strongest_mask
from .network import RunNetwork

TOP_SHARE = 0.15
METHODS = ("classmap", "occlusion", "rise")


class MapAgreement(msgspec.Struct, frozen=True):
    """Agreement of a bundle's class maps with Grad-CAM of its run.

    Attributes:
        n: Number of slices.
        rank_correlation: Mean rank correlation of the signed maps.
        rank_correlation_least: Lowest rank correlation of a slice.
        top_iou: Mean intersection over union of the strongest 15 % of both maps.
        top_iou_least: Lowest intersection over union of a slice.
    """

    n: int
    rank_correlation: float
    rank_correlation_least: float
    top_iou: float
    top_iou_least: float


class BundleNetwork:
    """A bundle that gives log-odds and class maps."""

    def __init__(self, path: Path) -> None:
        """Open a bundle; raises `ModelRejected` if it cannot be used."""
        self.classifier = Classifier(path)
        self.preprocess = self.classifier.manifest.preprocess
        self.name = self.classifier.identity

    @property
    def has_class_map(self) -> bool:
        """Whether the graph gives a class map."""
        return self.classifier.manifest.tensors.class_map is not None

    def rejection(self, path: Path) -> str | None:
        """Return why the bundle rejects a slice; None if it judges it."""
        result = self.classifier.classify(path)
        return result.reason if result.decision == "rejected" else None

    def log_odds(self, images: np.ndarray) -> np.ndarray:
        """Return uncalibrated log-odds, float64 [n], of images uint8 [n, s, s, 1]."""
        logits = [self.classifier.infer(image)[1].logits for image in images]
        return np.asarray(np.diff(np.stack(logits).astype(np.float64), axis=1)[:, 0])

    @property
    def centres(self) -> Centres:
        """Measured centres of the class map's cells."""
        return self.classifier.manifest.map_centres

    def maps(self, images: np.ndarray) -> np.ndarray:
        """Return signed class maps, float32 [n, h, w], of images uint8 [n, s, s, 1].

        Raises:
            ModelRejected: The graph has no class map.
        """
        maps = []
        for image in images:
            class_map = self.classifier.infer(image)[1].class_map
            if class_map is None:
                raise ModelRejected(f"{self.name}: the network has no class map; use --method occlusion or rise")
            maps.append(class_map[..., 1] - class_map[..., 0])
        return np.stack(maps)


def measure_agreement(bundle: BundleNetwork, network: RunNetwork, images: np.ndarray) -> MapAgreement:
    """Compare a bundle's class maps with Grad-CAM of the run it was made of.

    Args:
        bundle: The bundle.
        network: The network of the run.
        images: uint8 [n, s, s, 1].

    Raises:
        EdgeCTError: The two preprocess slices differently, so the bundle was made of another run.
    """
    if bundle.preprocess != network.preprocess:
        raise EdgeCTError(
            f"{bundle.name} and {network.name} preprocess slices differently; name the run that the bundle was made of"
        )
    pairs = list(zip(bundle.maps(images), compute_maps(network, images, "gradcam", signed=True), strict=True))
    ranks = [rank_correlation(first, second) for first, second in pairs]
    tops = [iou(strongest_mask(first, TOP_SHARE), strongest_mask(second, TOP_SHARE)) for first, second in pairs]
    return MapAgreement(len(pairs), float(np.mean(ranks)), min(ranks), float(np.mean(tops)), min(tops))
