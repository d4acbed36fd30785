"""PNGs of what a row keeps: thumbnail, heat map as a transparent layer, slice with the map over it."""

from __future__ import annotations

import cv2
import numpy as np

from edge_ct.errors import EdgeCTError

from . import heatmap
from .heatmap import Heat

THUMB = 128
_LAYER = 512


def thumb(png: bytes) -> bytes:
    """The slice in a square of 128 px, on black."""
    grey = _grey(png)
    scale = THUMB / max(grey.shape)
    width, height = (max(1, round(side * scale)) for side in grey.shape[::-1])
    canvas = np.zeros((THUMB, THUMB), np.uint8)
    top, left = (THUMB - height) // 2, (THUMB - width) // 2
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    canvas[top : top + height, left : left + width] = small
    return _png(canvas)


def layer(png: bytes, heat: Heat) -> bytes:
    """Evidence as colours whose opacity grows with it, in the slice's proportions; at most 512 px a side."""
    height, width = _grey(png).shape
    scale = min(1.0, _LAYER / max(height, width))
    colours, cover = heatmap.colour(heat, max(1, round(width * scale)), max(1, round(height * scale)))
    return _png(np.dstack([colours, (255 * cover).astype(np.uint8)]))


def overlay(png: bytes, heat: Heat) -> bytes:
    """Slice and map in one picture, for print."""
    return _png(heatmap.blend(cv2.cvtColor(_grey(png), cv2.COLOR_GRAY2BGR), heat))


def _grey(png: bytes) -> np.ndarray:
    grey = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise EdgeCTError("a picture of the worklist is damaged; edge-ct worklist verify tells more")
    return grey


def _png(image: np.ndarray) -> bytes:
    encoded, content = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not encoded:
        raise EdgeCTError("a picture cannot be encoded")
    return content.tobytes()
