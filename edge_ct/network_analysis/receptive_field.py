"""Where the cells of a map look, and the map enlarged accordingly.

What a cell responds to most does not lie in the middle of its share of the slice: at the frame a cell sees only half of
what others see, and padding on one side shifts them all (Luo et al. 2016, "Understanding the effective receptive field
in deep convolutional neural networks"). Drawn as if it did, evidence at the edge of a lung moves into the chest wall.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

PATCHES = 14  # a side; even, as four are changed at a time
_NOISE = 96  # grey levels
# Chosen on phantoms that no figure is of. The power leaves out what a cell sees faintly all over the slice. A fifth of
# the middles of equal shares keeps a cell that responds to little from wandering. The bell is in cells.
_POWER, _MEASURED, _BELL = 2, 0.8, 1.1
# What maps answer, float [n, h, w] or [n, h, w, c], to images uint8 [n, s, s, 1].
Respond = Callable[[np.ndarray], np.ndarray]
# Where each row of a map looks, then each column: shares of the side, increasing within both. Bundles of earlier
# versions have one list for both. None: in the middles of equal shares.
Centres = tuple[float, ...] | None


def measure_cell_centres(respond: Respond, slices: np.ndarray, seed: int = 0) -> Centres:
    """Measure them on slices, uint8 [n, s, s, 1], as a network sees them: what it looks at depends on what is there.

    Noise is put into patches of the slices. A cell looks where the patches are that change it, each weighed by a power
    of the energy of that change over the slices. Four patches are changed at a time, half a side apart, and a cell's
    change is put down to the one that is nearest to its equal share. Rows, and columns, are put on a cubic, which
    levels out what the few slices happen to show.
    None for a map that is not square, that is finer than the patches, or whose cells do not follow each other (those of
    an untrained network, say).
    """
    generator, size, half = np.random.default_rng(seed), slices.shape[1], PATCHES // 2
    cells, columns = np.shape(respond(slices[:1]))[1:3]
    if columns != cells or cells > PATCHES or size < PATCHES:
        return None
    edges = np.linspace(0, size, PATCHES + 1).round().astype(int)
    energy = np.zeros((half, half, cells, cells))
    for slice_ in slices:
        own = np.asarray(respond(slice_[np.newaxis]), np.float64)
        for row in range(half):
            views = np.repeat(slice_[np.newaxis], half, axis=0)
            for column, view in enumerate(views):
                for down in (row, row + half):
                    for across in (column, column + half):
                        patch = view[edges[down] : edges[down + 1], edges[across] : edges[across + 1]]
                        noise = generator.integers(-_NOISE, _NOISE + 1, patch.shape)
                        patch += noise.astype(np.uint8)  # modulo 256: black and white are not spared
            changes = np.asarray(respond(views), np.float64) - own
            energy[row] += (changes**2).reshape(half, cells, cells, -1).sum(3)
    weights = (energy / max(float(energy.max()), 1e-30)) ** _POWER
    weights /= np.maximum(weights.sum((0, 1)), 1e-300)
    middles, shares = (edges[1:] + edges[:-1]) / 2 / size, (np.arange(cells) + 0.5) / cells
    pairs = middles.reshape(2, half, 1)
    nearest = np.where(np.abs(pairs[0] - shares) <= np.abs(pairs[1] - shares), pairs[0], pairs[1])  # [half, cells]
    found: list[float] = []
    for looks in (np.einsum("abhw,ah->h", weights, nearest), np.einsum("abhw,bw->w", weights, nearest)):
        cubic = np.polynomial.Polynomial.fit(shares, looks / cells, min(3, cells - 1))(shares)
        if not (cubic[0] > 0 and (np.diff(cubic) > 1e-3).all()):
            return None
        found.extend(round(float(share), 4) for share in _MEASURED * cubic + (1 - _MEASURED) * shares)
    return tuple(found)


def _axes(at: Centres, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where rows and columns of a map [height, width] look."""
    if at is None:
        return (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    return np.array(at[:height]), np.array(at[-width:])


def strongest_point(heat: np.ndarray, at: Centres = None) -> tuple[float, float]:
    """Where there is most evidence, (down, across) as shares of the side; heat: float [h, h]; at: its `centres`.

    Neighbouring cells see much of the same, and each responds less the further off something is (about as a Gaussian:
    Luo et al. 2016). So a cell's evidence is spread over a bell around where it looks; the place is where their sum is
    largest: between two strong cells, not in the middle of one of them. What speaks against is left out, unless there
    is nothing else.
    """
    heat, cells = np.asarray(heat, np.float64), len(heat)
    evidence = np.maximum(heat, 0) if heat.max() > 0 else heat
    places = (np.arange(max(256, 2 * cells)) + 0.5) / max(256, 2 * cells)
    by_row, by_column = (
        np.exp(-(((places[:, np.newaxis] - looks) / (_BELL / cells)) ** 2) / 2) for looks in _axes(at, cells, cells)
    )
    total = by_row @ evidence @ by_column.T
    down, across = np.unravel_index(total.argmax(), total.shape)
    return float(places[down]), float(places[across])


def enlarge_map(heat: np.ndarray, height: int, width: int, at: Centres = None) -> np.ndarray:
    """float [h, w] -> float32 [height, width], bilinear. at: its `centres`.

    Beyond the outermost of them, where no cell looks, it fades to nothing at the frame. Equal shares reach the frame.
    """
    heat = np.asarray(heat, np.float32)
    if at is None:
        return np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR))
    down, across = (
        np.interp((np.arange(side) + 0.5) / side, [0, *looks, 1], np.arange(len(looks) + 2)).astype(np.float32)
        for side, looks in zip((height, width), _axes(at, *heat.shape), strict=True)
    )
    ringed = cv2.copyMakeBorder(heat, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.remap(ringed, *np.meshgrid(across, down), interpolation=cv2.INTER_LINEAR))
