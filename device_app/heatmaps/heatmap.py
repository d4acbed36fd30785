"""Heat maps: where the network found evidence for COVID-19, drawn over the slice, with a legend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from edge_ct.classifier import Judgement
from edge_ct.errors import EdgeCTError
from edge_ct.imaging.lung_box import Box
from edge_ct.manifest import Calibration, Manifest
from edge_ct.network_analysis.receptive_field import Centres, centres_in_slice, enlarge_map
from edge_ct.system.files import write_bytes

# Local evidence in log-odds that gets the strongest colour. It is the same for all slices, so pictures can be compared.
FULL_SCALE = 6.0
_SIDE, _MARGIN, _LEGEND, _LEGEND_WIDTH, _BAR = 512, 8, 56, 144, 128
_OPACITY = 0.65
_COLOURS = cv2.COLORMAP_CIVIDIS  # readable by colour-blind people and in greyscale print
# A file name has at most 255 bytes; this leaves room for the hash and the ending.
_MAX_NAME_BYTES = 200


_METHODS = {
    "class map": "from the class map of the network",
    "lesion map": "from the lesion map of the network",
    "occlusion": "from occlusion: log-odds lost when a patch is blurred",
}


@dataclass(frozen=True, eq=False)
class Heat:
    """The evidence that a decision rests on.

    Attributes:
        evidence: float32 [h, w], calibrated log-odds of COVID-19; of a lesion if the method is `lesion map`.
        method: `class map`, `lesion map` or `occlusion`.
        centres: Centres of the receptive fields of its rows and columns; None if they were not measured.
    """

    evidence: np.ndarray
    method: str
    centres: Centres = None


class DecidedSlice(Protocol):
    """A `Result`, or a row of the worklist."""

    @property
    def decision(self) -> str: ...

    @property
    def probability(self) -> float | None: ...


def calibrated_log_odds(class_map: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Return the calibrated log-odds of each cell; their mean is the log-odds of the slice.

    Args:
        class_map: float32 [h, w, 2].
        calibration: The calibration of the bundle.

    Returns:
        float32 [h, w].
    """
    return np.asarray(calibration.slope * (class_map[:, :, 1] - class_map[:, :, 0]) + calibration.intercept)


def heat_of_maps(
    class_map: np.ndarray | None,
    lesion_map: np.ndarray | None,
    manifest: Manifest,
    region: Box | None,
    shape: tuple[int, ...],
) -> Heat | None:
    """Return the heat map that the maps of a graph give: the lesion map if there is one, because it is the finer.

    Args:
        class_map: float32 [h, w, 2], or None.
        lesion_map: Logits, float32 [h, w], or None.
        manifest: The manifest of the bundle.
        region: The part of the slice that the network saw; None for the whole slice.
        shape: Height and width of the slice in pixels.
    """
    region = region or Box(0, shape[0], 0, shape[1])
    if lesion_map is not None:
        return Heat(lesion_map, "lesion map", centres_in_slice(None, lesion_map.shape, region, shape))
    if class_map is None:
        return None
    evidence = calibrated_log_odds(class_map, manifest.calibration)
    return Heat(evidence, "class map", centres_in_slice(manifest.map_centres, evidence.shape, region, shape))


def map_heat(judgement: Judgement, manifest: Manifest) -> Heat | None:
    """Return the heat map of a judgement; None if the slice was rejected or the graph has no map."""
    outputs, slice_ = judgement.outputs, judgement.slice
    if outputs is None or slice_ is None:
        return None
    return heat_of_maps(outputs.class_map, outputs.lesion_map, manifest, judgement.region, slice_.pixels.shape)


def draw_heat(pixels: np.ndarray, heat: Heat, caption: str) -> np.ndarray:
    """Draw a slice, and beside it the slice with its heat map, over a legend.

    Args:
        pixels: uint8 [h, w].
        heat: The heat map.
        caption: The last line of the legend.

    Returns:
        BGR uint8 [height, width, 3].
    """
    scale = _SIDE / max(pixels.shape)
    width, height = (max(1, round(side * scale)) for side in pixels.shape[::-1])
    grey = cv2.cvtColor(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2BGR)
    overlay = blend_heat(grey, heat)
    total_width = max(2 * width + 3 * _MARGIN, _LEGEND_WIDTH)
    canvas = np.full((height + _LEGEND + 2 * _MARGIN, total_width, 3), 255, np.uint8)
    canvas[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width] = grey
    canvas[_MARGIN : _MARGIN + height, 2 * _MARGIN + width : 2 * (_MARGIN + width)] = overlay
    _draw_legend(canvas, height + 2 * _MARGIN, heat.method, caption)
    return canvas


def colour_heat(heat: Heat, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Enlarge a heat map and turn it into colours.

    Args:
        heat: The heat map.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.

    Returns:
        The colours, BGR uint8 [height, width, 3], and their opacity, float32 [height, width], 0 to 1.
    """
    enlarged = enlarge_map(np.nan_to_num(heat.evidence), height, width, heat.centres)
    strength = np.clip(enlarged / FULL_SCALE, 0, 1)
    return cv2.applyColorMap((strength * 255).astype(np.uint8), _COLOURS), np.sqrt(strength)


def blend_heat(picture: np.ndarray, heat: Heat) -> np.ndarray:
    """Draw a heat map over a slice; both are BGR uint8 [h, w, 3]."""
    colours, opacity = colour_heat(heat, picture.shape[1], picture.shape[0])
    opacity = np.float32(_OPACITY) * opacity
    return np.asarray(cv2.blendLinear(picture, colours, 1 - opacity, opacity))


def write_heatmap(judgement: Judgement, heat: Heat | None, folder: Path) -> Path | None:
    """Write the picture of a judged slice and its heat map to a folder.

    The file is named after the slice and the first digits of its pixels' SHA-256, so that files of equal name in
    different folders do not collide.

    Returns:
        The path; None, and nothing is written, if the slice was rejected or has no heat map.
    """
    result = judgement.result
    if judgement.slice is None or heat is None or result.decision == "rejected":
        return None
    picture = draw_heat(judgement.slice.pixels, heat, caption(result))
    name = Path(result.source).stem.strip("<>.") or "slice"
    name = name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    path = folder / f"{name}-{judgement.slice.sha256[:8]}.png"
    write_bytes(path, encode_png(picture, str(path)))
    return path


def caption(decided: DecidedSlice) -> str:
    """Return the line of text below a picture: the decision, the probability and the notice."""
    p = "" if decided.probability is None else f", P(COVID-19) = {decided.probability:.2f}"
    return f"{decided.decision}{p}. Research use only."


def encode_png(picture: np.ndarray, source: str) -> bytes:
    """Encode a picture as PNG, at the compression level that is fast on a small device.

    Args:
        picture: Grey uint8 [h, w], BGR [h, w, 3] or BGRA [h, w, 4].
        source: The name of the picture, for errors.
    """
    encoded, content = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not encoded:
        raise EdgeCTError(f"{source}: the picture cannot be encoded as PNG")
    return content.tobytes()


def describe_evidence(method: str) -> str:
    """Return what a heat map made by a method is evidence for."""
    return "opacities" if method == "lesion map" else "COVID-19"


def _draw_legend(canvas: np.ndarray, top: int, method: str, caption: str) -> None:
    ramp = np.linspace(0, 255, _BAR).astype(np.uint8)[np.newaxis].repeat(12, axis=0)
    canvas[top + 2 : top + 14, _MARGIN : _MARGIN + _BAR] = cv2.applyColorMap(ramp, _COLOURS)
    for position in (0, 0.5, 1):
        x = _MARGIN + round(position * (_BAR - 1))
        canvas[top + 14 : top + 17, x] = 0
        tick = f"{position * FULL_SCALE:g}{'+' if position == 1 else ''}"
        _draw_text(canvas, tick, (max(2, x - 4), top + 28), 0.35)
    _draw_text(canvas, f"evidence for {describe_evidence(method)}, in log-odds,", (3 * _MARGIN + _BAR, top + 13))
    _draw_text(canvas, _METHODS.get(method, method), (3 * _MARGIN + _BAR, top + 28))
    _draw_text(canvas, caption, (_MARGIN, top + 47))


def _draw_text(canvas: np.ndarray, text: str, origin: tuple[int, int], size: float = 0.45) -> None:
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
