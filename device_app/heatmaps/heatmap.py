"""A heat map over its slice: where the network found evidence for COVID-19, beside the slice itself, with a legend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from edge_ct.classifier import Judgement
from edge_ct.errors import EdgeCTError
from edge_ct.manifest import Calibration, Manifest
from edge_ct.network_analysis.receptive_field import Centres, enlarge_map
from edge_ct.system.files import write_bytes

# Local evidence in log-odds; the same range for every slice, so that two pictures can be compared.
FULL_SCALE = 6.0
_SIDE, _MARGIN, _LEGEND, _LEGEND_WIDTH, _BAR = 512, 8, 56, 144, 128
_OPACITY = 0.65
_COLOURS = cv2.COLORMAP_CIVIDIS  # readable by the colour-blind and in greyscale print


_METHODS = {
    "class map": "by the network's own class map",
    "occlusion": "by occlusion: what is lost where a patch is blurred",
}


@dataclass(frozen=True, eq=False)
class Heat:
    """What a decision rests on. evidence: float32 [h, w], calibrated log-odds; method: `class map` or `occlusion`.

    centres: where its rows and columns look.
    """

    evidence: np.ndarray
    method: str
    centres: Centres = None


class Answer(Protocol):
    """A result, or a row of the worklist."""

    @property
    def decision(self) -> str: ...

    @property
    def probability(self) -> float | None: ...


def evidence(class_map: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Calibrated log-odds of each cell, float32 [h, w]; their mean is the slice's."""
    return np.asarray(calibration.slope * (class_map[:, :, 1] - class_map[:, :, 0]) + calibration.intercept)


def of_class_map(class_map: np.ndarray, manifest: Manifest) -> Heat:
    """The heat map of a bundle's own class map, float32 [h, w, 2]."""
    return Heat(evidence(class_map, manifest.calibration), "class map", manifest.map_centres)


def draw_heat(pixels: np.ndarray, heat: Heat, caption: str) -> np.ndarray:
    """Slice and overlay side by side over a legend, BGR uint8 [h, w, 3]. pixels: uint8 [h, w]."""
    scale = _SIDE / max(pixels.shape)
    width, height = (max(1, round(side * scale)) for side in pixels.shape[::-1])
    grey = cv2.cvtColor(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2BGR)
    overlay = blend(grey, heat)
    across = max(2 * width + 3 * _MARGIN, _LEGEND_WIDTH)
    canvas = np.full((height + _LEGEND + 2 * _MARGIN, across, 3), 255, np.uint8)
    canvas[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width] = grey
    canvas[_MARGIN : _MARGIN + height, 2 * _MARGIN + width : 2 * (_MARGIN + width)] = overlay
    _legend(canvas, height + 2 * _MARGIN, heat.method, caption)
    return canvas


def colour(heat: Heat, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Evidence as colours, BGR uint8 [height, width, 3], and how much they cover, float32 [height, width], 0 to 1."""
    shown = enlarge_map(np.nan_to_num(heat.evidence), height, width, heat.centres)
    strength = np.clip(shown / FULL_SCALE, 0, 1)
    return cv2.applyColorMap((strength * 255).astype(np.uint8), _COLOURS), np.sqrt(strength)


def blend(slice_: np.ndarray, heat: Heat) -> np.ndarray:
    """A map over its slice, both BGR uint8 [h, w, 3]."""
    colours, cover = colour(heat, slice_.shape[1], slice_.shape[0])
    opacity = np.float32(_OPACITY) * cover
    return np.asarray(cv2.blendLinear(slice_, colours, 1 - opacity, opacity))


def write(judgement: Judgement, heat: Heat | None, folder: Path) -> Path | None:
    """Write the picture of a judged slice and its heat map to `folder`; None, and nothing written, for a rejected one
    and where there is no heat map.

    Named after the file and the first digits of its pixels' SHA-256, so that equal names do not collide.
    """
    result = judgement.result
    if judgement.slice is None or heat is None or result.decision == "rejected":
        return None
    picture = draw_heat(judgement.slice.pixels, heat, caption(result))
    name = Path(result.source).stem.strip("<>.") or "slice"
    # A file name has at most 255 bytes.
    name = name.encode()[:200].decode(errors="ignore")
    path = folder / f"{name}-{judgement.slice.sha256[:8]}.png"
    write_bytes(path, encode(picture, str(path)))
    return path


def caption(result: Answer) -> str:
    """What is written below a picture."""
    p = "" if result.probability is None else f", P(COVID-19) = {result.probability:.2f}"
    return f"{result.decision}{p}. Research use only."


def encode(picture: np.ndarray, name: str) -> bytes:
    """A picture as PNG."""
    encoded, content = cv2.imencode(".png", picture)
    if not encoded:
        raise EdgeCTError(f"{name}: cannot be encoded")
    return content.tobytes()


def _legend(canvas: np.ndarray, top: int, method: str, caption: str) -> None:
    ramp = np.linspace(0, 255, _BAR).astype(np.uint8)[np.newaxis].repeat(12, axis=0)
    canvas[top + 2 : top + 14, _MARGIN : _MARGIN + _BAR] = cv2.applyColorMap(ramp, _COLOURS)
    for share in (0, 0.5, 1):
        x = _MARGIN + round(share * (_BAR - 1))
        canvas[top + 14 : top + 17, x] = 0
        _text(canvas, f"{share * FULL_SCALE:g}{'+' if share == 1 else ''}", (max(2, x - 4), top + 28), 0.35)
    _text(canvas, "evidence for COVID-19, in log-odds,", (3 * _MARGIN + _BAR, top + 13))
    _text(canvas, _METHODS.get(method, method), (3 * _MARGIN + _BAR, top + 28))
    _text(canvas, caption, (_MARGIN, top + 47))


def _text(canvas: np.ndarray, text: str, origin: tuple[int, int], size: float = 0.45) -> None:
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
