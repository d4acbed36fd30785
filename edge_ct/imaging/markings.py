"""What viewers and teaching files burn into a slice: letters, arrows, rulers. Drawn at random, they tell no class."""

from __future__ import annotations

import cv2
import numpy as np

_TEXTS = ("R", "L", "A", "P", "Im {0}", "Se {1}", "{0}.{1} mm", "{0}%", "WL -{0}0", "{1}:{0}", "No {0}{1}", "x{1}.{0}")


def burn(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A copy with one to three markings, almost white or, less often, almost black. image: uint8 [s, s]."""
    image = image.copy()
    for _ in range(generator.integers(1, 4)):
        grey = int(generator.integers(190, 256) if generator.random() < 0.8 else generator.integers(50))
        (text, text, arrow, ruler)[generator.integers(4)](image, grey, generator)
    return image


def text(image: np.ndarray, grey: int, generator: np.random.Generator) -> None:
    """Letters in one of the corners, where viewers put them; drawn into `image`."""
    side = image.shape[0]
    words = _TEXTS[generator.integers(len(_TEXTS))].format(generator.integers(1, 100), generator.integers(1, 10))
    size = side / 224 * generator.uniform(0.3, 0.5)
    (width, height), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    inset = side * generator.uniform(0.01, 0.06, 2)
    x = inset[0] if generator.random() < 0.5 else side - width - inset[0]
    y = inset[1] + height if generator.random() < 0.5 else side - inset[1]
    cv2.putText(image, words, (int(x), int(y)), cv2.FONT_HERSHEY_SIMPLEX, size, grey, 1, cv2.LINE_AA)


def arrow(image: np.ndarray, grey: int, generator: np.random.Generator) -> None:
    """An arrow anywhere, in any direction; drawn into `image`."""
    side = image.shape[0]
    tip = generator.uniform(0.15, 0.85, 2) * side
    angle, length = generator.uniform(0, 2 * np.pi), generator.uniform(0.06, 0.12) * side
    end = tip + length * np.array([np.cos(angle), np.sin(angle)])
    thickness = 1 + side // 300
    cv2.arrowedLine(image, end.astype(int).tolist(), tip.astype(int).tolist(), grey, thickness, cv2.LINE_AA, 0, 0.4)


def ruler(image: np.ndarray, grey: int, generator: np.random.Generator) -> None:
    """Along one of the edges, of five or ten parts."""
    side, turns = image.shape[0], int(generator.integers(4))
    length, inset = generator.uniform(0.25, 0.55) * side, int(generator.uniform(0.02, 0.07) * side)
    start = generator.uniform(0, 1) * (side - length)
    tick = max(2, side // 50)
    edge = np.rot90(image, turns)  # a view: what is drawn at its left edge is drawn in the picture
    edge[int(start) : int(start + length), inset] = grey
    parts = 5 if generator.random() < 0.5 else 10
    for part in range(parts + 1):
        long = 2 if part % 5 == 0 else 1
        row = min(len(edge) - 1, int(start + length * part / parts))
        edge[row, inset : inset + tick * long] = grey
