"""What comes of a network that was made smaller before it is quantised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A network as it goes to the quantiser.

    model: Keras 3 or tf_keras, of one output (logits) with the zoo's layer names, or of the deployed form's outputs.
    label: what was done, for names and tables ("qat", "pruned-0.7"); "" for nothing.
    exact: whether the kernels must reach the quantiser as they are, as those of quantisation-aware training must. Those
    of a tf_keras network always do; of others they are rounded first (`rounding`), which keeps every zero.
    parameters: of the network where they have become fewer; None where they are the run's.
    account: what the step has to say of itself (layers left out, sparsity), printed under `shrinking` in the JSON.
    """

    model: Any
    label: str = ""
    exact: bool = False
    parameters: int | None = None
    account: dict[str, Any] = field(default_factory=dict)
