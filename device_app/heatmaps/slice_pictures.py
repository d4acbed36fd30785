"""Pictures for the web page, as PNG: the thumbnail of a slice, its heat map as a transparent layer, and both together.

The argument `png` of each function is the grey slice that the worklist stores.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.network_analysis.receptive_field import enlarge_map

from .heatmap import FULL_SCALE, Heat, blend_heat, colour_heat, encode_png

THUMBNAIL_SIDE = 128
_LAYER_SIDE = 512
_OUTLINE_SIDE, _OUTLINE_COLOUR = 768, (60, 220, 255, 255)


def draw_thumbnail(png: bytes) -> bytes:
    """Draw the slice in a square of 128 px, on black."""
    grey = _decode(png)
    scale = THUMBNAIL_SIDE / max(grey.shape)
    width, height = (max(1, round(side * scale)) for side in grey.shape[::-1])
    canvas = np.zeros((THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    top, left = (THUMBNAIL_SIDE - height) // 2, (THUMBNAIL_SIDE - width) // 2
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    canvas[top : top + height, left : left + width] = small
    return encode_png(canvas, "thumbnail")


def draw_layer(png: bytes, heat: Heat) -> bytes:
    """Draw a heat map alone, in the proportions of its slice and at most 512 px a side; its opacity grows with it."""
    height, width = _decode(png).shape
    scale = min(1.0, _LAYER_SIDE / max(height, width))
    colours, opacity = colour_heat(heat, max(1, round(width * scale)), max(1, round(height * scale)))
    return encode_png(np.dstack([colours, (255 * opacity).astype(np.uint8)]), "heat map")


def draw_outline(png: bytes, heat: Heat) -> bytes:
    """Draw the outline of a heat map alone.

    It encloses what is more likely a lesion than not; of coarser maps, the cells with half of the strongest colour.
    """
    height, width = _decode(png).shape
    scale = _OUTLINE_SIDE / max(height, width)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    contours = _contours(heat, height, width)
    canvas = np.zeros((height, width, 4), np.uint8)
    cv2.drawContours(canvas, contours, -1, (0, 0, 0, 160), 5, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, _OUTLINE_COLOUR, 2, cv2.LINE_AA)
    return encode_png(canvas, "heat map")


def draw_overlay(png: bytes, heat: Heat) -> bytes:
    """Draw the slice with its heat map and the outline over it, for print."""
    grey = _decode(png)
    picture = np.ascontiguousarray(blend_heat(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), heat))
    thickness = max(1, round(max(grey.shape) / 256))
    cv2.drawContours(picture, _contours(heat, *grey.shape), -1, _OUTLINE_COLOUR[:3], thickness, cv2.LINE_AA)
    return encode_png(picture, "heat map")


def _contours(heat: Heat, height: int, width: int) -> Sequence[np.ndarray]:
    evidence = enlarge_map(np.nan_to_num(heat.evidence), height, width, heat.centres)
    threshold = 0.0 if heat.method == "lesion map" else FULL_SCALE / 2
    contours, _ = cv2.findContours((evidence > threshold).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return contours


def _decode(png: bytes) -> np.ndarray:
    grey = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise EdgeCTError("a picture in the worklist is damaged; check the worklist with: edge-ct worklist verify")
    return grey
