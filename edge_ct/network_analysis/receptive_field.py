"""Where the cells of a map look, and maps enlarged accordingly.

The centre of a cell's effective receptive field is not the middle of its equal share of the slice: at the frame a cell
sees half of what others see, and one-sided padding shifts all cells (Luo et al. 2016, "Understanding the effective
receptive field in deep convolutional neural networks"). A map drawn with equal shares moves evidence from the edge of a
lung into the chest wall.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from ..imaging.lung_box import Box

PATCHES = 14  # patches along a side; even, because four are changed at a time
_NOISE = 96  # amplitude, in grey levels
# Chosen on phantoms that appear in no published figure. The power suppresses weak responses all over the slice. A fifth
# of the equal share stabilises cells that respond to little. The width of the bell is in cells.
_POWER, _MEASURED, _BELL = 2, 0.8, 1.1
# A function from images, uint8 [n, s, s, 1], to their maps, float [n, h, w] or [n, h, w, c].
Respond = Callable[[np.ndarray], np.ndarray]
# Where each row of a map looks, then each column, as shares of the side in increasing order. Bundles of earlier
# versions have one list for both. None stands for the middles of equal shares.
Centres = tuple[float, ...] | None


def measure_cell_centres(respond: Respond, slices: np.ndarray, seed: int = 0) -> Centres:
    """Measure where the cells of a map look.

    Patches of the slices are disturbed by noise. A cell looks at the mean position of the patches that change it, each
    weighted by a power of the energy of the change. Four patches, half a side apart, are disturbed at a time, and the
    change of a cell is assigned to the patch nearest to its equal share. A cubic over rows and one over columns smooth
    the effect of the few slices.

    Args:
        respond: The network, as a function from slices to maps.
        slices: Preprocessed slices, uint8 [n, s, s, 1]; the result depends on their content.
        seed: Seed of the noise.

    Returns:
        The centres; None for a map that is not square, that has more cells than there are patches, or whose centres do
        not increase, as in an untrained network.
    """
    generator, size, half = np.random.default_rng(seed), slices.shape[1], PATCHES // 2
    cells, columns = np.shape(respond(slices[:1]))[1:3]
    if columns != cells or cells > PATCHES or size < PATCHES:
        return None
    edges = np.linspace(0, size, PATCHES + 1).round().astype(int)
    energy = np.zeros((half, half, cells, cells))
    for slice_ in slices:
        unchanged = np.asarray(respond(slice_[np.newaxis]), np.float64)
        for row in range(half):
            views = np.repeat(slice_[np.newaxis], half, axis=0)
            for column, view in enumerate(views):
                for down in (row, row + half):
                    for across in (column, column + half):
                        patch = view[edges[down] : edges[down + 1], edges[across] : edges[across + 1]]
                        noise = generator.integers(-_NOISE, _NOISE + 1, patch.shape)
                        patch += noise.astype(np.uint8)  # modulo 256: black and white are not spared
            changes = np.asarray(respond(views), np.float64) - unchanged
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


def centres_in_slice(at: Centres, cells: tuple[int, ...], region: Box, shape: tuple[int, ...]) -> Centres:
    """Return the centres of the cells of a map as shares of the sides of its slice, where the map is of a part of it.

    Args:
        at: The centres as shares of the sides of the part; None for cells that divide it evenly.
        cells: Height and width of the map in cells.
        region: The part of the slice.
        shape: Height and width of the slice in pixels.
    """
    if at is None and (region.top, region.left, region.bottom, region.right) == (0, 0, *shape):
        return None
    down, across = _axes(at, *cells)
    rows = (region.top + down * (region.bottom - region.top)) / shape[0]
    columns = (region.left + across * (region.right - region.left)) / shape[1]
    return (*rows.tolist(), *columns.tolist())


def _axes(at: Centres, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the rows and the columns of a map [height, width] look."""
    if at is None:
        return (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    return np.array(at[:height]), np.array(at[-width:])


def strongest_point(heat: np.ndarray, at: Centres = None) -> tuple[float, float]:
    """Return the point with the most evidence.

    Neighbouring cells see overlapping areas, and the response of a cell falls with distance about as a Gaussian (Luo et
    al. 2016). The evidence of each cell is therefore spread over a bell around its centre, and the point is the maximum
    of the sum: it lies between two strong cells, not in the middle of one. Evidence against the class is left out,
    unless there is no other.

    Args:
        heat: Evidence of each cell, float [h, h].
        at: The centres of the cells.

    Returns:
        The position (down, across) as shares of the side.
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
    """Enlarge a map, float [h, w] -> float32 [height, width], by bilinear interpolation between its centres.

    Outside the outermost centres, where no cell looks, the map fades to zero at the frame.

    Args:
        heat: The map.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        at: The centres of the cells; with None the map reaches the frame.
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
