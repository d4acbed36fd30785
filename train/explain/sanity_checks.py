"""Checks that a map which ignores the network or the slice does not pass.

Deletion and insertion: Petsiuk et al. 2018. Scrambled weights: Adebayo et al. 2018. Pointing game: Zhang et al. 2016.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import msgspec
import numpy as np

from edge_ct.imaging import lungs
from edge_ct.network_analysis.occlusion import blur
from edge_ct.network_analysis.receptive_field import Centres, enlarge_map, strongest_point
from edge_ct.phantom import Phantom, make_slice
from edge_ct.system import native_output

from .map_comparison import attended_mask, iou, rank_correlation
from .network import LogOdds, RunNetwork

with native_output.captured_native_stderr():
    import keras

STEPS = 20
# Share of the slice's side by which the strongest point may miss a lesion (the original game allows 15 of 500 pixels).
TOLERANCE = 0.03
SEED = 77  # of the phantoms; `data synth` draws others by default
# A map that correlates less than this with the true one after all weights were scrambled depends on the network.
_PASSING_CORRELATION = 0.5
# Images uint8 [n, s, s, 1] -> signed maps, float32 [n, h, w].
MapFunction = Callable[[np.ndarray], np.ndarray]


class DeletionInsertion(msgspec.Struct, frozen=True):
    """Areas under P(COVID-19) while a slice's strongest pixels are blurred away, or brought back.

    A good map has a low deletion and a high insertion.

    Attributes:
        n: Number of slices; the areas are means over them.
        deletion: Area while the strongest pixels are blurred first.
        deletion_random: The same for the map with its cells in random places.
        insertion: Area while the strongest pixels are restored first.
        insertion_random: The same for the map with its cells in random places.
    """

    n: int
    deletion: float
    deletion_random: float
    insertion: float
    insertion_random: float


class ScrambledWeights(msgspec.Struct, frozen=True):
    """Rank correlation of maps with those of the same network after its weights were scrambled from the head down.

    Attributes:
        n: Number of slices.
        share: Share of the layers with weights that were scrambled, one value per step.
        correlation: Mean absolute rank correlation with the true map, one value per step.
    """

    n: int
    share: tuple[float, ...]
    correlation: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """Whether the map changes when all weights are scrambled, as it must."""
        return self.correlation[-1] < _PASSING_CORRELATION


class PointingGame(msgspec.Struct, frozen=True):
    """The pointing game on phantoms, whose lesions are known.

    Attributes:
        n: Number of positive phantoms that the network calls positive.
        hits: Those whose strongest point (`receptive_field.strongest_point`) lies in a lesion or near it.
        hits_by_chance: Expected number of hits if every point were equally likely.
        best_hits: Hits of an ideal map whose cells hold the lesion's share; a coarse map misses, too.
        cells: Cells per side of the map.
        cell_hits: Phantoms whose strongest cell holds a part of a lesion.
        cell_hits_by_chance: Expected number of these if every cell were equally likely.
        tolerance: Distance that counts as near, as a share of the slice's side.
        iou: Mean intersection over union of the attended region with the lesion.
        lung_share: Mean share of the map's energy inside the lungs.
        by_chance: Mean share of the slice that the lungs cover.
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
        """Share of hits; NaN if the network calls no phantom positive."""
        return self.hits / self.n if self.n else float("nan")


class LungShare(msgspec.Struct, frozen=True):
    """Share of the maps' energy inside the lungs.

    Attributes:
        label: The class of the slices.
        n: Number of slices in which lungs were found; the shares are means over them.
        share: Share of the map's energy inside the lungs.
        by_chance: Share of the slice that the lungs cover.
    """

    label: str
    n: int
    share: float
    by_chance: float


def measure_deletion_insertion(
    log_odds: LogOdds, maps: np.ndarray, images: np.ndarray, at: Centres = None, seed: int = 0
) -> DeletionInsertion:
    """Measure deletion and insertion of maps, and of the same maps with their cells in random places.

    Args:
        log_odds: Images -> log-odds of COVID-19.
        maps: [n, h, w].
        images: uint8 [n, s, s, 1].
        at: Measured centres of the maps' cells.
        seed: Seed of the random places.
    """
    generator, rows = np.random.default_rng(seed), []
    for heat, image in zip(maps, images, strict=True):
        shuffled = generator.permutation(heat.reshape(-1)).reshape(heat.shape)
        rows.append([area for values in (heat, shuffled) for area in _areas(log_odds, values, image, at)])
    deletion, insertion, deletion_random, insertion_random = np.mean(rows, axis=0)
    return DeletionInsertion(
        len(images), float(deletion), float(deletion_random), float(insertion), float(insertion_random)
    )


def _areas(log_odds: LogOdds, heat: np.ndarray, image: np.ndarray, at: Centres) -> tuple[float, float]:
    """Return the areas of deletion and insertion of one map, [h, w], on one image, uint8 [s, s, 1]."""
    order = np.argsort(-enlarge_map(heat, image.shape[0], image.shape[1], at), axis=None, kind="stable")
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


def scramble_weights(
    network: RunNetwork,
    maps: Callable[[RunNetwork, np.ndarray], np.ndarray],
    images: np.ndarray,
    steps: int = 4,
    seed: int = 0,
) -> ScrambledWeights:
    """Scramble the weights of a copy of the network from the head down, and compare its maps with the true ones.

    Each kernel is permuted, so that the distribution of its weights stays the same.

    Args:
        network: The network of a run.
        maps: Network and images -> signed maps [n, h, w].
        images: uint8 [n, s, s, 1].
        steps: Number of steps from the head to the first layer.
        seed: Seed of the permutations.
    """
    generator = np.random.default_rng(seed)
    copy = keras.models.clone_model(network.model)
    copy.set_weights(network.model.get_weights())
    other = RunNetwork(network.run, copy, tuple(copy.get_layer(layer.name) for layer in network.layers))
    original = maps(network, images)
    weighted = [layer for layer in reversed(copy.layers) if layer.get_weights()]
    shares, correlations = [], []
    for part in np.array_split(np.arange(len(weighted)), steps):
        for index in part:
            layer = weighted[index]
            layer.set_weights(
                [generator.permutation(values.reshape(-1)).reshape(values.shape) for values in layer.get_weights()]
            )
        pairs = zip(original, maps(other, images), strict=True)
        shares.append(float((part[-1] + 1) / len(weighted)))
        correlations.append(float(np.mean([abs(rank_correlation(first, second)) for first, second in pairs])))
    return ScrambledWeights(len(images), tuple(shares), tuple(correlations))


def measure_lung_share(maps: np.ndarray, pixels: list[np.ndarray], label: str, at: Centres = None) -> LungShare:
    """Measure the share of the maps' positive energy that lies inside the lungs.

    Args:
        maps: [n, h, w]; evidence against COVID-19 is ignored.
        pixels: The slices, uint8 [h, w] each, of any size.
        label: The class of the slices.
        at: Measured centres of the maps' cells.
    """
    shares, chance = [], []
    for heat, slice_pixels in zip(maps, pixels, strict=True):
        fields = lungs.segment(slice_pixels)
        if fields.shows_lung:
            shares.append(_share_inside(heat, fields.mask, at))
            chance.append(float(fields.mask.mean()))
    return LungShare(label, len(shares), _mean(shares), _mean(chance))


def _share_inside(heat: np.ndarray, mask: np.ndarray, at: Centres) -> float:
    energy = np.maximum(enlarge_map(heat, mask.shape[0], mask.shape[1], at), 0)
    total = float(energy.sum())
    return float(energy[mask].sum()) / total if total > 0 else 0.0


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def make_positive_phantoms(n: int, size: int, seed: int = SEED) -> list[Phantom]:
    """Draw positive phantom slices that show a lesion.

    Args:
        n: Number of phantoms; they are of patients 1, 3, 5, ...
        size: Side in pixels.
        seed: Seed of the phantoms.
    """
    phantoms: list[Phantom] = []
    patient = 1
    while len(phantoms) < n:
        phantom = make_slice(patient, 3 + patient // 2 % 3, True, size, seed)
        if phantom.lesion.any():
            phantoms.append(phantom)
        patient += 2
    return phantoms


def play_pointing_game(
    log_odds: LogOdds, maps: MapFunction, images: np.ndarray, shown: list[Phantom], at: Centres = None
) -> PointingGame:
    """Play the pointing game on the phantoms that the network calls positive.

    Args:
        log_odds: Images -> log-odds of COVID-19.
        maps: Images -> signed maps.
        images: What the network sees of the phantoms, uint8 [n, s, s, 1].
        shown: The n phantoms.
        at: Measured centres of the maps' cells.
    """
    positive = log_odds(images) > 0
    phantoms = [phantom for phantom, is_positive in zip(shown, positive, strict=True) if is_positive]
    heats = maps(images[positive]) if phantoms else np.empty((0, 1, 1))
    count = np.zeros(5)
    overlaps, inside, chance = [], [], []
    for heat, phantom in zip(heats, phantoms, strict=True):
        side, cells = len(phantom.image), heat.shape[0]
        ideal = cv2.resize(phantom.lesion.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
        count += (
            *points_at(heat, phantom.lesion, at),
            points_at(ideal, phantom.lesion)[0],
            ideal.flat[heat.argmax()] > 0,
            (ideal > 0).mean(),
        )
        large = enlarge_map(np.maximum(heat, 0), side, side, at)
        overlaps.append(iou(attended_mask(large), phantom.lesion))
        inside.append(_share_inside(heat, phantom.lungs, at))
        chance.append(float(phantom.lungs.mean()))
    hits, hits_by_chance, best_hits, cell_hits, cell_hits_by_chance = count.tolist()
    return PointingGame(
        n=len(phantoms),
        hits=int(hits),
        hits_by_chance=hits_by_chance,
        best_hits=int(best_hits),
        cells=heats.shape[1],
        cell_hits=int(cell_hits),
        cell_hits_by_chance=cell_hits_by_chance,
        tolerance=TOLERANCE,
        iou=_mean(overlaps),
        lung_share=_mean(inside),
        by_chance=_mean(chance),
    )


def points_at(heat: np.ndarray, lesion: np.ndarray, at: Centres = None) -> tuple[bool, float]:
    """Check whether the strongest point of a map lies in a lesion or within `TOLERANCE` of it.

    Args:
        heat: The map, float [a, b].
        lesion: Mask of the lesions, bool [h, w].
        at: Measured centres of the map's cells.

    Returns:
        Whether it does, and the share of all points for which it would.
    """
    near = _dilate(lesion, round(TOLERANCE * len(lesion)))
    y, x = strongest_point(heat, at)
    return bool(near[int(y * near.shape[0]), int(x * near.shape[1])]), float(near.mean())


def _dilate(mask: np.ndarray, reach: int) -> np.ndarray:
    """Return the mask and everything at most `reach` pixels from it, bool [h, w]."""
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= reach)
