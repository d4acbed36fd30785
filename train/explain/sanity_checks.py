"""Do the maps mean anything? Checks that a map which ignores the network, or the slice, does not pass.

Deletion and insertion: Petsiuk et al. 2018. Scrambled weights: Adebayo et al. 2018. Pointing game: Zhang et al. 2016.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import msgspec
import numpy as np

from edge_ct.imaging import lungs
from edge_ct.network_analysis import receptive_field
from edge_ct.network_analysis.occlusion import blur
from edge_ct.phantom import Phantom, make_slice
from edge_ct.system import native_output

from . import map_comparison
from .network import LogOdds, Network

with native_output.captured_native_stderr():
    import keras

STEPS = 20
TOLERANCE = 0.03  # of the side, by which the strongest point may miss (the game's own is 15 px of about 500)
SEED = 77  # of the phantoms; `data synth` draws others by default
# Signed maps, float32 [n, h, w], of images uint8 [n, s, s, 1].
Maps = Callable[[np.ndarray], np.ndarray]


class Curves(msgspec.Struct, frozen=True):
    """Areas under P(COVID-19) as a slice's strongest pixels are blurred away, or brought back; means over n slices.

    A good map has a low deletion and a high insertion. *_random: of the same map with its cells in random places.
    """

    n: int
    deletion: float
    deletion_random: float
    insertion: float
    insertion_random: float


class Scrambled(msgspec.Struct, frozen=True):
    """Rank correlation of maps with those of the same network after weights were scrambled from the head downwards.

    share: of the layers with weights that were scrambled. Means over n slices, without sign.
    """

    n: int
    share: tuple[float, ...]
    correlation: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """The map of a network that knows nothing any more is another map."""
        return self.correlation[-1] < 0.5


class Pointing(msgspec.Struct, frozen=True):
    """On phantoms, whose lesions are known. hits: of n positive slices that the network calls positive, those whose
    strongest point (`receptive.strongest`) lies in a lesion or within `tolerance` of the side of one. hits_by_chance:
    how many would be, were every point as likely as another. best_hits: how many a map would have whose cells hold the
    lesion's share in each: a coarse one misses, too. cell_hits: slices whose strongest cell holds a part of a lesion;
    cell_hits_by_chance: how many would, were every cell as likely as another. iou: of the attended region
    with the lesion, mean. lung_share: of the map's energy inside the lungs, mean; by_chance: the lungs' share of the
    slice.
    """

    n: int
    hits: int
    hits_by_chance: float
    best_hits: int
    cells: int
    cell_hits: int
    cell_hits_by_chance: float
    tolerance: float
    iou: float
    lung_share: float
    by_chance: float

    @property
    def rate(self) -> float:
        """hits / n."""
        return self.hits / self.n if self.n else float("nan")


class LungShare(msgspec.Struct, frozen=True):
    """Share of the maps' energy inside the lungs, mean over n slices in which lungs were found; by_chance: theirs."""

    label: str
    n: int
    share: float
    by_chance: float


def curves(
    log_odds: LogOdds, maps: np.ndarray, images: np.ndarray, at: receptive_field.Centres = None, seed: int = 0
) -> Curves:
    """Deletion and insertion. maps: [n, h, w]; at: where their cells look; images: uint8 [n, s, s, 1]."""
    generator, rows = np.random.default_rng(seed), []
    for heat, image in zip(maps, images, strict=True):
        shuffled = generator.permutation(heat.reshape(-1)).reshape(heat.shape)
        rows.append([area for own in (heat, shuffled) for area in _areas(log_odds, own, image, at)])
    deletion, insertion, deletion_random, insertion_random = np.mean(rows, axis=0)
    return Curves(len(images), float(deletion), float(deletion_random), float(insertion), float(insertion_random))


def _areas(log_odds: LogOdds, heat: np.ndarray, image: np.ndarray, at: receptive_field.Centres) -> tuple[float, float]:
    order = np.argsort(-receptive_field.enlarge_map(heat, *image.shape[:2], at), axis=None, kind="stable")
    hidden, flat = blur(image).reshape(-1), image.reshape(-1)
    deleted, inserted = [], []
    for step in range(STEPS + 1):
        changed = order[: round(step / STEPS * len(order))]
        less, more = flat.copy(), hidden.copy()
        less[changed], more[changed] = hidden[changed], flat[changed]
        deleted.append(less.reshape(image.shape))
        inserted.append(more.reshape(image.shape))
    p = 1 / (1 + np.exp(-log_odds(np.stack(deleted + inserted))))
    return float(np.trapezoid(p[: STEPS + 1]) / STEPS), float(np.trapezoid(p[STEPS + 1 :]) / STEPS)


def scrambled(
    network: Network,
    maps: Callable[[Network, np.ndarray], np.ndarray],
    images: np.ndarray,
    steps: int = 4,
    seed: int = 0,
) -> Scrambled:
    """Scramble a copy's weights from the head downwards, in `steps` steps, and compare its signed maps.

    maps: of a network and images uint8 [n, s, s, 1]. Kernels are permuted, so that their distribution stays.
    """
    generator = np.random.default_rng(seed)
    copy = keras.models.clone_model(network.model)
    copy.set_weights(network.model.get_weights())
    other = Network(network.run, copy, tuple(copy.get_layer(layer.name) for layer in network.layers))
    original = maps(network, images)
    weighted = [layer for layer in reversed(copy.layers) if layer.get_weights()]
    shares, correlations = [], []
    for part in np.array_split(np.arange(len(weighted)), steps):
        for index in part:
            layer = weighted[index]
            layer.set_weights(
                [generator.permutation(own.reshape(-1)).reshape(own.shape) for own in layer.get_weights()]
            )
        found = [
            abs(map_comparison.rank_correlation(*pair)) for pair in zip(original, maps(other, images), strict=True)
        ]
        shares.append(float((part[-1] + 1) / len(weighted)))
        correlations.append(float(np.mean(found)))
    return Scrambled(len(images), tuple(shares), tuple(correlations))


def lung_share(maps: np.ndarray, pixels: list[np.ndarray], label: str, at: receptive_field.Centres = None) -> LungShare:
    """maps: [n, h, w]; at: where their cells look; pixels: the slices, uint8 [h, w] each, of any size.

    What speaks against COVID-19 is left out.
    """
    shares, chance = [], []
    for heat, own in zip(maps, pixels, strict=True):
        found = lungs.segment(own)
        if found.found:
            shares.append(_inside(heat, found.mask, at))
            chance.append(float(found.mask.mean()))
    mean = [float(np.mean(values)) if values else float("nan") for values in (shares, chance)]
    return LungShare(label, len(shares), *mean)


def _inside(heat: np.ndarray, mask: np.ndarray, at: receptive_field.Centres) -> float:
    energy = np.maximum(receptive_field.enlarge_map(heat, *mask.shape, at), 0)
    total = float(energy.sum())
    return float(energy[mask].sum()) / total if total > 0 else 0.0


def phantoms(n: int, size: int, seed: int = SEED) -> list[Phantom]:
    """Positive phantom slices that show a lesion, of patients 1, 3, 5, ...; their looks depend on the seed."""
    found: list[Phantom] = []
    patient = 1
    while len(found) < n:
        one = make_slice(patient, 3 + patient // 2 % 3, True, size, seed)
        if one.lesion.any():
            found.append(one)
        patient += 2
    return found


def pointing(
    log_odds: LogOdds,
    maps: Maps,
    images: np.ndarray,
    shown: list[Phantom],
    at: receptive_field.Centres = None,
) -> Pointing:
    """The pointing game. images: uint8 [n, s, s, 1], what the network sees of the phantoms `shown`.

    at: where the cells look.
    """
    called = log_odds(images) > 0
    chosen = [one for one, own in zip(shown, called, strict=True) if own]
    found = maps(images[called]) if chosen else np.empty((0, 1, 1))
    count = np.zeros(5)
    overlaps, inside, chance = [], [], []
    for heat, one in zip(found, chosen, strict=True):
        side, cells = len(one.image), heat.shape[0]
        ideal = cv2.resize(one.lesion.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
        count += (
            *points_at(heat, one.lesion, at),
            points_at(ideal, one.lesion)[0],
            ideal.flat[heat.argmax()] > 0,
            (ideal > 0).mean(),
        )
        large = receptive_field.enlarge_map(np.maximum(heat, 0), side, side, at)
        overlaps.append(map_comparison.iou(map_comparison.attended(large), one.lesion))
        inside.append(_inside(heat, one.lungs, at))
        chance.append(float(one.lungs.mean()))
    means = [float(np.mean(values)) if values else float("nan") for values in (overlaps, inside, chance)]
    hits, random, best, cell_hits, cell_random = count.tolist()
    size = found.shape[1]
    return Pointing(len(chosen), int(hits), random, int(best), size, int(cell_hits), cell_random, TOLERANCE, *means)


def points_at(heat: np.ndarray, lesion: np.ndarray, at: receptive_field.Centres = None) -> tuple[bool, float]:
    """Whether a map's strongest point is in a lesion or within `TOLERANCE` of one, and the share of points that are.

    heat: float [a, a]; lesion: bool [h, w]; at: where the cells look.
    """
    near = _within(lesion, round(TOLERANCE * len(lesion)))
    return _at(near, receptive_field.strongest_point(heat, at)), float(near.mean())


def _at(mask: np.ndarray, place: tuple[float, float]) -> bool:
    return bool(mask[int(place[0] * mask.shape[0]), int(place[1] * mask.shape[1])])


def _within(mask: np.ndarray, reach: int) -> np.ndarray:
    """The mask and all that is at most `reach` pixels from it, bool [h, w]."""
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= reach)
