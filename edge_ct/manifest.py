"""The schema of `manifest.json`, the bundle's account of itself. Version 1.

Adding an optional field keeps the version; renaming or removing one raises it, and `bundle` keeps reading the old.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from .preprocess import Preprocess

SCHEMA = 1
INTENDED_USE = (
    "Research use only. Not a medical device: not for diagnosis, not a substitute for a test or a radiologist. "
    "For axial chest CT slices in a lung window."
)

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]

# What the numbers of the file are: float32; float16 weights; int8 weights with float arithmetic; integer throughout;
# int16 activations on int8 weights.
Variant = Literal["fp32", "fp16", "dynamic", "int8", "int16x8"]


class Estimate(msgspec.Struct, frozen=True):
    """A measured value with its 95 % interval; None where it is undefined (no positives, say)."""

    value: float | None
    low: float | None
    high: float | None

    def text(self, digits: int = 3, percent: bool = False) -> str:
        """Format the value with its interval: `0.935 [0.908, 0.955]`, or `93.5 % [90.8, 95.5]`.

        Args:
            digits: Digits after the point.
            percent: Whether to print per cent.

        Returns:
            The text; `undefined` where there is no value, and the value alone where there is no interval.
        """
        if self.value is None:
            return "undefined"
        factor, unit = (100, " %") if percent else (1, "")
        text = f"{factor * self.value:.{digits}f}{unit}"
        if self.low is None or self.high is None:
            return text
        return f"{text} [{factor * self.low:.{digits}f}, {factor * self.high:.{digits}f}]"


class Network(msgspec.Struct, frozen=True):
    """What was trained. alpha: width multiplier of MobileNetV2, None elsewhere."""

    architecture: str
    alpha: float | None
    parameters: Count


class Tensor(msgspec.Struct, frozen=True):
    """One input or output of the graph: real value = (stored - zero_point) * scale; scale is 1 for float tensors.

    position: index among the interpreter's inputs or outputs.
    """

    position: Count
    dtype: Literal["uint8", "int8", "int16", "float32"]
    shape: tuple[int, ...]
    scale: Annotated[float, msgspec.Meta(gt=0)]
    zero_point: int


class Tensors(msgspec.Struct, frozen=True):
    """input [1, s, s, 1]; logits [1, 2]; class_map [1, h, w, 2], whose mean is the logits; embedding [1, e].

    class_map: None for a network whose head is more than one layer. byte_scale, byte_zero_point: an input that is not
    uint8 takes `(byte - byte_zero_point) * byte_scale`, in its own scale and zero point where it has one.
    """

    input: Tensor
    logits: Tensor
    class_map: Tensor | None
    embedding: Tensor
    byte_scale: Annotated[float, msgspec.Meta(gt=0)] = 1 / 127.5
    byte_zero_point: int = 128


class Calibration(msgspec.Struct, frozen=True):
    """P(positive) = sigmoid(slope * (logit[1] - logit[0]) + intercept), fitted on this file's own outputs.

    method: none (slope 1, intercept 0), temperature (intercept 0) or platt (both; that of earlier versions).
    """

    slope: Annotated[float, msgspec.Meta(gt=0)]
    intercept: float
    split: str
    positives: Count
    negatives: Count
    method: Literal["none", "temperature", "platt"] = "platt"


class OperatingPoint(msgspec.Struct, frozen=True):
    """Positive from `threshold` on: the highest that reaches `target_sensitivity` on the calibration split."""

    threshold: Probability
    target_sensitivity: Probability


class Zone(msgspec.Struct, frozen=True):
    """Class-conditional split conformal prediction at `level`.

    positive_from: P at and above which COVID is among the classes that cannot be ruled out.
    negative_to: P at and below which non-COVID is.
    Where both or neither hold, the slice is referred.
    """

    level: Probability
    positive_from: Probability
    negative_to: Probability
    positives: Count
    negatives: Count


class Outliers(msgspec.Struct, frozen=True):
    """What the network has seen, so that what it has not can be told; see `outliers`.

    member: of the zip, what is kept of the training slices' embeddings. threshold: distance beyond which a picture is
    strange; rate: share of the `cases` of `split` that lie beyond it.
    """

    member: str
    channels: Count
    components: Count
    threshold: Annotated[float, msgspec.Meta(gt=0)]
    rate: Probability
    split: str
    cases: Count


class Golden(msgspec.Struct, frozen=True):
    """A phantom slice, already preprocessed, and the stored logits that the graph gave where it was made."""

    input: str
    logits: tuple[float, ...]


class Data(msgspec.Struct, frozen=True):
    """Where the figures come from. fingerprint: SHA-256 over the sorted pixel hashes and labels."""

    name: str
    fingerprint: str
    split: Literal["random", "grouped", "external"]
    seed: int
    counts: dict[str, Count]


class Gate(msgspec.Struct, frozen=True):
    """The rule stated before measuring, and how the converted model fared against fp32 on the same slices.

    max_sensitivity_drop: None where `max_drop` holds for it too. largest_change: of P(positive); reference: another
    model it was compared with. Bundles of earlier versions have none of the last five.
    """

    max_drop: float
    passed: bool
    split: str
    agreement: Probability
    mcnemar_p: Probability
    mcnemar_p_positives: Probability
    max_sensitivity_drop: float | None = None
    least_agreement: Probability = 0.0
    largest_change: Probability | None = None
    reference: str | None = None
    reference_agreement: Probability | None = None


class Manifest(msgspec.Struct, frozen=True):
    """Everything a reader needs to run, judge and reproduce a bundle.

    metrics: variant ("fp32", "int8") -> metric name -> estimate, on the test split. shrinking: what was done to the
    network before, "" for nothing ("pruned-0.7", say). map_centres: where the rows of the class map look, then its
    columns, shares of the side; see `receptive`. In bundles of earlier versions one list is for both, or it is None, as
    outliers are.
    """

    schema: Literal[1]
    name: str
    created: str
    variant: Variant
    network: Network
    classes: tuple[str, str]
    preprocess: Preprocess
    tensors: Tensors
    calibration: Calibration
    operating_point: OperatingPoint
    zone: Zone | None
    golden: tuple[Golden, ...]
    data: Data
    gate: Gate | None
    metrics: dict[str, dict[str, Estimate]]
    metrics_n: Count
    versions: dict[str, str]
    licence: str
    intended_use: str
    model_sha256: str
    shrinking: str = ""
    outliers: Outliers | None = None
    map_centres: tuple[Probability, ...] | None = None

    def __post_init__(self) -> None:
        if (centres := self.map_centres) is not None:
            shape = () if self.tensors.class_map is None else self.tensors.class_map.shape
            cells = max(shape[1:2], default=0)
            if not cells or shape != (1, cells, cells, 2) or len(centres) not in (cells, 2 * cells):
                raise ValueError("map_centres is not of the class map")
            if any(list(axis) != sorted(set(axis)) for axis in (centres[:cells], centres[-cells:])):
                raise ValueError("map_centres does not increase")
