"""The schema of `manifest.json`, which describes a bundle. Versions 1 and 2.

Adding an optional field keeps the version, unless a reader that ignores the field would compute another probability:
`Preprocess.crop` and `Calibration.lesion_slope` are of version 2. Renaming or removing a field raises the version, and
old bundles can still be read.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from .preprocess import Preprocess

SCHEMA = 2
INTENDED_USE = (
    "Research use only. Not a medical device: not for diagnosis, not a substitute for a test or a radiologist. "
    "For axial chest CT slices in a lung window."
)

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]

# The arithmetic of the file: float32; float16 weights; int8 weights with float arithmetic; int8 throughout; int16
# activations with int8 weights.
Variant = Literal["fp32", "fp16", "dynamic", "int8", "int16x8"]


class Estimate(msgspec.Struct, frozen=True):
    """A measured value with its 95 % interval; each is None where it is undefined, for example without positives."""

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
    """The network that was trained.

    Attributes:
        architecture: Its name in the zoo.
        alpha: Width multiplier of MobileNetV2; None for other architectures.
        parameters: Number of weights.
    """

    architecture: str
    alpha: float | None
    parameters: Count


class Tensor(msgspec.Struct, frozen=True):
    """One input or output of the graph: real value = (stored - zero_point) * scale.

    Attributes:
        position: Index among the inputs or the outputs of the interpreter.
        dtype: Data type of the stored values.
        shape: Shape with the batch dimension.
        scale: Quantisation scale; 1 for float tensors.
        zero_point: Quantisation zero point; 0 for float tensors.
    """

    position: Count
    dtype: Literal["uint8", "int8", "int16", "float32"]
    shape: tuple[int, ...]
    scale: Annotated[float, msgspec.Meta(gt=0)]
    zero_point: int


class Tensors(msgspec.Struct, frozen=True):
    """The tensors of the graph.

    Attributes:
        input: [1, s, s, 1].
        logits: [1, 2].
        class_map: [1, h, w, 2]; its mean over h and w is the logits. None for a network whose head has several layers.
        embedding: [1, e], the pooled features.
        byte_scale: Scale of an input that is not uint8: it takes `(byte - byte_zero_point) * byte_scale`, stored with
            the scale and zero point of the input.
        byte_zero_point: See `byte_scale`.
        lesion_map: [1, s / 8, s / 8, 1], the logits of each cell showing a lesion; None for a network without one.
    """

    input: Tensor
    logits: Tensor
    class_map: Tensor | None
    embedding: Tensor
    byte_scale: Annotated[float, msgspec.Meta(gt=0)] = 1 / 127.5
    byte_zero_point: int = 128
    lesion_map: Tensor | None = None


class Calibration(msgspec.Struct, frozen=True):
    """P(positive) = sigmoid(slope * (logit[1] - logit[0]) + lesion_slope * lesion + intercept).

    It is fitted on the outputs of this file. `lesion` is the mean logit of the strongest cells of the lesion map; see
    `lesions.strongest_lesion`.

    Attributes:
        slope: Factor of the difference of the logits.
        intercept: Offset in log-odds.
        split: The part of the data that the calibration was fitted on.
        positives: Number of positive slices in that part.
        negatives: Number of negative slices in that part.
        method: `none` (slope 1, intercept 0), `temperature` (intercept 0) or `platt` (both are fitted; earlier
            versions always used it).
        lesion_slope: Factor of the lesion logit; 0 where the lesion map does not take part in the decision.
    """

    slope: Annotated[float, msgspec.Meta(gt=0)]
    intercept: float
    split: str
    positives: Count
    negatives: Count
    method: Literal["none", "temperature", "platt"] = "platt"
    lesion_slope: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class OperatingPoint(msgspec.Struct, frozen=True):
    """The highest threshold that reaches `target_sensitivity` on the calibration split; from it on P is positive."""

    threshold: Probability
    target_sensitivity: Probability


class Zone(msgspec.Struct, frozen=True):
    """Class-conditional split conformal prediction at `level`.

    A slice is referred where both classes, or neither, are plausible.

    Attributes:
        level: Share of the cases of each class whose true class stays plausible.
        positive_from: Lowest P at which COVID is plausible.
        negative_to: Highest P at which non-COVID is plausible.
        positives: Number of positive calibration cases.
        negatives: Number of negative calibration cases.
    """

    level: Probability
    positive_from: Probability
    negative_to: Probability
    positives: Count
    negatives: Count


class DecisionRule(msgspec.Struct, frozen=True):
    """The thresholds that decide: negative below the first, positive from the second, refer between them.

    Both are class-conditional split conformal thresholds (Vovk 2012), fitted on the calibration cases. Where the two
    would cross they are equal, and nothing is referred.

    Attributes:
        negative_below: P below it is negative; at least `sensitivity` of positive cases lie at or above it.
        positive_from: P at or above it is positive; at least `specificity` of negative cases lie below it.
        sensitivity: The stated share of positive cases that are not called negative.
        specificity: The stated share of negative cases that are not called positive; None for an operating point.
        positives: Number of positive calibration cases.
        negatives: Number of negative calibration cases.
        source: How the thresholds came about: `conformal`; or, in bundles of earlier versions, `zone` (a conformal zone
            at one level) or `operating point` (one threshold).
    """

    negative_below: Probability
    positive_from: Annotated[float, msgspec.Meta(ge=0)]
    sensitivity: Probability
    specificity: Probability | None
    positives: Count
    negatives: Count
    source: Literal["conformal", "zone", "operating point"] = "conformal"

    def __post_init__(self) -> None:
        if self.negative_below > self.positive_from:
            raise ValueError("the threshold for negative is above the threshold for positive")

    @classmethod
    def from_zone(cls, zone: Zone) -> DecisionRule:
        """Return the thresholds that the conformal zone of an earlier version means."""
        # `negative_to` itself is referred where both classes are plausible, and negative where neither is.
        limits = sorted((zone.positive_from, math.nextafter(zone.negative_to, math.inf)))
        return cls(limits[0], limits[1], zone.level, zone.level, zone.positives, zone.negatives, "zone")

    @classmethod
    def from_operating_point(cls, point: OperatingPoint, positives: int, negatives: int) -> DecisionRule:
        """Return the rule of a bundle without a zone: its operating point decides, and nothing is referred."""
        target = point.target_sensitivity
        return cls(point.threshold, point.threshold, target, None, positives, negatives, "operating point")


class Outliers(msgspec.Struct, frozen=True):
    """The outlier detector of the bundle; see `network_analysis.outliers`.

    Attributes:
        member: The member of the zip that holds the detector.
        channels: Number of channels of the embedding that it uses.
        components: Number of principal directions that it keeps.
        threshold: Distance above which a picture is an outlier.
        rate: Share of calibration cases above the threshold.
        split: The part of the data that the threshold comes from.
        cases: Number of slices in that part.
    """

    member: str
    channels: Count
    components: Count
    threshold: Annotated[float, msgspec.Meta(gt=0)]
    rate: Probability
    split: str
    cases: Count


class Golden(msgspec.Struct, frozen=True):
    """A preprocessed phantom slice, and the stored logits that the graph gave on the machine that made the bundle."""

    input: str
    logits: tuple[float, ...]


class Data(msgspec.Struct, frozen=True):
    """The data set and split that the metrics come from.

    Attributes:
        name: Name of the data set.
        fingerprint: SHA-256 over the sorted pixel hashes and labels.
        split: How slices were divided into parts.
        seed: Seed of the split.
        counts: Number of slices in each part.
    """

    name: str
    fingerprint: str
    split: Literal["random", "grouped", "source", "none", "external"]
    seed: int
    counts: dict[str, Count]


class Gate(msgspec.Struct, frozen=True):
    """The limits stated before measuring, and the comparison of the converted model with fp32 on the same slices.

    Attributes:
        max_drop: Largest allowed loss of accuracy and sensitivity, in percentage points.
        passed: Whether the converted model kept all limits.
        split: The part of the data that was compared on.
        agreement: Share of slices with the same decision.
        mcnemar_p: P value of the exact McNemar test over all slices.
        mcnemar_p_positives: P value of the same test over positive slices.
        max_sensitivity_drop: Largest allowed loss of sensitivity; None where `max_drop` applies to it.
        least_agreement: Smallest allowed agreement.
        largest_change: Largest change of P(positive) of any slice.
        reference: Another model that it was compared with; None if there was none.
        reference_agreement: Share of slices with the same decision as that model.

    Bundles of earlier versions lack the last five.
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


class LesionEvidence(msgspec.Struct, frozen=True):
    """How well the lesion map agrees with masks drawn by radiologists, on patients that it did not learn from.

    Attributes:
        slices: Number of slices with a mask.
        patients: Number of patients.
        dice: Dice coefficient of all cells of all slices together, at P(lesion) 0.5.
        pointing_game: Share of the slices with a lesion whose strongest cell lies on one.
        share_error: Mean absolute error of the share of the lungs that shows lesions, 0 to 1.
    """

    slices: Count
    patients: Count
    dice: Probability
    pointing_game: Probability
    share_error: Probability


class Manifest(msgspec.Struct, frozen=True):
    """Everything that a reader needs to run, assess and reproduce a bundle.

    Attributes:
        metrics: Variant ("fp32", "int8") -> metric name -> estimate on the test split.
        metrics_n: Number of test slices.
        shrinking: What made the network smaller before conversion, for example "pruned-0.7"; "" for nothing.
        map_centres: Where the rows of the class map look, then its columns, as shares of the side; see
            `network_analysis.receptive_field`. Bundles of earlier versions have one list for both, or None.
        outliers: The outlier detector; None in bundles of earlier versions.
        rule: The decision rule; None in bundles of earlier versions, see `decision_rule`.
        lesions: How good the lesion map is; None where that was not measured.
    """

    schema: Literal[1, 2]
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
    rule: DecisionRule | None = None
    lesions: LesionEvidence | None = None

    @property
    def decision_rule(self) -> DecisionRule:
        """The rule that decides; for bundles of earlier versions, the rule that their zone or operating point means."""
        if self.rule is not None:
            return self.rule
        if self.zone is not None:
            return DecisionRule.from_zone(self.zone)
        calibration = self.calibration
        return DecisionRule.from_operating_point(self.operating_point, calibration.positives, calibration.negatives)

    def __post_init__(self) -> None:
        if (centres := self.map_centres) is not None:
            shape = () if self.tensors.class_map is None else self.tensors.class_map.shape
            cells = max(shape[1:2], default=0)
            if not cells or shape != (1, cells, cells, 2) or len(centres) not in (cells, 2 * cells):
                raise ValueError("map_centres does not fit the shape of the class map")
            if any(list(axis) != sorted(set(axis)) for axis in (centres[:cells], centres[-cells:])):
                raise ValueError("map_centres must increase along rows and along columns")
        if self.calibration.lesion_slope and self.tensors.lesion_map is None:
            raise ValueError("the calibration uses a lesion map, but the graph has none")


def schema_version(preprocess: Preprocess, calibration: Calibration, rule: DecisionRule | None = None) -> Literal[1, 2]:
    """Return the lowest version of the schema whose readers judge slices rightly with these fields."""
    return 2 if preprocess.crop != "none" or calibration.lesion_slope or rule is not None else 1
