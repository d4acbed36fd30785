"""The maps of a bundle, by the engine that the device runs, and how well they agree with those of its run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from edge_ct.classifier import Classifier
from edge_ct.errors import EdgeCTError, ModelRejected
from edge_ct.network_analysis import receptive_field

from . import grad_cam, map_comparison
from .network import Network

TOP = 0.15
METHODS = ("classmap", "occlusion", "rise")


class Agreement(msgspec.Struct, frozen=True):
    """Of the bundle's class map with the run's Grad-CAM, over n slices: rank correlation of the signed maps, and the
    intersection over union of their strongest 15 %; means and the least.
    """

    n: int
    rank_correlation: float
    rank_correlation_least: float
    top_iou: float
    top_iou_least: float


class BundleNetwork:
    """A bundle as something that gives log-odds and class maps."""

    def __init__(self, path: Path) -> None:
        """Raises `ModelRejected`."""
        self.classifier = Classifier(path)
        self.preprocess = self.classifier.manifest.preprocess
        self.name = self.classifier.identity

    @property
    def has_class_map(self) -> bool:
        """Whether its graph gives one."""
        return self.classifier.manifest.tensors.class_map is not None

    def log_odds(self, images: np.ndarray) -> np.ndarray:
        """Uncalibrated log-odds, float64 [n], of images uint8 [n, s, s, 1]."""
        found = [self.classifier.infer(image)[1].logits for image in images]
        return np.diff(np.stack(found).astype(np.float64), axis=1)[:, 0]

    @property
    def centres(self) -> receptive_field.Centres:
        """Where the cells of its class map look."""
        return self.classifier.manifest.map_centres

    def maps(self, images: np.ndarray) -> np.ndarray:
        """Signed class maps, float32 [n, h, w]. Raises `ModelRejected` where the graph has none."""
        found = []
        for image in images:
            own = self.classifier.infer(image)[1].class_map
            if own is None:
                raise ModelRejected(f"{self.name}: its head has no class map; use --method occlusion or rise")
            found.append(own[..., 1] - own[..., 0])
        return np.stack(found)


def agreement(bundle: BundleNetwork, network: Network, images: np.ndarray) -> Agreement:
    """images: uint8 [n, s, s, 1]. Raises `EdgeCTError` where the two do not see slices alike."""
    if bundle.preprocess != network.preprocess:
        raise EdgeCTError(f"{bundle.name} and {network.name} preprocess slices differently; is it the bundle's run?")
    pairs = list(zip(bundle.maps(images), grad_cam.maps(network, images, "gradcam", signed=True), strict=True))
    ranks = [map_comparison.rank_correlation(*pair) for pair in pairs]
    tops = [map_comparison.iou(*(map_comparison.strongest(heat, TOP) for heat in pair)) for pair in pairs]
    return Agreement(len(pairs), float(np.mean(ranks)), min(ranks), float(np.mean(tops)), min(tops))
