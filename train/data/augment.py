"""Augmentation of training slices. A policy is a named value or a JSON file with one, and is stored with the run.

Everything is NumPy and OpenCV on uint8, drawn from a generator seeded by (seed, epoch, slice): training sees the same
slices with any Keras backend, and after a resume. Old runs stay repeatable only if their policies keep drawing the same
random numbers, so a new change must draw random numbers only if its field is not 0.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.imaging import degrade

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
_GRAIN = 2  # size of coarse noise in pixels
# Factor by which enlarging white noise `_GRAIN` times, linearly, reduces its standard deviation: (.75^2 + .25^2) in
# each direction.
_GRAIN_LEFT = 0.625
_IDENTITY = np.eye(2, 3)


class Augment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ranges of the random changes, in the order in which they happen to a slice.

    Each value is drawn uniformly from its range; 0 switches a change off.

    Geometry, in a single resampling that repeats the edge of the slice where it moves out of the picture:

    - `rotate`, `shear`: angle in degrees, in either direction.
    - `scale`, `shift`: fraction of the side, in either direction.
    - `flip`, `flip_vertical`: probability.
    - `skew`: perspective tilt about both axes. At most, one edge shrinks to 1 / (1 + skew) of its length and the
      opposite one grows to 1 / (1 - skew).
    - `crop`: maximum fraction of width and height that is cut away, at any position, before the rest is enlarged.
    - `border`: maximum width of a frame, as a fraction of the side, around half of the slices. Each side may have it or
      not. The slice is scaled down to fit; the frame is black, white or grey.

    Grey values:

    - `window`: contrast about the middle grey, as a fraction in either direction: a narrower or wider window.
    - `level`: shift of all grey values, as a fraction of the range in either direction: a lower or higher level.
    - `gamma`: range of the exponent in log space.
    - `invert`: probability of exchanging black and white.
    - `blur`: maximum sigma in pixels.
    - `noise`: maximum standard deviation of white Gaussian noise in grey levels.
    - `grain`: the same for noise that is white in half of the slices and coarser in the others, as after a soft
      reconstruction kernel; it is drawn several times as fast as `noise`.

    Export:

    - `markings`: probability of a few small burnt-in letters, arrows or rulers.
    - `downsample`: maximum fraction of the side that is lost and interpolated again, for half of the slices.
    - `jpeg`: lowest JPEG quality, for half of the slices, after `downsample`; 100 switches it off.
    """

    rotate: Annotated[float, msgspec.Meta(ge=0, le=180)] = 0
    shear: Annotated[float, msgspec.Meta(ge=0, le=45)] = 0
    scale: Annotated[float, msgspec.Meta(ge=0, le=0.8)] = 0
    shift: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0
    flip: Probability = 0
    flip_vertical: Probability = 0
    # The limit is below 0.5, so that the horizon of the tilted plane is never in the picture.
    skew: Annotated[float, msgspec.Meta(ge=0, le=0.4)] = 0
    crop: Annotated[float, msgspec.Meta(ge=0, le=0.8)] = 0
    border: Annotated[float, msgspec.Meta(ge=0, le=0.4)] = 0
    window: Annotated[float, msgspec.Meta(ge=0, le=0.9)] = 0
    level: Annotated[float, msgspec.Meta(ge=0, le=0.9)] = 0
    gamma: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0
    invert: Probability = 0
    blur: Annotated[float, msgspec.Meta(ge=0, le=16)] = 0
    noise: Annotated[float, msgspec.Meta(ge=0, le=128)] = 0
    grain: Annotated[float, msgspec.Meta(ge=0, le=128)] = 0
    markings: Probability = 0
    downsample: Annotated[float, msgspec.Meta(ge=0, le=0.9)] = 0
    jpeg: Annotated[int, msgspec.Meta(ge=1, le=100)] = 100

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Augment a slice, uint8 [s, s, 1]; returns `image` itself, not a copy, if every change is switched off."""
        return self.with_mask(image, None, generator)[0]

    def with_mask(
        self, image: np.ndarray, mask: np.ndarray | None, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Augment a slice, and move a mask of it in the same way.

        Args:
            image: uint8 [s, s, 1].
            mask: uint8 [s, s], or None. The slice is changed in the same way with and without a mask.
            generator: Source of random numbers.

        Returns:
            The slice, uint8 [s, s, 1], and the mask, uint8 [s, s], which is 0 where the slice does not reach.
        """
        image = image[:, :, 0]
        frame = self._frame(image.shape[0], generator)
        matrix = self._matrix(image.shape[0], frame, generator)
        out = self._tone(_resample(image, matrix, cv2.BORDER_REPLICATE), generator)
        if mask is not None:
            mask = _resample(mask, matrix, cv2.BORDER_CONSTANT)
        if self.blur:
            sigma = generator.uniform(0, self.blur)
            if sigma > 0.3:
                out = cv2.GaussianBlur(out, (0, 0), sigma)
        if self.noise:
            out = degrade.noisy(out, generator.uniform(0, self.noise), generator)
        if self.grain:
            out = _add_grain(out, generator.uniform(0, self.grain), generator)
        if frame:
            out = _draw_frame(out, frame, generator)
            if mask is not None:
                left, top, right, bottom = frame
                mask = cv2.copyMakeBorder(
                    mask[top:bottom, left:right],
                    top,
                    mask.shape[0] - bottom,
                    left,
                    mask.shape[1] - right,
                    cv2.BORDER_CONSTANT,
                )
        if self.markings and generator.random() < self.markings:
            out = degrade.burn_markings(out, generator)
        return self._export(out, generator)[:, :, np.newaxis], mask

    def _frame(self, side: int, generator: np.random.Generator) -> tuple[int, int, int, int] | None:
        """Draw a frame; return left, top, right and bottom of the area inside it in pixels, or None for no frame."""
        if not self.border or generator.random() < 0.5:
            return None
        left, top, right, bottom = np.maximum(generator.uniform(-1, 1, 4) * self.border * side, 0).astype(int).tolist()
        return left, top, side - right, side - bottom

    def _matrix(
        self, side: int, frame: tuple[int, int, int, int] | None, generator: np.random.Generator
    ) -> np.ndarray | None:
        """Draw the geometry: an affine matrix [2, 3], a homography [3, 3], or None if nothing moves."""
        drawn = generator.uniform(-1, 1, 6)
        angle, shear = np.deg2rad(drawn[:2] * (self.rotate, self.shear))
        scale = 1 + drawn[2:4] * self.scale
        shift = drawn[4:] * self.shift * side
        if generator.random() < self.flip:
            scale[0] *= -1
        if generator.random() < self.flip_vertical:
            scale[1] *= -1
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.array([[1, np.tan(shear)], [0, 1]]) @ np.diag(scale)
        centre = np.full(2, (side - 1) / 2)
        affine = np.column_stack([matrix, centre + shift - matrix @ centre])
        if self.skew or self.crop or frame:
            whole = np.vstack([affine, (0, 0, 1)])
            if self.skew:
                whole = _tilt(side, *(generator.uniform(-1, 1, 2) * self.skew)) @ whole
            if self.crop:
                lost = generator.uniform(0, self.crop, 2)
                grown = 1 / (1 - lost)
                whole = _fit(-generator.random(2) * lost * side * grown, grown) @ whole
            if frame:
                whole = _fit(np.array(frame[:2]), np.subtract(frame[2:], frame[:2]) / side) @ whole
            return whole
        return None if (affine == _IDENTITY).all() else affine

    def _tone(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        contrast, brightness, exponent = generator.uniform(-1, 1, 3) * (self.window, self.level, self.gamma)
        inverted = self.invert and generator.random() < self.invert
        return degrade.tone(image, contrast, brightness, exponent, bool(inverted))

    def _export(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        side, out = image.shape[0], image
        if self.downsample and generator.random() < 0.5:
            smaller = max(8, round(side * (1 - generator.uniform(0, self.downsample))))
            out = cv2.resize(out, (smaller, smaller), interpolation=cv2.INTER_AREA)
        if self.jpeg < 100 and generator.random() < 0.5:
            out = degrade.jpeg(out, int(generator.integers(self.jpeg, 101)))
        return out if out.shape[0] == side else cv2.resize(out, (side, side), interpolation=cv2.INTER_LINEAR)


def _resample(picture: np.ndarray, matrix: np.ndarray | None, border: int) -> np.ndarray:
    """Resample a slice or mask, uint8 [s, s], with a matrix from `_matrix`; `border` is OpenCV's border mode."""
    if matrix is None:
        return picture
    warp = cv2.warpAffine if len(matrix) == 2 else cv2.warpPerspective
    return np.asarray(warp(picture, matrix, picture.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=border))


def _tilt(side: int, x: float, y: float) -> np.ndarray:
    """Return the homography [3, 3] (u, v) -> (u, v) / (1 + x u + y v) about the centre, where the edges are at 1."""
    half, centre = side / 2, (side - 1) / 2
    to_pixels = np.array([[half, 0, centre], [0, half, centre], [0, 0, 1]])
    from_pixels = np.array([[1 / half, 0, -centre / half], [0, 1 / half, -centre / half], [0, 0, 1]])
    return np.asarray(to_pixels @ np.array([[1, 0, 0], [0, 1, 0], [x, y, 1]]) @ from_pixels)


def _fit(corner: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the homography [3, 3] that scales the picture by `scale` [2] and moves its top left to `corner` [2]."""
    x, y = corner + (scale - 1) / 2  # the centre of a pixel is half a pixel from its edge
    return np.array([[scale[0], 0, x], [0, scale[1], y], [0, 0, 1]])


def _add_grain(image: np.ndarray, sigma: float, generator: np.random.Generator) -> np.ndarray:
    side, coarse = image.shape[0], generator.random() < 0.5
    cells = -(-side // _GRAIN) if coarse else side
    # OpenCV's generator is per thread, and several times as fast as NumPy's.
    cv2.setRNGSeed(int(generator.integers(2**31)))
    noise = np.empty((cells, cells), np.float32)
    deviation = sigma / _GRAIN_LEFT if coarse else sigma
    cv2.randn(noise, np.zeros(1), np.full(1, deviation))
    if coarse:
        noise = cv2.resize(noise, None, fx=_GRAIN, fy=_GRAIN, interpolation=cv2.INTER_LINEAR)[:side, :side]
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _draw_frame(image: np.ndarray, frame: tuple[int, int, int, int], generator: np.random.Generator) -> np.ndarray:
    left, top, right, bottom = frame
    grey = (0, 0, 255, int(generator.integers(256)))[
        generator.integers(4)
    ]  # black frames are the most common in exports
    framed = np.full_like(image, grey)
    framed[top:bottom, left:right] = image[top:bottom, left:right]
    return framed


POLICIES = {
    "none": Augment(),
    # Flips and rotations, as in the seed study.
    "flips": Augment(rotate=15, flip=0.5, flip_vertical=0.5),
    # The changes of the seed study, and mild forms of the differences between scanners and exports.
    "standard": Augment(
        rotate=12,
        shear=5,
        scale=0.12,
        shift=0.06,
        flip=0.5,
        window=0.1,
        level=0.1,
        gamma=0.2,
        noise=6,
        blur=0.8,
        jpeg=50,
    ),
    # The changes of Garg et al. 2020: rotation, skew, shear, flips, Gaussian noise; the ranges are ours.
    "paper": Augment(rotate=15, skew=0.12, shear=10, flip=0.5, flip_vertical=0.5, noise=8),
    # Everything that differs between hospitals, scanners and exports, as long as the slice can still be read.
    "travel": Augment(
        rotate=12,
        shear=5,
        scale=0.1,
        shift=0.04,
        flip=0.5,
        skew=0.05,
        crop=0.1,
        border=0.08,
        window=0.25,
        level=0.12,
        gamma=0.35,
        blur=0.8,
        grain=10,
        markings=0.15,
        downsample=0.4,
        jpeg=30,
    ),
}


def load_policy(name_or_path: str) -> Augment:
    """Return the policy with this name, or read one from a .json file: an object with fields of `Augment`.

    Raises:
        EdgeCTError: Unknown name (the message suggests the nearest one), or the file holds no policy.
    """
    if name_or_path in POLICIES:
        return POLICIES[name_or_path]
    path = Path(name_or_path)
    if path.suffix.lower() != ".json":
        near = difflib.get_close_matches(name_or_path, POLICIES, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        there = ", ".join(POLICIES)
        raise EdgeCTError(
            f"no augmentation policy named {name_or_path!r}{meant}; choose one of {there}, or a .json file"
        )
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise EdgeCTError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return msgspec.json.decode(content, type=Augment)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fields = ", ".join(Augment.__struct_fields__)
        raise EdgeCTError(f"{path}: not an augmentation policy: {error}; its fields are {fields}") from error
