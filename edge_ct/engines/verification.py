"""Comparing an engine with LiteRT on the golden slices of a bundle, before the engine may judge.

Engines round differently, and the differences add up from layer to layer: each logit may differ by one stored step from
the golden one, as on any machine. The maps and the embedding have no golden values and are coarser than the logits,
which are their mean. They are compared with those of LiteRT on this machine, to notice a wrong order, scale or layout,
which makes them differ by tens of steps.
"""

from __future__ import annotations

import numpy as np

from ..errors import ModelRejected
from ..manifest import Tensor, Tensors
from ..runtime import Outputs, Runtime

# Mean absolute difference in stored steps over the values of an output. The shipped int8 bundles have at most 1.5.
MAX_MEAN_STEPS = 2.0
# A float graph stores no steps; this is the difference that golden logits may have, too.
_FLOAT_STEP = 1e-3


def compare_outputs(engine: Runtime, litert: Runtime, tensors: Tensors, image: np.ndarray, source: str) -> None:
    """Compare the outputs of an engine with those of LiteRT for one image.

    Args:
        engine: The engine to check.
        litert: LiteRT with the same bundle.
        tensors: The tensors of the bundle.
        image: uint8 [size, size, 1].
        source: The name of the bundle in messages.

    Raises:
        ModelRejected: A map or the embedding is missing or differs too much.
    """
    engine.invoke(image)
    litert.invoke(image)
    outputs, expected = engine.outputs(), litert.outputs()
    for name in ("class_map", "embedding", "lesion_map"):
        tensor: Tensor | None = getattr(tensors, name)
        if tensor is None:
            continue
        steps = _mean_steps(outputs, expected, name, tensor)
        # NaN is not below the limit.
        if not steps <= MAX_MEAN_STEPS:
            raise ModelRejected(
                f"{source}: OpenVINO computes another {name.replace('_', ' ')} than LiteRT (by {steps:.1f} stored "
                "steps on average); use --engine litert"
            )


def _mean_steps(outputs: Outputs, expected: Outputs, name: str, tensor: Tensor) -> float:
    values, right = getattr(outputs, name), getattr(expected, name)
    step = tensor.scale if tensor.dtype != "float32" else _FLOAT_STEP
    return float(np.abs(values - right).mean() / step)
