"""Synthetic axial chest CT slices in the lung window, for the demo and the tests. They are software test data only.

All slices are drawn from random numbers: none shows, or is derived from, a person. A positive slice contains
ground-glass opacities, consolidation or crazy paving, mostly peripheral and posterior as reported for COVID-19
pneumonia (Bernheim et al., Radiology 2020). Scanner, habitus, motion, dependent haze, scars and nodules vary equally
in both classes: the two slices with the same seed, patient and index differ only in the lesions. Coordinates and
units are those of `phantom_anatomy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from .imaging.phantom_anatomy import (
    BLOOD,
    Bytes,
    Floats,
    Frame,
    Habitus,
    Mask,
    Points,
    benign,
    parenchyma,
    sometimes,
    texture,
    tissue,
    vessels,
)
from .preprocess import Preprocess

_ANATOMY, _SLICE, _FOCI, _LESIONS = range(4)  # random streams of a seed: lesions change no other random number
_LESION_THRESHOLD = 60.0  # HU added: about the least that a reader would call ground glass


@dataclass(frozen=True)
class Phantom:
    """One synthetic slice.

    Attributes:
        image: uint8 [size, size], lung window.
        lungs: bool [size, size], the lung fields including lesions.
        lesion: bool [size, size], True where a lesion adds more than 60 HU; all False in a negative slice.
        patient: Name of the patient, for example "phantom-0007".
        index: Number of the slice, from 0 at the apex.
        positive: Whether the patient is positive.
    """

    image: Bytes
    lungs: Mask
    lesion: Mask
    patient: str
    index: int
    positive: bool


class _Focus:
    """One lesion of a patient."""

    def __init__(self, rng: np.random.Generator, extent: float, stage: Points) -> None:
        kind = int(rng.choice(3, p=stage))
        self.z, self.side = rng.uniform(0, 1), int(rng.choice((-1, 1)))
        self.angle = rng.normal(0.8, 0.9)  # radians from lateral (0) to posterior (half pi)
        self.depth = max(rng.beta(6, 1.3), 0.4)  # 1 at the pleura, 0 in the lung's middle
        self.radial = min(max(extent * rng.gamma(7, 2.0), 10), 32)  # half axes, mm
        self.along = self.radial * rng.uniform(1.0, 2.1)
        self.gain = rng.uniform(260, 470)  # HU of the ground glass
        self.solid = rng.uniform(0.45, 0.9) * (kind == 1)  # consolidated share of the core
        self.paving = rng.uniform(0.5, 0.9) * (kind == 2)  # contrast of the reticulation
        self.ragged = rng.uniform(0.25, 0.45)


def _foci(seed: int, patient: int, z: float) -> list[_Focus]:
    """Return the one to six foci of a positive patient that the slice at z intersects, nearest first."""
    rng = np.random.default_rng([seed, patient, _FOCI])
    extent, stage = float(np.exp(rng.normal(0.2, 0.3))), rng.dirichlet((2.2, 1.1, 1.1))
    foci = [_Focus(rng, extent, stage) for _ in range(rng.integers(10, 24))]
    near = sorted(foci, key=lambda focus: abs(focus.z - z))
    return near[:1] + [focus for focus in near[1:6] if abs(focus.z - z) < 0.005 * focus.along]


def _lesions(key: list[int], air: Floats, lungs: Mask, x: Floats, y: Floats, foci: list[_Focus]) -> Floats:
    """Return the HU that the foci add to the parenchyma `air`, float32 [size, size]; x and y in mm."""
    rng, size = np.random.default_rng(key), len(air)
    border, fine = np.clip(texture(rng, 34, size), -1.2, 1.2), np.clip(texture(rng, 80, size), -1.5, 1.5)
    net = np.exp(-((texture(rng, 72, size) / np.float32(0.28)) ** 2))
    added = np.zeros_like(air)
    for focus in foci:
        cos, sin = focus.side * float(np.cos(focus.angle)), float(np.sin(focus.angle))
        # The lung pixel nearest to the intended position.
        far = (x - (66 * focus.side + 62 * focus.depth * cos)) ** 2 + (y - (4 + 86 * focus.depth * sin)) ** 2
        centre = np.unravel_index(np.where(lungs, far, np.inf).argmin(), far.shape)
        reach = int(1.8 * focus.along / abs(x[0, 1] - x[0, 0])) + 2
        box = tuple(slice(max(int(at) - reach, 0), int(at) + reach + 1) for at in centre)
        dx, dy = x[box] - x[centre], y[box] - y[centre]
        u, v = (dx * cos + dy * sin) / focus.radial, (dy * cos - dx * sin) / focus.along
        form = 1 - np.sqrt(u * u + v * v) + focus.ragged * (border[box] + 0.35 * fine[box])
        hazy = focus.gain * np.clip(form / 0.45, 0, 1) * (1 + 0.18 * fine[box] + focus.paving * (net[box] - 0.45))
        core = focus.solid * np.clip((form - 0.35) / 0.2, 0, 1)
        added[box] = np.maximum(added[box], hazy + core * (20 + 60 * fine[box] - air[box] - hazy))
    return added


def _scan(rng: np.random.Generator, density: Floats, habitus: Habitus, frame: Frame, y: Floats, z: float) -> Floats:
    """Add motion, streaks, blur and noise."""
    motion, direction = sometimes(rng, 0.25, 1.5, 5.0), rng.uniform(0, 2 * np.pi)
    streaks = sometimes(rng, 0.5 - 0.5 * z, 6, 22)
    if motion:
        dx, dy = (round(motion * frame.scale * part(direction)) for part in (np.cos, np.sin))
        share = np.float32(0.45) * np.clip(
            0.75 - y / 110, 0, 1
        )  # the heart and the anterior wall move, the spine does not
        density = density + share * (np.roll(density, (dy, dx), (0, 1)) - density)
    lines = cv2.resize(rng.standard_normal((128, 1), np.float32), (1, frame.size), interpolation=cv2.INTER_CUBIC)
    density = density + np.float32(streaks) * lines
    density = np.asarray(cv2.GaussianBlur(density, (5, 5), habitus.blur), np.float32)
    noise = cv2.GaussianBlur(rng.standard_normal(density.shape, dtype=np.float32), (5, 5), habitus.grain)
    # A Gaussian filter of that width reduces the deviation of white noise to 1 / (2 sqrt(pi) grain).
    density += noise * np.float32(habitus.noise * 2 * np.sqrt(np.pi) * habitus.grain)
    if habitus.sharpening:
        density += np.float32(habitus.sharpening) * (density - cv2.GaussianBlur(density, (7, 7), 1.6))
    return density


def _display(density: Floats, habitus: Habitus) -> Bytes:
    (centre, width), size = habitus.window, len(density)
    grey = (density - np.float32(centre - width / 2)) * np.float32(255 / width)
    image: Bytes = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    if habitus.circle:
        square = (np.arange(size) - (size - 1) / 2) ** 2
        image[square + square[:, None] > (0.54 * size) ** 2] = 0
    bar = int(habitus.bars * size)
    image[:bar] = image[size - bar :] = 0
    return image


def make_slice(patient: int, index: int, positive: bool, size: int = 224, seed: int = 0, slices: int = 8) -> Phantom:
    """Make one slice of a synthetic patient.

    Anatomy and scanner depend on `seed`, `patient` and `index` only; the class only adds lesions. The size changes the
    sampling and not the anatomy. The same arguments give the same bytes with the same NumPy and OpenCV on one machine;
    on other machines the smoothing may round differently.

    Args:
        patient: Number of the patient.
        index: Number of the slice, from 0 at the apex to `slices` - 1 at the base.
        positive: Whether to add lesions.
        size: Side of the slice in pixels, at least 32.
        seed: Seed of all random numbers.
        slices: Number of slices of the series.

    Raises:
        ValueError: The size is below 32 px, or the index is outside the series.
    """
    if size < 32 or not 0 <= index < slices:
        raise ValueError(f"size {size} must be at least 32 px, and index {index} below the number of slices, {slices}")
    habitus = Habitus(np.random.default_rng([seed, patient, _ANATOMY]))
    rng = np.random.default_rng([seed, patient, _SLICE, index])
    z = 0.08 + 0.82 * (index + rng.uniform(0.3, 0.7)) / slices
    frame = Frame.for_habitus(habitus, size)
    x, y = (axis / np.float32(scale) for axis, scale in zip(frame.grid(), habitus.chest, strict=True))
    body, cover = tissue(rng, frame, habitus, z)
    # Vessels thin out before they reach the pleura.
    fade = np.clip(cv2.distanceTransform(cover, cv2.DIST_L2, 3) / np.float32(9 * frame.scale), 0.05, 1)
    solid = np.maximum(vessels(rng, frame, habitus, z) * fade, benign(rng, frame, habitus, z)) / np.float32(255)
    lung, lungs, lesion = parenchyma(rng, habitus, y, z), cover > 127, np.zeros((size, size), np.bool_)
    if positive:
        added = _lesions([seed, patient, _LESIONS, index], lung, lungs, x, y, _foci(seed, patient, z))
        lung, lesion = lung + added, (added > _LESION_THRESHOLD) & lungs
    lung += solid * (np.float32(BLOOD) - lung)
    density = body * np.float32(8) - np.float32(1024)
    density += cover / np.float32(255) * (lung - density)
    image = _display(_scan(rng, density, habitus, frame, y, z), habitus)
    return Phantom(image, lungs, lesion, f"phantom-{patient:04d}", index, positive)


def make_series(patient: int, positive: bool, slices: int, size: int, seed: int) -> Iterator[Phantom]:
    """Yield the slices of one synthetic patient from apex to base; all have the class of the patient."""
    for index in range(slices):
        yield make_slice(patient, index, positive, size, seed, slices)


def make_patients(patients: int, slices: int, size: int, seed: int, twins: bool = False) -> Iterator[Phantom]:
    """Yield the slices of several synthetic patients.

    Args:
        patients: Number of patients; those with odd numbers are positive.
        slices: Number of slices of each patient.
        size: Side of the slices in pixels.
        seed: Seed of all random numbers.
        twins: Yield each patient twice, without and with lesions, so that lesions are the only difference.
    """
    for patient in range(patients):
        for positive in (False, True) if twins else (patient % 2 == 1,):
            yield from make_series(patient, positive, slices, size, seed)


def preprocessed_phantoms(preprocess: Preprocess, patients: int = 6) -> Bytes:
    """Return preprocessed slices of synthetic patients, each without and with its lesions.

    Args:
        preprocess: The preprocessing of a network with an input of s x s px.
        patients: Number of patients.

    Returns:
        uint8 [2 * patients, s, s, 1].
    """
    return np.stack(
        [
            preprocess(make_slice(2 * number + 1, 3 + number % 3, positive, 256, seed=500).image)
            for number in range(patients)
            for positive in (False, True)
        ]
    )
