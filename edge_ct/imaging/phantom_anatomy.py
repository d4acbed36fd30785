"""The anatomy of phantom slices: habitus, organs, bones, vessels, and benign findings of both classes.

Patient coordinates: millimetres, origin in mid-chest, x to the picture's right (the patient's left), y posterior, z
from 0 (above the apices) to 1 (below the domes of the diaphragm). Densities in Hounsfield units (HU).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

_AIR, _FAT, BLOOD, _MUSCLE, _MARROW, _CORTEX = -1000.0, -105.0, 40.0, 50.0, 190.0, 430.0

# Outline of one lung of a mean adult, mm: from the anterior junction round the wall to the spine and the hilum.
_APEX = ((26, -14), (42, -26), (60, -20), (74, -4), (79, 14), (75, 32), (64, 46), (48, 52), (32, 45), (24, 32),
         (22, 18), (22, 6), (22, 0), (23, -8))  # fmt: skip
_MIDDLE = ((10, -74), (38, -84), (80, -72), (112, -38), (124, 4), (117, 46), (93, 76), (58, 88), (30, 77), (23, 54),
           (24, 28), (34, 6), (30, -18), (17, -46))  # fmt: skip


class Habitus:
    """Properties that all slices of one patient share: anatomy, lungs without lesions, scanner and display."""

    def __init__(self, rng: np.random.Generator) -> None:
        width = rng.uniform(0.9, 1.1)
        self.chest = np.array([width, width * rng.uniform(0.9, 1.12)])  # width and depth in mean adults
        self.fat = min(6 + rng.gamma(2.0, 5.0), 38.0)  # mm
        self.heart = rng.uniform(0.85, 1.15)
        self.wobble = rng.normal(0, 2.2, (2, 14, 2))  # mm, deviation of each lung outline from the mean
        self.aeration = rng.uniform(-885, -765)  # HU
        self.gravity = rng.uniform(20, 110)  # HU from the anterior to the posterior pleura
        self.haze = sometimes(rng, 0.4, 60, 260)  # dependent hypoventilation, HU at the posterior pleura
        self.mosaic = rng.uniform(8, 26) + sometimes(rng, 0.25, 10, 35)  # HU, lobular perfusion
        self.emphysema = sometimes(rng, 0.2, 0.3, 1.0)
        self.calibre = rng.uniform(0.75, 1.2)  # of the vessels
        self.blood = BLOOD + sometimes(rng, 0.4, 100, 260)  # HU in heart and great vessels, with or without contrast
        self.nodules, self.scars = sometimes(rng, 0.3, 0.5, 2.5), sometimes(rng, 0.3, 0.4, 1.6)  # mean number a slice
        self.table = rng.random() < 0.6
        self.noise = np.exp(rng.uniform(np.log(9), np.log(42)))  # HU
        self.grain, self.blur = rng.uniform(0.5, 1.1), rng.uniform(0.45, 0.95)  # px
        self.sharpening = sometimes(rng, 0.35, 0.3, 1.0)
        self.window = rng.uniform(-700, -500), rng.uniform(1200, 1800)  # centre and width, HU
        field = 2 * (146 * width + self.fat) * rng.uniform(0.92, 1.15)
        self.field = np.array([field, field * rng.uniform(0.86, 1.06)])  # mm across and down the picture
        self.shift, self.tilt = rng.uniform(-8, 8, 2), rng.normal(0, 0.05)  # mm, radians
        self.circle = rng.random() < 0.35  # black outside the circle of reconstruction
        self.bars = sometimes(rng, 0.3, 0.02, 0.05)  # black margin above and below, share of the picture


@dataclass(frozen=True)
class Frame:
    """The mapping from patient millimetres to pixels.

    Attributes:
        size: Side of the picture in pixels.
        matrix: Affine matrix, float [2, 3].
        scale: Pixels per millimetre.
    """

    size: int
    matrix: Points
    scale: float

    @classmethod
    def for_habitus(cls, habitus: Habitus, size: int) -> Frame:
        cos, sin = np.cos(habitus.tilt), np.sin(habitus.tilt)
        zoom = np.diag(size / habitus.field)
        offset = (size - 1) / 2 + zoom @ (habitus.shift - (0.0, 6.0))
        matrix = np.column_stack([zoom @ np.array([[cos, -sin], [sin, cos]]), offset])
        return cls(size, matrix, float(np.sqrt(zoom[0, 0] * zoom[1, 1])))

    def grid(self) -> tuple[Floats, Floats]:
        """Return x and y of each pixel in mm, float32 [size, size] each."""
        (a, b), (c, d) = np.linalg.inv(self.matrix[:, :2]).astype(np.float32)
        at = np.arange(self.size, dtype=np.float32)
        column, row = at - np.float32(self.matrix[0, 2]), at[:, None] - np.float32(self.matrix[1, 2])
        return a * column + b * row, c * column + d * row

    def _fixed(self, points: Points) -> npt.NDArray[np.int32]:
        return np.rint((points @ self.matrix[:, :2].T + self.matrix[:, 2]) * 16).astype(np.int32)

    def fill(self, canvas: Bytes, outline: Points, value: float) -> None:
        cv2.fillPoly(canvas, [self._fixed(outline)], value, cv2.LINE_AA, 4)

    def stroke(self, canvas: Bytes, paths: Points, width: float, value: float) -> None:
        """Draw paths, float [n, k, 2], with a width in mm."""
        lines, thickness = list(self._fixed(paths)), max(1, round(width * self.scale))
        cv2.polylines(canvas, lines, False, value, thickness, cv2.LINE_AA, 4)

    def bone(self, canvas: Bytes, path: Points, width: float) -> None:
        self.stroke(canvas, path[None], width, _grey(_CORTEX))
        self.stroke(canvas, path[None], width - 4.0, _grey(_MARROW))

    def shell(self, canvas: Bytes, ellipse: tuple[float, ...], wall: float, outer: float, inner: float) -> None:
        """Fill an ellipse, given by the arguments of `_ellipse`, with a wall in mm; densities are in HU."""
        x, y, across, down, *rest = ellipse
        self.fill(canvas, _ellipse(x, y, across, down, *rest), _grey(outer))
        self.fill(canvas, _ellipse(x, y, across - wall, down - wall, *rest), _grey(inner))

    def threads(self, canvas: Bytes, paths: Points, widths: Points) -> None:
        """Draw paths, float [n, k, 2], of widths [n] in mm; paths thinner than a pixel are paler (partial volume)."""
        strength = np.clip(1.15 * widths * self.scale, 0, 1) * np.clip(0.35 + 0.4 * widths, 0, 1)
        keys = np.maximum(np.rint(widths * self.scale), 1) * 16 + np.ceil(strength * 8)
        for key in np.unique(keys):  # thin and pale first, so that trunks lie over twigs
            thickness, level = divmod(float(key), 16)
            self.stroke(canvas, paths[keys == key], thickness / self.scale, 255 * level / 8)


def sometimes(rng: np.random.Generator, chance: float, low: float, high: float) -> float:
    return rng.uniform(low, high) * (rng.random() < chance)


def _ramp(value: float, low: float, high: float) -> float:
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def texture(rng: np.random.Generator, cells: int, size: int) -> Floats:
    """Return smooth noise, float32 [size, size], from `cells` x `cells` normal deviates."""
    nodes = rng.standard_normal((cells, cells), dtype=np.float32)
    return np.asarray(cv2.resize(nodes, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _curve(knots: Points, steps: int = 6) -> Points:
    """Return a closed Catmull-Rom curve through knots, float [n, 2]: float [n * steps, 2]."""
    t = np.arange(steps)[None, :, None] / steps
    a, b, c, d = (np.roll(knots, shift, axis=0)[:, None] for shift in (1, 0, -1, -2))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.reshape(-1, 2)


def _ellipse(x: float, y: float, across: float, down: float, angle: float = 0.0, power: float = 2.0) -> Points:
    """Return the outline of an ellipse, or of a superellipse for a power above 2: half axes in mm, angle in degrees."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cos, sin = np.cos(turn), np.sin(turn)
    u, v = (r * np.sign(t) * np.abs(t) ** (2 / power) for r, t in ((across, cos), (down, sin)))
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.column_stack([x + c * u - s * v, y + s * u + c * v])


def _grey(density: float) -> float:
    """Convert HU to the unit of the tissue canvas, 8 HU: OpenCV draws anti-aliased lines only on bytes."""
    return (density + 1024) / 8


def _lung_outlines(habitus: Habitus, z: float) -> list[Points]:
    """Return the outlines of the right and the left lung in mm; heart and diaphragm are not yet subtracted."""
    grown = _ramp(z, -0.12, 0.36)
    knots = (1 - grown) * np.array(_APEX) + grown * np.array(_MIDDLE)
    knots = knots * (1 + 0.05 * _ramp(z, 0.5, 0.9)) * habitus.chest
    return [_curve((knots + habitus.wobble[side]) * (sign, 1)) for side, sign in enumerate((-1, 1))]


def _organs(habitus: Habitus, z: float) -> Iterator[tuple[Points, float]]:
    """Yield the organs between and below the lungs at this level, back to front: outline in mm, density in HU."""
    h, blood = habitus.heart, habitus.blood
    yield _ellipse(0, -30 + 20 * (z < 0.26), 20 * h, 46 - 14 * (z < 0.26), 0, 2.6), _FAT + 20
    yield _ellipse(0, 54, 20, 16.5, 0, 2.4), _MUSCLE  # space for the vertebra
    if z < 0.3:  # subclavian, carotid and brachiocephalic vessels
        for x, y, r in ((-16, -10, 8), (-9, -24, 6), (10, -6, 5), (18, 6, 6)):
            yield _ellipse(x, y, r, r), blood
    elif z < 0.42:  # aortic arch and superior vena cava
        yield _ellipse(10, 4, 36, 12, 52), blood
        yield _ellipse(-18, -14, 9, 11), blood
    else:  # descending aorta and oesophagus
        yield _ellipse(26, 36, 12 * h, 12 * h), blood
        yield _ellipse(-6, 34, 8, 6), _MUSCLE
    if 0.42 <= z < 0.62:  # ascending aorta, pulmonary trunk, hila
        hila = max(1 - abs(z - 0.53) / 0.12, 0)
        yield _ellipse(-11, -26, 16 * h, 16 * h), blood
        yield _ellipse(13, -30, 14, 13), blood
        for side in (-1, 1):
            yield _ellipse(side * 31, 3, 14 * hila + 3, 9 * hila + 3, side * 25), blood
    heart = _ramp(z, 0.5, 0.66) * h
    for rim, density in ((3.0, _FAT + 20), (0.0, 0.7 * blood + 12)) if heart > 0 else ():
        yield _ellipse(22 * h, -28, 30 + 25 * heart + rim, 18 + 22 * heart + rim, -28, 2.15), density
        yield _ellipse(-14 * h, -14, 12 + 16 * heart + rim, 16 + 20 * heart + rim, 10), density
    for x, y, across, down, start in ((-58, -10, 100, 82, 0.76), (60, -12, 88, 70, 0.82)):  # liver; spleen, stomach
        rise = max(z - start, 0) / (1 - start)
        if rise > 0:
            yield _ellipse(x, y, across * rise**0.5, down * rise**0.5), 65.0
    apart = _ramp(z, 0.42, 0.6)
    for wall, density in ((1.6, _MUSCLE), (0.0, _AIR)):
        if z < 0.46:
            yield _ellipse(0, 6 + 14 * z, 9 + wall, 8.5 + wall), density
        for side in (-1, 1) if 0.46 <= z < 0.64 else ():  # main bronchi
            wide, high = 10.5 - 5 * apart + wall, 7 - 2 * apart + wall
            yield _ellipse(side * (7 + 24 * apart), 15, wide, high, side * 25), density


def _chest_wall(frame: Frame, canvas: Bytes, habitus: Habitus, z: float) -> None:
    (w, d), fat, shoulders = habitus.chest, habitus.fat, 1 - _ramp(z, 0.0, 0.45)
    across, down = 146 * w + 22 * shoulders, 106 * d - 12 * shoulders
    if habitus.table:
        bow = np.array([[x, 23 + down + 0.8 * fat - 2.6e-4 * x * x] for x in np.linspace(-205, 205, 24)])
        frame.stroke(canvas, np.stack([bow, bow + np.array((0, 26))]), 2.0, _grey(-130))
    frame.shell(canvas, (0, 8, across + fat, down + 0.8 * fat, 0, 2.4), 2.2, 30, _FAT)
    frame.fill(canvas, _ellipse(0, 3, 139 * w, 97 * d, 0, 2.3), _grey(_MUSCLE))
    pectoral, shoulder = (66, -86, 54, 12 + 6 * shoulders, 20), (128, 44, 19 + 16 * shoulders, 46, 24)
    for side in (-1, 1):
        for x, y, a, b, angle in (pectoral, shoulder, (30, 96, 30, 17, 8)):  # the last: paraspinal
            frame.shell(canvas, (side * x * w, y * d, a, b, side * angle), 1.8, _FAT, _MUSCLE + 8)


def _skeleton(rng: np.random.Generator, frame: Frame, canvas: Bytes, habitus: Habitus, z: float) -> None:
    for side, lung in zip((-1, 1), _lung_outlines(habitus, z), strict=True):
        outward = lung[2:50] - lung.mean(axis=0)
        wall = lung[2:50] + 8 * outward / np.linalg.norm(outward, axis=1, keepdims=True)
        for rib in range(6):  # a rib runs down as it runs forward, so its cut moves forward towards the base
            start = 46 * ((rib / 6 + 1.7 * z + 0.05 * side + rng.uniform(-0.03, 0.03)) % 1.0)
            frame.bone(canvas, wall[int(start) : int(start + rng.uniform(3.2, 5.5))], 7.5)
        scapula = np.array([[150 - 40 * z, 38], [136 - 33 * z, 64 - 13 * z], [112 - 21 * z, 90 - 26 * z]])
        spine, clavicle = scapula[:2] + np.array((-3, 12)), np.array([[18, -58], [44, -56]])
        for path, width, lowest in ((scapula, 6.5, 0.62), (spine, 6.0, 0.3), (clavicle, 11.0, 0.2)):
            if z < lowest:
                frame.bone(canvas, path * (side, 1) * habitus.chest, width)
    front, y = -86 * habitus.chest[1] - 4 + 22 * (1 - _ramp(z, 0, 0.3)), 54 * habitus.chest[1]
    frame.shell(canvas, (0, front, 19, 7, 0, 3), 2.8, _CORTEX, _MARROW)
    arch = np.array([[[13, 22], [36, 32]], [[14, 24], [0, 38]], [[0, 38], [0, 56]]]) + np.array((0, y))
    frame.stroke(canvas, np.concatenate([arch, arch * (-1, 1)]), 7.5, _grey(380))
    frame.shell(canvas, (0, y, 19, 15.5, 0, 2.4), 2.0, _CORTEX, _MARROW)
    frame.shell(canvas, (0, y + 24, 11.5, 9.5), 2.0, _CORTEX, 15)


def tissue(rng: np.random.Generator, frame: Frame, habitus: Habitus, z: float) -> tuple[Bytes, Bytes]:
    """Draw all tissue except the lungs, in units of 8 HU, and the coverage of the lungs, 0 to 255.

    Args:
        rng: Generator of the slice.
        frame: The mapping to pixels.
        habitus: The patient.
        z: Level of the slice, from 0 (apex) to 1 (base).

    Returns:
        Tissue and coverage, uint8 [size, size] each.
    """
    canvas = np.full((frame.size, frame.size), _grey(_AIR), np.uint8)
    cover = np.zeros_like(canvas)
    _chest_wall(frame, canvas, habitus, z)
    for outline in _lung_outlines(habitus, z):
        frame.fill(cover, outline, 255)
    for outline, density in _organs(habitus, z):
        frame.fill(canvas, outline * habitus.chest, _grey(density))
        frame.fill(cover, outline * habitus.chest, 0)
    _skeleton(rng, frame, canvas, habitus, z)
    return canvas, cover


def vessels(rng: np.random.Generator, frame: Frame, habitus: Habitus, z: float) -> Bytes:
    """Return the coverage of the vessels, 0 to 255: branches from the hilum, and dots where vessels cross the slice."""
    canvas = np.zeros((frame.size, frame.size), np.uint8)
    sides = np.repeat((-1.0, 1.0), 9)
    hilum = np.array([36.0 + 8 * _ramp(z, 0.55, 0.8), 6.0 + 30 * _ramp(z, 0.55, 0.9)])
    # Above and below the hilum the branches cross the slice, so they start at random positions.
    scatter = rng.normal(0, 5 + 45 * abs(z - 0.52), (18, 2))
    tips = np.column_stack([sides, np.ones(18)]) * hilum * habitus.chest + scatter
    heading = np.tile(np.linspace(-1.8, 1.8, 9), 2) + rng.normal(0, 0.2, 18)
    widths = rng.uniform(1.4, 3.9, 18) * habitus.calibre
    for shown in (0.8, 0.58, 0.44, 0.38, 0.3):
        visible, length = rng.random(len(tips)) < shown, rng.uniform(3.5, 8.5, len(tips))
        for taper, bend in zip((1.0, 0.92, 0.84), rng.normal(0, 0.2, (3, len(tips))), strict=True):
            heading = heading + bend
            ends = tips + np.column_stack([sides * np.cos(heading), np.sin(heading)]) * length[:, None]
            frame.threads(canvas, np.stack([tips, ends], 1)[visible], (taper * widths)[visible])
            tips = ends
        fork = rng.uniform(0.2, 0.6, 2 * len(tips)) * np.repeat((1, -1), len(tips))
        tips, sides, heading = np.tile(tips, (2, 1)), np.tile(sides, 2), np.tile(heading, 2) + fork
        widths = np.tile(widths, 2) * rng.uniform(0.6, 0.82, 2 * len(widths))
    dots = rng.uniform((18, -84), (122, 86), (240, 2))
    sizes = np.clip(4.0 - np.linalg.norm(dots - hilum, axis=1) / 26, 0.8, 3.6) * rng.uniform(0.4, 1.05, 240)
    dots = dots * np.column_stack([np.repeat((-1, 1), 120), np.ones(240)]) * habitus.chest
    frame.threads(canvas, np.stack([dots, dots + 0.3], 1), sizes * habitus.calibre)
    bronchi = (hilum + rng.normal((10, 2), (9, 20), (8, 2))) * [(side, 1) for side in (-1, 1) * 4]
    for x, y in bronchi * habitus.chest:
        radius = rng.uniform(1.8, 2.8)
        frame.fill(canvas, _ellipse(x, y, radius + 0.6, 0.8 * radius + 0.6), 150)
        frame.fill(canvas, _ellipse(x, y, radius - 0.6, 0.8 * radius - 0.6), 0)
    return canvas


def benign(rng: np.random.Generator, frame: Frame, habitus: Habitus, z: float) -> Bytes:
    """Return the coverage of findings of both classes, 0 to 255: fissures, nodules, scars and linear atelectasis."""
    canvas = np.zeros((frame.size, frame.size), np.uint8)
    fissure = np.linspace((40, 54 - 80 * z), (118, 88 - 110 * z), 5) + rng.normal(0, 1.5, (2, 5, 2))
    if 0.3 < z < 0.8:
        frame.stroke(canvas, fissure * [[(-1, 1)], [(1, 1)]] * habitus.chest, 0.8, 90 * min(1.0, frame.scale))
    solid, lines = rng.poisson(habitus.nodules), rng.poisson(habitus.scars)
    place = rng.uniform((40, -65), (115, 75), (solid + lines, 2)) * habitus.chest
    place[:, 0] *= rng.choice((-1, 1), solid + lines)
    turn, length = rng.uniform(0, 2 * np.pi, solid + lines), rng.uniform(7, 22, solid + lines)
    length[:solid] = 0.3
    reach = length[:, None] * np.column_stack([np.cos(turn), np.sin(turn)])
    widths = np.where(np.arange(solid + lines) < solid, rng.uniform(3.5, 8.5, solid + lines), 1.4)
    frame.threads(canvas, np.stack([place - reach, place + reach], 1), widths)
    return canvas


def parenchyma(rng: np.random.Generator, habitus: Habitus, y: Floats, z: float) -> Floats:
    """Return the density of the aerated lung without vessels, in HU."""
    size = len(y)
    back = np.clip((y + 85) / 172, 0, 1)
    density = np.float32(habitus.aeration - 0.5 * habitus.gravity) + np.float32(habitus.gravity) * back
    density += np.float32(habitus.mosaic) * (texture(rng, 14, size) + np.float32(0.6) * texture(rng, 90, size))
    reach = rng.uniform(0.62, 0.8)
    haze = np.float32(habitus.haze * rng.uniform(0.6, 1.1)) * (1 + np.float32(0.25) * texture(rng, 18, size))
    density += haze * np.clip((back - reach) / (1 - reach), 0, 1) ** 2
    holes = np.clip(texture(rng, 40, size) - 0.9, 0, 0.5)
    density -= np.float32(240 * habitus.emphysema * (1 - 0.6 * z)) * holes
    return np.maximum(density, np.float32(-985))
