"""What an inference of a Keras network computes, counted from its layers. No framework is imported for it."""

from __future__ import annotations

from typing import Any


def count_macs(model: Any) -> int:
    """Multiply-accumulates of one slice through convolutions and dense layers; the rest is not counted."""
    total = 0
    for layer in model.layers:
        kind = type(layer).__name__
        if kind not in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense"):
            continue
        _, *positions, _ = layer.output.shape
        times = 1
        for side in positions:
            times *= side
        # A kernel holds one multiplication for each weight, made at every position of the output.
        weights = layer.weights[:2] if kind == "SeparableConv2D" else layer.weights[:1]
        total += times * sum(_size(weight.shape) for weight in weights)
    return total


def _size(shape: Any) -> int:
    total = 1
    for side in shape:
        total *= int(side)
    return total
