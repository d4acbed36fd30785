"""What exports do to the greys of a picture: training draws from it, robustness is measured by it."""

from __future__ import annotations

import cv2
import numpy as np

_LEVELS = np.linspace(0, 1, 256)


def tone(
    image: np.ndarray, contrast: float = 0.0, brightness: float = 0.0, exponent: float = 0.0, inverted: bool = False
) -> np.ndarray:
    """Another window. image: uint8 [h, w] -> uint8 [h, w]; `image` itself where nothing is asked for.

    contrast: about the middle grey, as a share; more is a narrower window. brightness: share of the grey range by which
    all greys move; more is a lower level. exponent: of gamma, its logarithm.
    """
    if not (contrast or brightness or exponent or inverted):
        return image
    levels = _LEVELS ** np.exp(exponent)
    levels = (levels - 0.5) * (1 + contrast) + 0.5 + brightness
    curve = np.clip(levels * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, 255 - curve if inverted else curve))


def noisy(image: np.ndarray, sigma: float, generator: np.random.Generator) -> np.ndarray:
    """White Gaussian noise, sigma in grey levels. image: uint8 [h, w] -> uint8 [h, w]."""
    noise = np.float32(sigma) * generator.standard_normal(image.shape, np.float32)
    noise += image
    noise += np.float32(0.5)
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Saved as JPEG and read again. image: uint8 [h, w] -> uint8 [h, w]; quality: 1 to 100."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))
