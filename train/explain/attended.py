"""Mean intensity of the attended region, base network against Modified: Garg et al. 2020, section 2.5.1.

The mask comes from the base network's map: pixels more than one standard deviation above its mean. Both networks' maps,
scaled to 0..255 as they are drawn, are averaged over this mask, and the paired differences are tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from edge_ct.network_analysis.receptive_field import enlarge_map

from .map_comparison import attended_mask


class AttentionRow(msgspec.Struct, frozen=True):
    """One pair of networks, compared on n slices.

    Attributes:
        network: Names of both networks.
        label: The class of the slices, or `both`.
        n: Number of slices.
        base: Mean intensity of the base network's maps, 0..255.
        base_sd: Its standard deviation over the slices.
        modified: Mean intensity of the Modified network's maps, 0..255.
        modified_sd: Its standard deviation over the slices.
        t_p: p-value of the paired t-test; None for fewer than two slices or if no pair differs.
        wilcoxon_p: p-value of the Wilcoxon signed-rank test; None as for `t_p`.
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
class AttendedIntensities:
    """Mean intensities of n slices, and the maps they were measured on.

    Attributes:
        base: float64 [n].
        modified: float64 [n].
        maps_base: float32 [n, s, s], 0..255.
        maps_modified: float32 [n, s, s], 0..255.
    """

    base: np.ndarray
    modified: np.ndarray
    maps_base: np.ndarray
    maps_modified: np.ndarray


def measure_intensities(base: np.ndarray, modified: np.ndarray, side: int) -> AttendedIntensities:
    """Average both networks' maps over the mask of the base network.

    Args:
        base: Maps of the base network, [n, h, w] of any size.
        modified: Maps of the Modified network on the same slices, [n, h, w] of any size.
        side: Side in pixels to which all maps are scaled.
    """
    base_maps, modified_maps = _scale_as_drawn(base, side), _scale_as_drawn(modified, side)
    masks = [attended_mask(heat) for heat in base_maps]
    return AttendedIntensities(
        np.array([_masked_mean(heat, mask) for heat, mask in zip(base_maps, masks, strict=True)]),
        np.array([_masked_mean(heat, mask) for heat, mask in zip(modified_maps, masks, strict=True)]),
        base_maps,
        modified_maps,
    )


def summarise_pair(
    network: str, label: str, base: Sequence[float] | np.ndarray, modified: Sequence[float] | np.ndarray
) -> AttentionRow:
    """Compute means, standard deviations and paired tests.

    Args:
        network: Names of both networks.
        label: The class of the slices, or `both`.
        base: One intensity per slice, 0..255.
        modified: One intensity per slice, 0..255, in the same order.
    """
    from scipy.stats import ttest_rel, wilcoxon

    first, second = np.asarray(base, float), np.asarray(modified, float)
    testable = len(first) > 1 and bool(np.ptp(first - second) > 0)
    return AttentionRow(
        network,
        label,
        len(first),
        float(first.mean()),
        float(first.std(ddof=1)) if len(first) > 1 else 0.0,
        float(second.mean()),
        float(second.std(ddof=1)) if len(second) > 1 else 0.0,
        float(ttest_rel(first, second).pvalue) if testable else None,
        float(wilcoxon(first, second).pvalue) if testable else None,
    )


def _scale_as_drawn(maps: np.ndarray, side: int) -> np.ndarray:
    """Scale maps [n, h, w] to float32 [n, side, side], each from 0 to 255; a map of zeros stays zero."""
    peaks = maps.max((1, 2), keepdims=True)
    scaled = np.divide(255 * maps, peaks, out=np.zeros_like(maps), where=peaks > 0)
    return np.stack([enlarge_map(heat, side, side) for heat in scaled])


def _masked_mean(heat: np.ndarray, mask: np.ndarray) -> float:
    return float(heat[mask].mean()) if mask.any() else 0.0
