"""Degradations that exports cause: tone, noise, JPEG, burnt-in markings.

Training uses them for augmentation, and robustness is measured with them.
"""

from __future__ import annotations

import cv2
import numpy as np

_LEVELS = np.linspace(0, 1, 256)
_TEXTS = ("R", "L", "A", "P", "Im {0}", "Se {1}", "{0}.{1} mm", "{0}%", "WL -{0}0", "{1}:{0}", "No {0}{1}", "x{1}.{0}")


def tone(
    image: np.ndarray, contrast: float = 0.0, brightness: float = 0.0, exponent: float = 0.0, inverted: bool = False
) -> np.ndarray:
    """Change the tone of an image as another window would.

    Args:
        image: uint8 [h, w].
        contrast: Relative change of contrast about the middle grey; a positive value is a narrower window.
        brightness: Shift of all greys as a share of the grey range; a positive value is a lower level.
        exponent: Logarithm of the gamma exponent.
        inverted: Whether to invert the greys.

    Returns:
        uint8 [h, w]; `image` itself if nothing changes.
    """
    if not (contrast or brightness or exponent or inverted):
        return image
    levels = _LEVELS ** np.exp(exponent)
    levels = (levels - 0.5) * (1 + contrast) + 0.5 + brightness
    curve = np.clip(levels * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, 255 - curve if inverted else curve))


def noisy(image: np.ndarray, sigma: float, generator: np.random.Generator) -> np.ndarray:
    """Add white Gaussian noise of `sigma` grey levels to an image, uint8 [h, w]."""
    noise = np.float32(sigma) * generator.standard_normal(image.shape, np.float32)
    noise += image
    noise += np.float32(0.5)
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress an image, uint8 [h, w], as JPEG of a quality from 1 to 100, and decode it again."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def burn_markings(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a copy of an image, uint8 [s, s], with one to three burnt-in markings as viewers add them.

    The markings are drawn at random and are independent of the class.
    """
    image = image.copy()
    for _ in range(generator.integers(1, 4)):
        grey = int(generator.integers(190, 256) if generator.random() < 0.8 else generator.integers(50))
        (draw_text, draw_text, draw_arrow, draw_ruler)[generator.integers(4)](image, grey, generator)
    return image


def draw_text(image: np.ndarray, grey: int, generator: np.random.Generator) -> None:
    """Draw text into one of the corners, where viewers place it."""
    side = image.shape[0]
    words = _TEXTS[generator.integers(len(_TEXTS))].format(generator.integers(1, 100), generator.integers(1, 10))
    size = side / 224 * generator.uniform(0.3, 0.5)
    (width, height), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    inset = side * generator.uniform(0.01, 0.06, 2)
    x = inset[0] if generator.random() < 0.5 else side - width - inset[0]
    y = inset[1] + height if generator.random() < 0.5 else side - inset[1]
    cv2.putText(image, words, (int(x), int(y)), cv2.FONT_HERSHEY_SIMPLEX, size, grey, 1, cv2.LINE_AA)


def draw_arrow(image: np.ndarray, grey: int, generator: np.random.Generator) -> None:
    """Draw an arrow at a random position in a random direction."""
    side = image.shape[0]
    tip = generator.uniform(0.15, 0.85, 2) * side
    angle, length = generator.uniform(0, 2 * np.pi), generator.uniform(0.06, 0.12) * side
    end = tip + length * np.array([np.cos(angle), np.sin(angle)])
    thickness = 1 + side // 300
    cv2.arrowedLine(image, end.astype(int).tolist(), tip.astype(int).tolist(), grey, thickness, cv2.LINE_AA, 0, 0.4)


def draw_ruler(image: np.ndarray, grey: int, generator: np.random.Generator) -> None:
    """Draw a ruler of five or ten parts along one of the edges."""
    side, turns = image.shape[0], int(generator.integers(4))
    length, inset = generator.uniform(0.25, 0.55) * side, int(generator.uniform(0.02, 0.07) * side)
    start = generator.uniform(0, 1) * (side - length)
    tick = max(2, side // 50)
    edge = np.rot90(image, turns)  # a view, so drawing at its left edge draws into the image
    edge[int(start) : int(start + length), inset] = grey
    parts = 5 if generator.random() < 0.5 else 10
    for part in range(parts + 1):
        long = 2 if part % 5 == 0 else 1
        row = min(len(edge) - 1, int(start + length * part / parts))
        edge[row, inset : inset + tick * long] = grey
