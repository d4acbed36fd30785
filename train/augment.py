"""What a training slice goes through. A policy is a named value, stored in run.json.

All of it is NumPy and OpenCV on uint8, drawn from a generator seeded by (seed, epoch, slice): any Keras backend trains
on the same slices, and a resumed training on the same as an unbroken one.
"""

from __future__ import annotations

import cv2
import msgspec
import numpy as np


class Augment(msgspec.Struct, frozen=True):
    """Ranges of the random changes; each is drawn uniformly, 0 switches it off.

    rotate, shear: degrees either way. scale, shift: share of the side either way. flip, flip_vertical: probability.
    window: change of contrast and of brightness, as a share of the grey range. gamma: exponent's range in log space.
    noise: largest standard deviation of Gaussian noise, in grey levels. blur: largest sigma, in pixels.
    jpeg: lowest JPEG quality, for half of the slices; 100 switches it off.
    """

    rotate: float = 0
    shear: float = 0
    scale: float = 0
    shift: float = 0
    flip: float = 0
    flip_vertical: float = 0
    window: float = 0
    gamma: float = 0
    noise: float = 0
    blur: float = 0
    jpeg: int = 100

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """image: uint8 [s, s, 1] -> uint8 [s, s, 1]."""
        out = self._warp(image[:, :, 0], generator)
        out = cv2.LUT(out, self._tone_curve(generator))
        if self.blur:
            sigma = generator.uniform(0, self.blur)
            if sigma > 0.3:
                out = cv2.GaussianBlur(out, (0, 0), sigma)
        if self.noise:
            sigma = generator.uniform(0, self.noise)
            noise = generator.standard_normal(out.shape, np.float32) * np.float32(sigma)
            out = np.clip(out + noise + np.float32(0.5), 0, 255).astype(np.uint8)
        if self.jpeg < 100 and generator.random() < 0.5:
            quality = int(generator.integers(self.jpeg, 101))
            _, encoded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])
            out = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
        return out[:, :, np.newaxis]

    def _warp(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        side = image.shape[0]
        angle, shear = np.deg2rad(generator.uniform(-1, 1, 2) * (self.rotate, self.shear))
        scale = 1 + generator.uniform(-1, 1, 2) * self.scale
        shift = generator.uniform(-1, 1, 2) * self.shift * side
        if generator.random() < self.flip:
            scale[0] *= -1
        if generator.random() < self.flip_vertical:
            scale[1] *= -1
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.array([[1, np.tan(shear)], [0, 1]]) @ np.diag(scale)
        centre = np.full(2, (side - 1) / 2)
        affine = np.column_stack([matrix, centre + shift - matrix @ centre])
        return cv2.warpAffine(image, affine, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _tone_curve(self, generator: np.random.Generator) -> np.ndarray:
        contrast, brightness = generator.uniform(-1, 1, 2) * self.window
        gamma = np.exp(generator.uniform(-1, 1) * self.gamma)
        levels = np.linspace(0, 1, 256) ** gamma
        levels = (levels - 0.5) * (1 + contrast) + 0.5 + brightness
        return np.clip(levels * 255 + 0.5, 0, 255).astype(np.uint8)


POLICIES = {
    "none": Augment(),
    # Flips and rotations, as the seed study.
    "flips": Augment(rotate=15, flip=0.5, flip_vertical=0.5),
    # The seed study's, and mild forms of what differs between scanners and exports.
    "standard": Augment(
        rotate=12, shear=5, scale=0.12, shift=0.06, flip=0.5, window=0.1, gamma=0.2, noise=6, blur=0.8, jpeg=50
    ),
}
