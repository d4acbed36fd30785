"""How to convert."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.manifest import Variant

from .gate import Rule
from .quantise.ai_edge import Calibration, Precision
from .quantise.keras_to_tflite import Form

Quantizer = Literal["tensorflow", "ai-edge"]

# From the largest to the smallest, which is the order in which several are made.
VARIANTS: tuple[Variant, ...] = ("fp32", "fp16", "dynamic", "int16x8", "int8")


class Options(msgspec.Struct, frozen=True):
    """How to convert. variants: the files to make of the network.

    float_io, fixed_batch, sparse: as in `quantise.Form`. representative: slices of the training split that set the
    integer ranges; seed draws them. max_drop, max_sensitivity_drop, agreement: the gate's
    rule, see `gate.Rule`. reference: run folder of another model to compare with. report_only: what fails the gate is
    written too, under another name. target_sensitivity: of the operating point. level: of the conformal zone.

    quantizer: makes the dynamic and integer files. calibration: how activations' ranges come from the representative
    slices, as in `ai_edge.quantise`; TensorFlow's converter has `minmax` alone. keep: names of layers and what they are
    computed in instead. auto_mixed: keep the layers that add most noise in float, until the gate passes. stability: do
    the same with a second, disjoint set of representative slices, and show both.
    """

    variants: tuple[Variant, ...] = ("int8",)
    float_io: bool = False
    fixed_batch: bool = True
    sparse: bool = False
    representative: int = 200
    max_drop: float = 1.0
    max_sensitivity_drop: float | None = None
    agreement: float = 0.0
    reference: str | None = None
    report_only: bool = False
    target_sensitivity: float = 0.98
    level: float = 0.95
    seed: int = 0
    licence: str = "not stated"
    quantizer: Quantizer = "tensorflow"
    calibration: Calibration = "minmax"
    keep: dict[str, Precision] = {}
    auto_mixed: bool = False
    stability: bool = False

    def check(self) -> None:
        """Raise `EdgeCTError` for what does not go together."""
        if self.quantizer == "tensorflow" and (self.calibration != "minmax" or self.keep or self.auto_mixed):
            wanted = (
                "--keep" if self.keep else "--auto-mixed" if self.auto_mixed else f"--calibration {self.calibration}"
            )
            raise EdgeCTError(f"TensorFlow's converter has no {wanted}: add --quantizer ai-edge")
        if (self.auto_mixed or self.stability) and "int8" not in self.variants:
            raise EdgeCTError("--auto-mixed and --stability are about int8: add --int8")
        if self.quantizer == "ai-edge" and (self.sparse or not self.fixed_batch):
            wanted = "--sparse" if self.sparse else "--any-batch"
            raise EdgeCTError(f"{wanted} needs TensorFlow's converter: leave out --quantizer ai-edge")

    @property
    def rule(self) -> Rule:
        """The gate's rule."""
        return Rule(self.max_drop, self.max_sensitivity_drop, self.agreement)

    def form(self, variant: Variant) -> Form:
        """What the file of that variant is to be."""
        return Form(variant, self.float_io, self.fixed_batch, self.sparse)
