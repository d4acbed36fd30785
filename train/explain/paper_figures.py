"""Several runs on the same slices: what figures 4 to 7 and the attended-region table of Garg et al. 2020 show.

Networks and their Modified forms are found among the runs by their architecture. Of phantoms the lesions are known and
outlined, and figure 7 sets a slice beside itself without its lesions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.dataset import Dataset
from edge_ct.errors import EdgeCTError
from edge_ct.network_analysis import receptive_field
from edge_ct.phantom import Phantom, make_slice
from edge_ct.system.progress import Progress

from ..zoo.build import MODIFIED
from . import activations, attended, grad_cam, network, sanity_checks

SIZE = 224  # of the phantoms, px
STAGES = 6  # layers along the depth


@dataclass(frozen=True, eq=False)
class Views:
    """The slices that all runs are shown. pixels: uint8 [h, w] each; labels: [n]; lesions: bool [h, w], or None.

    beside: indices of the positive slice and the negative one of figure 7.
    """

    pixels: tuple[np.ndarray, ...]
    labels: np.ndarray
    lesions: tuple[np.ndarray | None, ...]
    classes: tuple[str, str]
    beside: tuple[int, int]

    def first(self, label: int, count: int) -> list[int]:
        """The first `count` slices of a class, without the twin of figure 7."""
        own = [int(i) for i in np.flatnonzero(self.labels == label) if label or i != self.beside[1]]
        return own[:count]


@dataclass(frozen=True, eq=False)
class Seen:
    """What one run makes of them. maps: Grad-CAM, float32 [n, h, w]; centres: where their cells look; p: uncalibrated.

    responses: of its layers along the depth, to the two slices of `Views.beside`.
    """

    name: str
    architecture: str
    layer: str
    maps: np.ndarray
    centres: receptive_field.Centres
    p: np.ndarray
    responses: tuple[activations.Response, ...]

    def right(self, views: Views) -> int:
        """How many slices it calls what they are, at 0.5."""
        return int(((self.p >= 0.5) == (views.labels == 1)).sum())


class NetworkRow(msgspec.Struct, frozen=True):
    """One run of the table: right of n slices; cells: of its map.

    hits: of `called` slices with known lesions that it calls positive, those whose map is strongest at a lesion
    (`faithful.points_at`); hits_by_chance: how many would be, were every point as likely as another. None of slices
    whose lesions are not known.
    """

    network: str
    layer: str
    cells: int
    n: int
    right: int
    called: int | None
    hits: int | None
    hits_by_chance: float | None


def of_phantoms(per_class: int, seed: int = sanity_checks.SEED) -> Views:
    """`per_class` positive and as many negative phantoms of other patients, and the first positive one's twin."""
    positive = sanity_checks.phantoms(per_class, SIZE, seed)
    negative = [make_slice(2 * k, 3 + k % 3, False, SIZE, seed) for k in range(per_class)]
    first = positive[0]
    twin = make_slice(int(first.patient.rpartition("-")[2]), first.index, False, SIZE, seed)
    shown: list[Phantom] = [*positive, *negative, twin]
    return Views(
        tuple(one.image for one in shown),
        np.array([int(one.positive) for one in shown]),
        tuple(one.lesion if one.positive else None for one in shown),
        ("negative phantoms", "positive phantoms"),
        (0, len(shown) - 1),
    )


def of_slices(dataset: Dataset, pixels: Sequence[np.ndarray]) -> Views:
    """Labelled slices. Raises `EdgeCTError` where a class is missing."""
    beside = [int(own[0]) if len(own := np.flatnonzero(dataset.labels == value)) else -1 for value in (1, 0)]
    if min(beside) < 0:
        raise EdgeCTError(f"{dataset.name}: figures take slices of both classes")
    none = (None,) * len(pixels)
    return Views(tuple(pixels), np.asarray(dataset.labels), none, dataset.classes, (beside[0], beside[1]))


def look(runs: Sequence[Path], views: Views, cells: int, progress: Progress) -> list[Seen]:
    """Each run in turn. cells: its deepest layer with at least so many cells a side is mapped."""
    found = []
    with progress.bar("looking", len(runs)) as on_done:
        for folder in runs:
            own = network.load(folder)
            images = np.stack([own.preprocess(one) for one in views.pixels])
            layer = own.deepest(cells)
            maps = grad_cam.maps(own, images, "gradcam", layer.name)
            p = 1 / (1 + np.exp(-own.log_odds(images)))
            along = activations.along(own, STAGES)
            responses = activations.responses(own, images[list(views.beside)], along, 1)
            architecture = own.run.info.network.architecture
            found.append(Seen(own.name, architecture, layer.name, maps, own.centres(layer.name), p, tuple(responses)))
            on_done(1)
    return found


def pairs(seen: Sequence[Seen]) -> list[tuple[Seen, Seen | None]]:
    """Each base network with its Modified form; None where there is none. A Modified form alone is left out."""
    modified = {one.architecture: one for one in seen if one.architecture.startswith(MODIFIED)}
    return [(one, modified.get(MODIFIED + one.architecture)) for one in seen if one.architecture not in modified]


def row(one: Seen, views: Views) -> NetworkRow:
    """What one run makes of the slices, in numbers."""
    found = [
        sanity_checks.points_at(one.maps[i], lesion, one.centres)
        for i, lesion in enumerate(views.lesions)
        if lesion is not None and one.p[i] >= 0.5
    ]
    known = any(lesion is not None for lesion in views.lesions)
    pointing = (len(found), sum(hit for hit, _ in found), sum(share for _, share in found)) if known else (None,) * 3
    return NetworkRow(one.name, one.layer, one.maps.shape[1], len(one.p), one.right(views), *pointing)


def table(seen: Sequence[Seen], views: Views) -> list[attended.Attention]:
    """Mean intensity of the attended region, of each pair and class."""
    found = []
    for base, modified in pairs(seen):
        if modified is None:
            continue
        own = attended.intensities(base.maps, modified.maps, SIZE)
        for value, label in (*enumerate(views.classes), (None, "both")):
            chosen = np.ones(len(views.labels), bool) if value is None else views.labels == value
            found.append(
                attended.summarise(f"{base.name} / {modified.name}", label, own.base[chosen], own.modified[chosen])
            )
    return found
