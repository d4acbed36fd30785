"""Magnitude pruning (Zhu & Gupta 2017): the smallest weights become zero, step by step more of them, during training.

Pruning makes files compress better. It makes inference faster only where the runtime has sparse kernels for the layer,
the data type and the processor.
"""

from __future__ import annotations

import warnings
from typing import Any

import msgspec
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.system import native_output
from edge_ct.system.progress import QUIET, Progress

from .finetune import DistillationData, EpochResult, FineTuneRecipe, fine_tune
from .tf_keras_twin import CONVOLUTIONS, build_twin, clone_layers, copy_back

with native_output.captured_native_stderr(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_model_optimization as tfmot

# Layers with fewer weights, such as stems and the class map, are not worth pruning.
_MIN_WEIGHTS = 1024
# Share of the steps during which sparsity rises; in the rest the network recovers.
_RISE = 0.6
_KINDS = {"Conv2D": "kernel", "Dense": "kernel", "SeparableConv2D": "pointwise_kernel"}


class PruneAccount(msgspec.Struct, frozen=True):
    """The result of pruning.

    Attributes:
        share: Share of the pruned layers' weights that are zero.
        overall: Share of all weights that are zero.
        layers: Number of pruned layers.
        left: Names of the layers with kernels that were not pruned.
        epochs: The epochs of training.
    """

    share: float
    overall: float
    layers: int
    left: tuple[str, ...]
    epochs: list[EpochResult]


def prune_network(
    model: Any,
    sparsity: float,
    data: DistillationData,
    recipe: FineTuneRecipe,
    progress: Progress = QUIET,
) -> PruneAccount:
    """Prune a network in place.

    Args:
        model: A Keras 3 network whose only output is the logits.
        sparsity: Share of each pruned layer's weights that becomes zero.
        data: The slices.
        recipe: How to train.
        progress: Where progress is shown.

    Raises:
        EdgeCTError: No layer is large enough to prune.
    """
    base = build_twin(model)
    chosen = {layer.name for layer in base.layers if _is_prunable(layer)}
    if not chosen:
        raise EdgeCTError(f"{model.name} cannot be pruned: it has no layer of {_MIN_WEIGHTS} weights or more")
    steps = len(data.draw(recipe.seed, 0, recipe.batch)) * recipe.epochs
    every = max(1, steps // 100)
    end = every * max(1, round(_RISE * steps / every))  # a step at which masks are updated
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, sparsity, begin_step=0, end_step=end, frequency=every)

    def wrap(layer: Any) -> Any:
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule) if layer.name in chosen else layer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = clone_layers(base, wrap)
    wrappers = [layer for layer in network.layers if hasattr(layer, "pruning_step")]

    def on_step(step: int) -> None:
        for wrapper in wrappers:
            wrapper.pruning_step.assign(step)

    def apply_masks() -> None:
        for wrapper in wrappers:
            wrapper.pruning_obj.weight_mask_op()

    eligible = min(recipe.epochs - 1, -(-end * recipe.epochs // steps))
    epochs = fine_tune(network, data, recipe, progress, f"pruning {sparsity:g}", on_step, apply_masks, eligible)
    apply_masks()
    stripped = tfmot.sparsity.keras.strip_pruning(network)
    copy_back(stripped, model)
    return count_zeros(model, chosen, epochs)


def count_zeros(model: Any, pruned: set[str], epochs: list[EpochResult]) -> PruneAccount:
    """Count the zeros of a network.

    Args:
        model: A Keras 3 network.
        pruned: Names of its pruned layers.
        epochs: The epochs of training, for the result.
    """
    zeros = weights = 0
    for layer in model.layers:
        if layer.name in pruned:
            kernel = np.asarray(getattr(layer, _KINDS[type(layer).__name__]))
            zeros += int((kernel == 0).sum())
            weights += kernel.size
    with_kernels = [layer.name for layer in model.layers if type(layer).__name__ in CONVOLUTIONS]
    everything = model.get_weights()
    return PruneAccount(
        share=zeros / weights,
        overall=sum(int((values == 0).sum()) for values in everything) / sum(values.size for values in everything),
        layers=len(pruned),
        left=tuple(name for name in with_kernels if name not in pruned),
        epochs=epochs,
    )


def _is_prunable(layer: Any) -> bool:
    attribute = _KINDS.get(type(layer).__name__, "")
    return bool(attribute) and int(np.prod(getattr(layer, attribute).shape)) >= _MIN_WEIGHTS
