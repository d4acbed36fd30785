"""Mean intensity of the attended region, base network against Modified: Garg et al. 2020, section 2.5.1.

The mask is of the base network's map: pixels more than one standard deviation above its mean. Both networks' maps,
scaled to 0..255 as they are drawn, are averaged over that mask; the pairs are tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from edge_ct.network_analysis.receptive_field import enlarge_map

from . import map_comparison


class Attention(msgspec.Struct, frozen=True):
    """One pair of networks over n slices. base, modified: mean intensity, 0..255, and its standard deviation.

    t_p, wilcoxon_p: of the paired differences; None where there are fewer than two slices, or no difference at all.
    """

    network: str
    label: str
    n: int
    base: float
    base_sd: float
    modified: float
    modified_sd: float
    t_p: float | None
    wilcoxon_p: float | None


@dataclass(frozen=True, eq=False)
class Intensities:
    """Of n slices: base, modified: float64 [n]; maps_base, maps_modified: float32 [n, s, s], 0..255."""

    base: np.ndarray
    modified: np.ndarray
    maps_base: np.ndarray
    maps_modified: np.ndarray


def intensities(base: np.ndarray, modified: np.ndarray, side: int) -> Intensities:
    """Means over the base's mask. base, modified: the networks' maps of the same slices, [n, h, w] of any size.

    side: pixels that both are scaled to.
    """
    first, second = _drawn(base, side), _drawn(modified, side)
    masks = [map_comparison.attended(heat) for heat in first]
    return Intensities(
        np.array([_mean(heat, mask) for heat, mask in zip(first, masks, strict=True)]),
        np.array([_mean(heat, mask) for heat, mask in zip(second, masks, strict=True)]),
        first,
        second,
    )


def summarise(network: str, label: str, base: Sequence[float], modified: Sequence[float]) -> Attention:
    """Means and the paired tests. base, modified: one intensity a slice."""
    from scipy.stats import ttest_rel, wilcoxon

    first, second = np.asarray(base, float), np.asarray(modified, float)
    tested = len(first) > 1 and bool(np.ptp(first - second) > 0)
    return Attention(
        network,
        label,
        len(first),
        float(first.mean()),
        float(first.std(ddof=1)) if len(first) > 1 else 0.0,
        float(second.mean()),
        float(second.std(ddof=1)) if len(second) > 1 else 0.0,
        float(ttest_rel(first, second).pvalue) if tested else None,
        float(wilcoxon(first, second).pvalue) if tested else None,
    )


def _drawn(heat: np.ndarray, side: int) -> np.ndarray:
    """Maps [n, h, w] -> float32 [n, side, side], each from 0 to 255; a map of nothing stays 0."""
    peaks = heat.max((1, 2), keepdims=True)
    scaled = np.divide(255 * heat, peaks, out=np.zeros_like(heat), where=peaks > 0)
    return np.stack([enlarge_map(one, side, side) for one in scaled])


def _mean(heat: np.ndarray, mask: np.ndarray) -> float:
    return float(heat[mask].mean()) if mask.any() else 0.0
