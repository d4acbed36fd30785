"""The zoo in figures: what `edge-ct models` lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from edge_ct.network_analysis.macs import count_macs
from edge_ct.system import native_output
from edge_ct.system.progress import QUIET, Progress

from . import build

with native_output.captured_native_stderr():
    import keras


class Described(msgspec.Struct, frozen=True):
    """A network of the zoo. params: all weights, the head's included. macs: multiply-accumulates a slice at `size`.

    class_map: whether it explains itself at no cost. qat: what quantisation-aware training takes of it.
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


def describe(names: Sequence[str] = (), size: int | None = None, progress: Progress = QUIET) -> list[Described]:
    """Build each network (all of them by default) and count. size: pixels a side; None is the default size.

    Raises `EdgeCTError` for an unknown name and for a size below a network's minimum.
    """
    chosen = [build.find(name) for name in names or build.NETWORKS]
    side = size or build.DEFAULT_SIZE
    for architecture in chosen:
        build.check_size(architecture, side)
    found: dict[str, Described] = {}
    with progress.bar("counting", len(chosen)) as on_done:
        for architecture in chosen:
            if architecture.name not in found:
                model = build.build(keras, architecture.name, side)
                found[architecture.name] = _described(architecture, model, side)
                modified = build.ARCHITECTURES.get(build.MODIFIED + architecture.name)
                if modified in chosen:  # the same backbone: building it is what takes the time
                    found[modified.name] = _described(modified, build.with_head(keras, modified, model), side)
            on_done(1)
    return [found[architecture.name] for architecture in chosen]


def _described(architecture: build.Architecture, model: Any, size: int) -> Described:
    return Described(
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
