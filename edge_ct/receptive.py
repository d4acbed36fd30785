"""Where the cells of a map look, and the map enlarged accordingly.

What a cell responds to most does not lie in the middle of its share of the slice: at the frame a cell sees only half of
what others see, and padding on one side shifts them all (Luo et al. 2016, "Understanding the effective receptive field
in deep convolutional neural networks"). Drawn as if it did, evidence at the edge of a lung moves into the chest wall.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

PATCHES = 14  # a side
_GREY, _NOISE = 128, 96  # grey levels
_CHUNK = 28
# Chosen on phantoms that no figure is of. The power leaves out what a cell sees faintly all over the slice. Of what was
# measured half is taken, and half of the middles of equal shares: noise is not what slices show. The bell is in cells.
_POWER, _MEASURED, _BELL = 4, 0.5, 0.85
# What maps answer, float [n, h, w] or [n, h, w, c], to images uint8 [n, s, s, 1].
Respond = Callable[[np.ndarray], np.ndarray]
# Where each row of a map looks, and each column: shares of the side, increasing. None: in the middles of equal shares.
Centres = tuple[float, ...] | None


def centres(respond: Respond, size: int, seed: int = 0) -> Centres:
    """Measure them, of maps of images of `size` px.

    Patches of noise are put into a flat picture, one at a time. A cell looks where the patches are that change it, each
    weighed by a power of the energy of that change; rows and columns are averaged, as networks treat them alike. What
    comes of it is halfway between there and the middle of the cell's equal share.
    None for a map that is not square, that is finer than the patches, or whose cells do not follow each other (those of
    an untrained network, say).
    """
    generator, patches = np.random.default_rng(seed), min(PATCHES, size)
    edges = np.linspace(0, size, patches + 1).round().astype(int)
    flat = np.full((size, size, 1), _GREY, np.uint8)
    base = np.asarray(respond(flat[np.newaxis]), np.float64)[0]
    if base.shape[0] != base.shape[1] or base.shape[0] > patches:
        return None
    energy = np.empty((patches**2, *base.shape[:2]))
    for start in range(0, len(energy), _CHUNK):
        numbers = range(start, min(start + _CHUNK, len(energy)))
        views = np.repeat(flat[np.newaxis], len(numbers), axis=0)
        for view, number in zip(views, numbers, strict=True):
            row, column = divmod(number, patches)
            patch = view[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
            patch += generator.integers(-_NOISE, _NOISE + 1, patch.shape).astype(np.uint8)  # modulo 256: no overflow
        changes = np.asarray(respond(views), np.float64) - base
        energy[numbers.start : numbers.stop] = (changes**2).reshape(*changes.shape[:3], -1).sum(3)
    weights = (energy / max(float(energy.max()), 1e-30)).reshape(patches, patches, *base.shape[:2]) ** _POWER
    weights /= np.maximum(weights.sum((0, 1)), 1e-300)
    middles = (edges[1:] + edges[:-1]) / 2 / size
    down, across = np.einsum("abhw,a->h", weights, middles), np.einsum("abhw,b->w", weights, middles)
    mean = (down + across) / 2 / len(base)
    if not (mean[0] > 0 and (np.diff(mean) > 1e-3).all()):
        return None
    mean = _MEASURED * mean + (1 - _MEASURED) * (np.arange(len(mean)) + 0.5) / len(mean)
    return tuple(round(float(share), 4) for share in mean)


def strongest(heat: np.ndarray, at: Centres = None) -> tuple[float, float]:
    """Where there is most evidence, (down, across) as shares of the side; heat: float [h, h]; at: its `centres`.

    Neighbouring cells see much of the same, and each responds less the further off something is (about as a Gaussian:
    Luo et al. 2016). So a cell's evidence is spread over a bell around where it looks; the place is where their sum is
    largest: between two strong cells, not in the middle of one of them.
    """
    cells = len(heat)
    places = (np.arange(max(256, 2 * cells)) + 0.5) / max(256, 2 * cells)
    looks = np.array(at or (np.arange(cells) + 0.5) / cells)
    bells = np.exp(-(((places[:, np.newaxis] - looks) / (_BELL / cells)) ** 2) / 2)
    down, across = np.unravel_index((bells @ np.asarray(heat, np.float64) @ bells.T).argmax(), (len(places),) * 2)
    return float(places[down]), float(places[across])


def enlarged(heat: np.ndarray, height: int, width: int, at: Centres = None) -> np.ndarray:
    """float [h, w] -> float32 [height, width], bilinear, level beyond the outermost centres. at: its `centres`."""
    heat = np.asarray(heat, np.float32)
    if at is None:
        return np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR))
    across, down = (
        np.interp((np.arange(side) + 0.5) / side, at, np.arange(len(at))).astype(np.float32) for side in (width, height)
    )
    return np.asarray(cv2.remap(heat, *np.meshgrid(across, down), interpolation=cv2.INTER_LINEAR))
