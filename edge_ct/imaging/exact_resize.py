"""Resizing in exact integer arithmetic, so that an Arm device and an x86-64 server compute the same bytes.

OpenCV's `INTER_LINEAR`, `INTER_CUBIC` and `INTER_AREA` give different bytes on different processors;
`INTER_LINEAR_EXACT` gives the same ones.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np


def resize_exact(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a grey picture by `box-linear-exact`; see `Preprocess.resize`.

    Args:
        pixels: uint8 [h, w].
        height: Number of rows of the result.
        width: Number of columns of the result.

    Returns:
        uint8 [height, width].
    """
    pixels = block_mean(pixels, _factor(pixels.shape[0], height), _factor(pixels.shape[1], width))
    if pixels.shape != (height, width):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return pixels


def block_mean(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Compute the mean of each block of rows x columns pixels, rounded half up.

    The last row and the last column are repeated to fill incomplete blocks.

    Args:
        pixels: uint8 [h, w].
        rows: Height of a block in pixels, a power of two.
        columns: Width of a block in pixels, a power of two.

    Returns:
        uint8 [ceil(h / rows), ceil(w / columns)].
    """
    if rows == columns == 1:
        return pixels
    height, width = pixels.shape
    below, right = -height % rows, -width % columns
    if below or right:
        pixels = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REPLICATE)
    if rows == columns == 2:
        # At half the size both weights are 1/2, so this is the block mean, in a quarter of the time.
        return cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_LINEAR_EXACT)
    count = rows * columns
    # The sum of 256 bytes and the half that rounds it fit 16 bits; larger blocks occur in unusually large slices only.
    wide: Any = np.uint16 if count <= 256 else np.uint32
    if columns > 1:
        # Two neighbours are read as one 16-bit number, in either order: strides over bytes take three times as long.
        pairs = np.ascontiguousarray(pixels).view(np.uint16)
        pixels = (pairs & 0xFF) + (pairs >> 8)
        columns //= 2
    total = pixels[::rows].astype(wide)
    for row in range(1, rows):
        total += pixels[row::rows]
    block = total[:, ::columns] + wide(count // 2)  # rounds half up
    for column in range(1, columns):
        block += total[:, column::columns]
    # The count is a power of two, so a shift divides by it.
    block >>= count.bit_length() - 1
    return np.asarray(block.astype(np.uint8))


def _factor(side: int, size: int) -> int:
    """Return the largest power of two by which `side` can be divided without falling below `size`."""
    factor = 1
    while side >= 2 * factor * size:
        factor *= 2
    return factor


def use_single_thread() -> None:
    """Let OpenCV work in the calling thread alone, in this process from now on."""
    cv2.setNumThreads(1)
