"""The settings of a conversion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.manifest import Variant

from .gate import GateRule

Quantizer = Literal["tensorflow", "ai-edge"]
# How activation ranges are derived from the representative slices.
RangeMethod = Literal["minmax", "moving-average", "mse"]
# What a single layer is computed in instead of 8 bits.
LayerPrecision = Literal["fp32", "int16"]

# From the largest file to the smallest, which is the order in which they are made.
VARIANTS: tuple[Variant, ...] = ("fp32", "fp16", "dynamic", "int16x8", "int8")
INTEGER_VARIANTS: tuple[Variant, ...] = ("int8", "int16x8")
RANGE_METHODS: tuple[RangeMethod, ...] = ("minmax", "moving-average", "mse")


class FileFormat(msgspec.Struct, frozen=True):
    """The format of one TFLite file.

    Attributes:
        variant: Number format of weights and activations.
        float_io: Input and outputs are float32, and the caller normalises the slices. Otherwise the input takes bytes,
            if the variant can.
        fixed_batch: The file takes one slice at a time, which delegates run fastest. Otherwise the batch size is free.
        sparse: Kernels with many zeros are stored without the zeros.
    """

    variant: Variant = "int8"
    float_io: bool = False
    fixed_batch: bool = True
    sparse: bool = False


class ShrinkOptions(msgspec.Struct, frozen=True):
    """The steps that make a network smaller before it is quantised.

    Attributes:
        slim: Share of the expansion channels to remove; 0 for none.
        prune: Share of the weights to set to zero; 0 for none.
        qat: Epochs of quantisation-aware training; 0 for none.
        epochs: Epochs of fine-tuning after slimming, and of training while pruning.
        seed: Seed of everything that is drawn at random.
    """

    slim: float = 0.0
    prune: float = 0.0
    qat: int = 0
    epochs: int = 4
    seed: int = 0

    @property
    def label(self) -> str:
        """The steps as part of a name, for example `slimmed-0.3` or `pruned-0.7-qat`; "" for none."""
        slimmed = f"slimmed-{self.slim:g}" if self.slim else ""
        pruned = f"pruned-{self.prune:g}" if self.prune else ""
        return "-".join(part for part in (slimmed, pruned, "qat" if self.qat else "") if part)

    def check(self, variants: tuple[Variant, ...], sparse: bool = False, quantizer: Quantizer = "tensorflow") -> None:
        """Check that the steps are of use for the requested files.

        Args:
            variants: The variants of the files.
            sparse: Whether kernels are stored without their zeros.
            quantizer: The quantiser of integer files.

        Raises:
            EdgeCTError: They are not.
        """
        if sparse and not self.prune:
            raise EdgeCTError("--sparse stores kernels without the zeros that --prune makes: add --prune")
        others = [variant for variant in variants if variant != "int8"]
        if self.qat and others:
            raise EdgeCTError(f"quantisation-aware training is for int8, not for {', '.join(others)}: leave out --qat")
        if self.qat and quantizer != "tensorflow":
            raise EdgeCTError("quantisation-aware training needs TensorFlow's converter: leave out --quantizer")


class ConversionOptions(msgspec.Struct, frozen=True):
    """The settings of a conversion.

    Attributes:
        variants: The files to make of the network.
        float_io: See `FileFormat`.
        fixed_batch: See `FileFormat`.
        sparse: See `FileFormat`.
        shrink: Steps that make the network smaller before it is quantised.
        representative: Number of slices of the training split that set the integer ranges.
        max_drop: See `gate.GateRule`.
        max_sensitivity_drop: See `gate.GateRule`.
        agreement: See `gate.GateRule`.
        reference: Run folder of another model to compare with.
        report_only: Also write the file that fails the gate, under another name.
        target_sensitivity: Share of positives that the threshold for negative keeps.
        target_specificity: Share of negatives that the threshold for positive keeps.
        seed: Seed of the choice of representative slices.
        licence: Licence of the weights, for the manifest.
        quantizer: What makes the dynamic and the integer files.
        calibration: How activation ranges are derived; TensorFlow's converter has `minmax` only.
        keep: Name of a layer -> what it is computed in instead of 8 bits.
        auto_mixed: Move the int8 layers that add most noise to float until the gate passes.
        stability: Convert to int8 again with a second, disjoint set of representative slices, and report both.
        cross_fit: Bundles of folds of the same recipe that calibrate a network that was trained on every slice.
        fuse_lesions: Let the lesion map take part in the decision if that lowers the log loss.
        lesion_evidence: CSV that says how good the lesion maps of the folds are; "" for none.
    """

    variants: tuple[Variant, ...] = ("int8",)
    float_io: bool = False
    fixed_batch: bool = True
    sparse: bool = False
    shrink: ShrinkOptions = ShrinkOptions()
    representative: int = 200
    max_drop: float = 1.0
    max_sensitivity_drop: float | None = None
    agreement: float = 0.0
    reference: str | None = None
    report_only: bool = False
    target_sensitivity: float = 0.98
    target_specificity: float = 0.95
    seed: int = 0
    licence: str = "not stated"
    quantizer: Quantizer = "tensorflow"
    calibration: RangeMethod = "minmax"
    keep: dict[str, LayerPrecision] = {}
    auto_mixed: bool = False
    stability: bool = False
    cross_fit: tuple[str, ...] = ()
    fuse_lesions: bool = False
    lesion_evidence: str = ""

    def check(self) -> None:
        """Check that the settings go together.

        Raises:
            EdgeCTError: They do not.
        """
        self.shrink.check(self.variants, self.sparse, self.quantizer)
        if self.quantizer == "tensorflow" and (self.calibration != "minmax" or self.keep or self.auto_mixed):
            wanted = (
                "--keep" if self.keep else "--auto-mixed" if self.auto_mixed else f"--calibration {self.calibration}"
            )
            raise EdgeCTError(f"TensorFlow's converter has no {wanted}: add --quantizer ai-edge")
        if (self.auto_mixed or self.stability) and "int8" not in self.variants:
            raise EdgeCTError("--auto-mixed and --stability apply to int8 files: add --int8")
        if self.quantizer == "ai-edge" and (self.sparse or not self.fixed_batch):
            wanted = "--sparse" if self.sparse else "--any-batch"
            raise EdgeCTError(f"{wanted} needs TensorFlow's converter: leave out --quantizer ai-edge")

    @property
    def rule(self) -> GateRule:
        """The rule of the gate."""
        return GateRule(self.max_drop, self.max_sensitivity_drop, self.agreement)

    def file_format(self, variant: Variant) -> FileFormat:
        """Return the format of the file of a variant."""
        return FileFormat(variant, self.float_io, self.fixed_batch, self.sparse)


def parse_keep(words: Iterable[str]) -> dict[str, LayerPrecision]:
    """Parse `LAYER=fp32` and `LAYER=int16`.

    Returns:
        Name of a layer -> its precision.

    Raises:
        EdgeCTError: A word has another form.
    """
    keep: dict[str, LayerPrecision] = {}
    for word in words:
        layer, _, precision = word.rpartition("=")
        if not layer or precision not in ("fp32", "int16"):
            raise EdgeCTError(f"--keep {word}: write LAYER=fp32 or LAYER=int16")
        keep[layer] = "fp32" if precision == "fp32" else "int16"
    return keep


def options_from_flags(flags: Mapping[str, Any]) -> ConversionOptions:
    """Return the settings that the flags of `edge-ct convert` stand for.

    Args:
        flags: Name of a parameter of the command -> its value. Formats are `format_fp32` and so on; parameters that are
            no settings are ignored.

    Raises:
        EdgeCTError: A value of `keep` is malformed.
    """
    variants = tuple(variant for variant in VARIANTS if flags[f"format_{variant}"]) or ("int8",)
    shrink = ShrinkOptions(
        slim=flags["slim"] or 0.0,
        prune=flags["prune"] or 0.0,
        qat=flags["qat"] or 0,
        epochs=flags["fine_tune"],
        seed=flags["seed"],
    )
    keep = parse_keep(flags["keep"])
    return msgspec.convert({**flags, "variants": variants, "shrink": shrink, "keep": keep}, ConversionOptions)
