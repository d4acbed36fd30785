"""Size and cost of every network: the table that `edge-ct models` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from edge_ct.network_analysis.macs import count_macs
from edge_ct.system import native_output
from edge_ct.system.progress import QUIET, Progress

from .architectures import ARCHITECTURES, DEFAULT_SIZE, MODIFIED_PREFIX, NETWORK_NAMES, Architecture, check_size, find
from .builder import build, replace_head

with native_output.captured_native_stderr():
    import keras


class NetworkSummary(msgspec.Struct, frozen=True):
    """Size, cost and capabilities of a network.

    Attributes:
        params: Number of weights, including the head.
        macs: Multiply-accumulates for a slice of `size` pixels a side.
        minimum: Smallest side of the input in pixels.
        class_map: True if the network explains itself by a class map, at no cost.
        qat: How many of its layers quantisation-aware training can handle.
    """

    name: str
    family: str
    modified: bool
    params: int
    macs: int
    size: int
    minimum: int
    class_map: bool
    int8: bool
    qat: str


def summarise_networks(
    names: Sequence[str] = (), size: int | None = None, progress: Progress = QUIET
) -> list[NetworkSummary]:
    """Build each network and count its weights and multiply-accumulates.

    Args:
        names: Networks to summarise; all of them if empty.
        size: Side of the input in pixels; None for the default size.
        progress: Where to report progress.

    Raises:
        EdgeCTError: Unknown name, or a size below a network's minimum.
    """
    chosen = [find(name) for name in names or NETWORK_NAMES]
    side = size or DEFAULT_SIZE
    for architecture in chosen:
        check_size(architecture, side)
    summaries: dict[str, NetworkSummary] = {}
    with progress.bar("counting operations", len(chosen)) as on_done:
        for architecture in chosen:
            if architecture.name not in summaries:
                model = build(keras, architecture.name, side)
                summaries[architecture.name] = _summarise(architecture, model, side)
                modified = ARCHITECTURES.get(MODIFIED_PREFIX + architecture.name)
                if modified in chosen:  # shares the backbone, and building that takes the time
                    summaries[modified.name] = _summarise(modified, replace_head(keras, modified, model), side)
            on_done(1)
    return [summaries[architecture.name] for architecture in chosen]


def _summarise(architecture: Architecture, model: Any, size: int) -> NetworkSummary:
    return NetworkSummary(
        name=architecture.name,
        family=architecture.family,
        modified=architecture.modified,
        params=model.count_params(),
        macs=count_macs(model),
        size=size,
        minimum=architecture.minimum,
        class_map=architecture.class_map,
        int8=True,
        qat=architecture.qat,
    )
