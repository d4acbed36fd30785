"""How to convert."""

from __future__ import annotations

import msgspec

from edge_ct.manifest import Variant

from .quantise import Form

# From the largest to the smallest, which is the order in which several are made.
VARIANTS: tuple[Variant, ...] = ("fp32", "fp16", "dynamic", "int16x8", "int8")


class Options(msgspec.Struct, frozen=True):
    """How to convert. variants: the files to make of the network.

    float_io, fixed_batch, sparse: as in `quantise.Form`. representative: slices of the training split that set the
    integer ranges; seed draws them. max_drop: points of sensitivity or accuracy that the gate allows.
    target_sensitivity: of the operating point. level: of the conformal zone.
    """

    variants: tuple[Variant, ...] = ("int8",)
    float_io: bool = False
    fixed_batch: bool = True
    sparse: bool = False
    representative: int = 200
    max_drop: float = 1.0
    target_sensitivity: float = 0.98
    level: float = 0.95
    seed: int = 0
    licence: str = "not stated"

    def form(self, variant: Variant) -> Form:
        """What the file of that variant is to be."""
        return Form(variant, self.float_io, self.fixed_batch, self.sparse)
