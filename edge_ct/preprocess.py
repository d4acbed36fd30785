"""The one path from a slice to a network's input: training, calibration, evaluation and the device all take it.

Every step is exact integer arithmetic, so that an Arm device and an x86-64 server see the same bytes. OpenCV's
`INTER_LINEAR`, `INTER_CUBIC` and `INTER_AREA` do not give that; `INTER_LINEAR_EXACT` does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import cv2
import msgspec
import numpy as np


class Preprocess(msgspec.Struct, frozen=True):
    """How pixels become the input of a network; stored in the bundle.

    size: side of the square input, in pixels; the aspect ratio is not kept.
    resize: `box-linear-exact`: each side is divided by the largest power of two that leaves at least `size`, as a
        block mean rounded half up; what remains is done by OpenCV's `INTER_LINEAR_EXACT`.
    scale, zero_point: the network sees `(byte - zero_point) * scale`. The int8 graph carries these two as its input
        quantisation, so a device feeds bytes and does no arithmetic on floats.
    """

    size: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    resize: Literal["box-linear-exact"] = "box-linear-exact"
    scale: float = 1 / 127.5
    zero_point: int = 128

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """pixels: uint8 [h, w] -> uint8 [size, size, 1]."""
        return resize_exact(pixels, self.size, self.size)[:, :, np.newaxis]

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """images: uint8 [...] -> float32 [...], what the graph's input quantisation does to them."""
        return (images.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


def resize_exact(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """pixels: uint8 [h, w] -> uint8 [height, width], by `box-linear-exact`."""
    pixels = block_mean(pixels, _factor(pixels.shape[0], height), _factor(pixels.shape[1], width))
    if pixels.shape != (height, width):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return pixels


def block_mean(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Mean of blocks of rows x columns pixels, rounded half up; the last row and column are repeated to fill blocks.

    pixels: uint8 [h, w] -> uint8 [ceil(h / rows), ceil(w / columns)]. rows, columns: powers of two.
    """
    if rows == columns == 1:
        return pixels
    height, width = pixels.shape
    below, right = -height % rows, -width % columns
    if below or right:
        pixels = np.pad(pixels, ((0, below), (0, right)), mode="edge")
    count = rows * columns
    # 256 bytes and the half that rounds them fit 16 bits; larger blocks are of slices that are larger than most.
    wide: Any = np.uint16 if count <= 256 else np.uint32
    if columns > 1:
        # Two neighbours as one 16-bit number, in whichever order: strides over single bytes take three times as long.
        pairs = np.ascontiguousarray(pixels).view(np.uint16)
        pixels = (pairs & 0xFF) + (pairs >> 8)
        columns //= 2
    total = pixels[::rows].astype(wide)
    for row in range(1, rows):
        total += pixels[row::rows]
    block = total[:, ::columns] + wide(count // 2)  # rounds half up
    for column in range(1, columns):
        block += total[:, column::columns]
    # A power of two times a power of two: shifting divides.
    block >>= count.bit_length() - 1
    return np.asarray(block.astype(np.uint8))


def _factor(side: int, size: int) -> int:
    factor = 1
    while side >= 2 * factor * size:
        factor *= 2
    return factor
