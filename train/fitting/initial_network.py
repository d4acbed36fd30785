"""The network that a training starts from: with random or ImageNet weights, or with those of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edge_ct.errors import DataRejected
from edge_ct.reporting.counts import count_of
from edge_ct.run import load_finished_run
from edge_ct.system import native_output

from ..zoo.builder import build
from ..zoo.lesion_decoder import add_lesion_map
from .options import TrainingOptions

with native_output.captured_native_stderr():
    import keras


def build_network(options: TrainingOptions) -> Any:
    """Build the network of a training with its initial weights.

    Raises:
        DataRejected: The weights cannot be read, or do not fit.
    """
    first = Path(options.weights) if Path(options.weights).is_dir() else None
    weights = None if first or options.weights == "none" else options.weights
    network = build(keras, options.network, options.size, options.alpha, weights, options.dropout)
    network = add_lesion_map(keras, network) if options.lesion_map else network
    if first:
        _copy_weights_of_run(first, network, options)
    return network


def _copy_weights_of_run(folder: Path, network: Any, options: TrainingOptions) -> None:
    """Give a network the weights of a finished run, or raise `DataRejected` if they do not fit."""
    first = load_finished_run(folder)
    if first.info.kind != "network" or first.info.network.architecture != options.network:
        raise DataRejected(f"{folder}: is not a run of {options.network}, so its weights do not fit")
    # A network may learn from small slices first, and from larger ones later: its kernels do not depend on the size.
    if msgspec.structs.replace(first.info.preprocess, size=options.size) != options.preprocess:
        raise DataRejected(
            f"{folder}: its slices were cropped in another way than in this training; use the same --crop"
        )
    trained = first.load_model(partial(keras.saving.load_model, compile=False), lesion_map=options.lesion_map)
    values = {variable.path: variable for variable in trained.weights}
    if {path: variable.shape for path, variable in values.items()} != {w.path: w.shape for w in network.weights}:
        raise DataRejected(
            f"{folder}: its weights do not fit; use the same --alpha, and --lesions only if that run has a lesion map; "
            "some networks also need the same --size"
        )
    for variable in network.weights:
        variable.assign(values[variable.path])


def slices_seen_by_run(folder: Path, classes: tuple[str, str], parts: Mapping[str, str]) -> dict[str, str]:
    """Return the part of every slice that a run was made with and the new training does not use.

    Args:
        folder: Folder of the finished run.
        classes: Names of the classes of the new training.
        parts: First 16 hex digits of a pixel hash -> part of the slice in the new training.

    Raises:
        DataRejected: The run has other classes, or learned from slices that the new training would be tested on.
    """
    first = load_finished_run(folder)
    if first.info.classes != classes:
        raise DataRejected(f"{folder}: its classes are {' and '.join(first.info.classes)}")
    known = first.known()
    learned = sum(part == "test" and known.get(sha256, "test") != "test" for sha256, part in parts.items())
    if learned:
        raise DataRejected(
            f"{folder}: has already learned from {count_of(learned, 'slice')} that this training would be tested on; "
            "split both in the same way"
        )
    return {sha256: part for sha256, part in known.items() if sha256 not in parts}


def average_with_start(model: Any, options: TrainingOptions) -> None:
    """Replace the weights of a trained network by their mean with those that the training started from.

    Both lie in one basin, as one was trained from the other, and their mean often does better on data of other sources
    than either (Wortsman et al. 2022, Robust fine-tuning of zero-shot models, section 3).

    Args:
        model: Trained Keras model in float32, built from `options`.
        options: Options of the training; `average_start` is the weight of the starting weights.
    """
    start = {variable.path: variable for variable in build_network(options).weights}
    for variable in model.weights:
        mean = options.average_start * start[variable.path] + (1 - options.average_start) * variable
        variable.assign(mean)
