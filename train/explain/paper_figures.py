"""Several runs on the same slices: the content of figures 4 to 7 and the attended-region table of Garg et al. 2020.

Networks are paired with their Modified forms by architecture. The lesions of phantoms are known and outlined, and
figure 7 shows a phantom beside the same phantom without its lesions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.dataset import Dataset
from edge_ct.errors import EdgeCTError
from edge_ct.network_analysis.receptive_field import Centres
from edge_ct.phantom import Phantom, make_slice
from edge_ct.system.progress import Progress

from ..zoo.architectures import MODIFIED_PREFIX
from .activations import LayerResponse, layers_along_depth, measure_responses
from .attended import AttentionRow, measure_intensities, summarise_pair
from .grad_cam import compute_maps
from .network import load_network
from .sanity_checks import SEED, make_positive_phantoms, points_at

PHANTOM_SIZE = 224  # pixels
STAGES = 6  # layers along the depth


@dataclass(frozen=True, eq=False)
class FigureSlices:
    """The n slices that all runs are shown.

    Attributes:
        pixels: uint8 [h, w] each.
        labels: [n]; 1 is positive.
        lesions: Masks of known lesions, bool [h, w] each, or None.
        classes: Names of the negative and the positive class.
        beside: Indices of the positive and the negative slice of figure 7.
    """

    pixels: tuple[np.ndarray, ...]
    labels: np.ndarray
    lesions: tuple[np.ndarray | None, ...]
    classes: tuple[str, str]
    beside: tuple[int, int]

    def first(self, label: int, count: int) -> list[int]:
        """Return the indices of the first `count` slices of a class, without the negative slice of figure 7."""
        indices = [int(i) for i in np.flatnonzero(self.labels == label) if label or i != self.beside[1]]
        return indices[:count]


@dataclass(frozen=True, eq=False)
class RunMaps:
    """What one run gives for the n slices.

    Attributes:
        name: Name of the run.
        architecture: Name of its architecture.
        layer: Name of the mapped layer.
        maps: Grad-CAM, float32 [n, h, w].
        centres: Measured centres of the cells.
        p: Uncalibrated probability of COVID-19, float64 [n].
        responses: Activation maps of layers along the depth, of the two slices `FigureSlices.beside`.
    """

    name: str
    architecture: str
    layer: str
    maps: np.ndarray
    centres: Centres
    p: np.ndarray
    responses: tuple[LayerResponse, ...]

    def right(self, slices: FigureSlices) -> int:
        """Return the number of slices that are classified correctly at probability 0.5."""
        return int(((self.p >= 0.5) == (slices.labels == 1)).sum())


class NetworkRow(msgspec.Struct, frozen=True):
    """One run in the table of networks.

    Attributes:
        network: Name of the run.
        layer: Name of the mapped layer.
        cells: Cells per side of the map.
        n: Number of slices.
        right: Number of slices that are classified correctly.
        called: Number of slices with known lesions that are called positive; None if no lesions are known.
        hits: How many of these have the strongest point of their map at a lesion (`sanity_checks.points_at`).
        hits_by_chance: Expected number of hits if every point were equally likely.
    """

    network: str
    layer: str
    cells: int
    n: int
    right: int
    called: int | None
    hits: int | None
    hits_by_chance: float | None


def phantom_slices(per_class: int, seed: int = SEED) -> FigureSlices:
    """Draw phantoms, and the first positive one again without its lesions.

    Args:
        per_class: Number of positive phantoms, and of negative ones of other patients.
        seed: Seed of the phantoms.
    """
    positive = make_positive_phantoms(per_class, PHANTOM_SIZE, seed)
    negative = [make_slice(2 * k, 3 + k % 3, False, PHANTOM_SIZE, seed) for k in range(per_class)]
    first = positive[0]
    twin = make_slice(int(first.patient.rpartition("-")[2]), first.index, False, PHANTOM_SIZE, seed)
    phantoms: list[Phantom] = [*positive, *negative, twin]
    return FigureSlices(
        tuple(phantom.image for phantom in phantoms),
        np.array([int(phantom.positive) for phantom in phantoms]),
        tuple(phantom.lesion if phantom.positive else None for phantom in phantoms),
        ("negative phantoms", "positive phantoms"),
        (0, len(phantoms) - 1),
    )


def labelled_slices(dataset: Dataset, pixels: Sequence[np.ndarray]) -> FigureSlices:
    """Return labelled slices whose lesions are not known.

    Args:
        dataset: Labels and classes of the slices.
        pixels: uint8 [h, w] each, in the same order.

    Raises:
        EdgeCTError: A class has no slice.
    """
    first = [np.flatnonzero(dataset.labels == value)[:1] for value in (1, 0)]
    if not all(len(indices) for indices in first):
        raise EdgeCTError(f"{dataset.name}: the figures need slices of both classes")
    positive, negative = (int(indices[0]) for indices in first)
    none = (None,) * len(pixels)
    return FigureSlices(tuple(pixels), np.asarray(dataset.labels), none, dataset.classes, (positive, negative))


def map_runs(runs: Sequence[Path], slices: FigureSlices, cells: int, progress: Progress) -> list[RunMaps]:
    """Compute the maps and layer responses of each run.

    Args:
        runs: Run folders.
        slices: The slices to map.
        cells: The deepest layer with at least this many cells per side is mapped.
        progress: Where progress is shown.
    """
    mapped = []
    with progress.bar("mapping runs", len(runs)) as on_done:
        for folder in runs:
            network = load_network(folder)
            images = np.stack([network.preprocess(pixels) for pixels in slices.pixels])
            layer = network.deepest(cells)
            responses = measure_responses(
                network, images[list(slices.beside)], layers_along_depth(network, STAGES), filters=1
            )
            mapped.append(
                RunMaps(
                    name=network.name,
                    architecture=network.run.info.network.architecture,
                    layer=layer.name,
                    maps=compute_maps(network, images, "gradcam", layer.name),
                    centres=network.centres(layer.name),
                    p=1 / (1 + np.exp(-network.log_odds(images))),
                    responses=tuple(responses),
                )
            )
            on_done(1)
    return mapped


def pair_with_modified(runs: Sequence[RunMaps]) -> list[tuple[RunMaps, RunMaps | None]]:
    """Pair each base network with its Modified form, or None; a Modified form without its base is left out."""
    modified = {run.architecture: run for run in runs if run.architecture.startswith(MODIFIED_PREFIX)}
    return [(run, modified.get(MODIFIED_PREFIX + run.architecture)) for run in runs if run.architecture not in modified]


def network_row(run: RunMaps, slices: FigureSlices) -> NetworkRow:
    """Count what one run classifies correctly and how often its maps point at a lesion."""
    pointing = [
        points_at(run.maps[i], lesion, run.centres)
        for i, lesion in enumerate(slices.lesions)
        if lesion is not None and run.p[i] >= 0.5
    ]
    known = any(lesion is not None for lesion in slices.lesions)
    return NetworkRow(
        network=run.name,
        layer=run.layer,
        cells=run.maps.shape[1],
        n=len(run.p),
        right=run.right(slices),
        called=len(pointing) if known else None,
        hits=sum(hit for hit, _ in pointing) if known else None,
        hits_by_chance=sum(share for _, share in pointing) if known else None,
    )


def attended_rows(runs: Sequence[RunMaps], slices: FigureSlices) -> list[AttentionRow]:
    """Measure the mean intensity of the attended region for each pair of networks and each class."""
    rows = []
    for base, modified in pair_with_modified(runs):
        if modified is None:
            continue
        measured = measure_intensities(base.maps, modified.maps, PHANTOM_SIZE)
        names = f"{base.name} / {modified.name}"
        for value, label in (*enumerate(slices.classes), (None, "both")):
            chosen = np.ones(len(slices.labels), bool) if value is None else slices.labels == value
            rows.append(summarise_pair(names, label, measured.base[chosen], measured.modified[chosen]))
    return rows
