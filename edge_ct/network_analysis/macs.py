"""Multiply-accumulates of a Keras network, counted from its layers without importing a framework."""

from __future__ import annotations

from typing import Any


def count_macs(model: Any) -> int:
    """Return the multiply-accumulates of one inference in convolutions and dense layers; other layers do not count."""
    total = 0
    for layer in model.layers:
        kind = type(layer).__name__
        if kind not in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense"):
            continue
        _, *positions, _ = layer.output.shape
        times = 1
        for side in positions:
            times *= side
        # Each weight of a kernel is multiplied once at every position of the output.
        weights = layer.weights[:2] if kind == "SeparableConv2D" else layer.weights[:1]
        total += times * sum(_size(weight.shape) for weight in weights)
    return total


def _size(shape: Any) -> int:
    total = 1
    for side in shape:
        total *= int(side)
    return total
