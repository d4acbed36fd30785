"""Magnitude pruning (Zhu & Gupta 2017): the smallest weights become zero, more of them step by step, in training.

It makes files compress better. It makes inference faster only where kernels for sparse weights exist for the layer, the
type and the target at hand.
"""

from __future__ import annotations

import warnings
from typing import Any

import msgspec
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.system import native_output
from edge_ct.system.progress import QUIET, Progress

from . import finetune, tf_keras_twin

with native_output.captured_native_stderr(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_model_optimization as tfmot

# Layers of fewer weights than this hold too little to be worth losing any: stems, the class map.
_SMALLEST = 1024
# Share of the steps over which sparsity rises; in the rest the network recovers.
_RISE = 0.6
_KINDS = {"Conv2D": "kernel", "Dense": "kernel", "SeparableConv2D": "pointwise_kernel"}


class Account(msgspec.Struct, frozen=True):
    """What pruning came to. share: of the pruned layers' weights that are zero. overall: of all weights.

    layers: how many were pruned. left: names of the layers with kernels that were not.
    """

    share: float
    overall: float
    layers: int
    left: tuple[str, ...]
    epochs: list[finetune.Epoch]


def prune(
    model: Any, sparsity: float, lessons: finetune.Lessons, recipe: finetune.Recipe, progress: Progress = QUIET
) -> Account:
    """Prune a Keras 3 network of one output in place. sparsity: share of each pruned layer's weights to become zero."""
    base = tf_keras_twin.of(model)
    chosen = {layer.name for layer in base.layers if _prunable(layer)}
    if not chosen:
        raise EdgeCTError(f"{model.name} has no layer of {_SMALLEST} weights to prune")
    steps = len(lessons.draw(recipe.seed, 0, recipe.batch)) * recipe.epochs
    every = max(1, steps // 100)
    end = every * max(1, round(_RISE * steps / every))  # sparsity is reached at a step at which masks are drawn anew
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, sparsity, begin_step=0, end_step=end, frequency=every)

    def wrap(layer: Any) -> Any:
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule) if layer.name in chosen else layer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = tf_keras_twin.api.models.clone_model(base, clone_function=wrap)
    wrappers = [layer for layer in network.layers if hasattr(layer, "pruning_step")]

    def on_step(step: int) -> None:
        for wrapper in wrappers:
            wrapper.pruning_step.assign(step)

    def mask() -> None:
        for wrapper in wrappers:
            wrapper.pruning_obj.weight_mask_op()

    eligible = min(recipe.epochs - 1, -(-end * recipe.epochs // steps))
    epochs = finetune.fit(network, lessons, recipe, progress, f"pruning {sparsity:g}", on_step, mask, eligible)
    mask()
    stripped = tfmot.sparsity.keras.strip_pruning(network)
    tf_keras_twin.bring_back(stripped, model)
    return account(model, chosen, epochs)


def account(model: Any, pruned: set[str], epochs: list[finetune.Epoch]) -> Account:
    """Count the zeros of a network. pruned: names of its pruned layers."""
    zeros = weights = 0
    for layer in model.layers:
        if layer.name in pruned:
            kernel = np.asarray(getattr(layer, _KINDS[type(layer).__name__]))
            zeros += int((kernel == 0).sum())
            weights += kernel.size
    kept = [layer.name for layer in model.layers if type(layer).__name__ in tf_keras_twin.CONVOLUTIONS]
    everything = model.get_weights()
    return Account(
        share=zeros / weights,
        overall=sum(int((values == 0).sum()) for values in everything) / sum(values.size for values in everything),
        layers=len(pruned),
        left=tuple(name for name in kept if name not in pruned),
        epochs=epochs,
    )


def _prunable(layer: Any) -> bool:
    attribute = _KINDS.get(type(layer).__name__, "")
    return bool(attribute) and int(np.prod(getattr(layer, attribute).shape)) >= _SMALLEST
