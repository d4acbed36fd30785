"""The gate: compare the converted model with fp32 on the same slices, by a rule stated before measuring."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.errors import DataRejected, GateFailed
from edge_ct.lesions import dice, lesion_probabilities
from edge_ct.manifest import Gate
from edge_ct.metrics import Scores, mcnemar_p, score
from edge_ct.reporting.counts import count_of
from edge_ct.run import SplitTable, load_finished_run

_TOLERANCE = 1e-9  # for rounding errors of floating-point numbers


_LEAST_DICE, _FEWEST_CELLS = 0.8, 200


class GateRule(msgspec.Struct, frozen=True):
    """What a conversion may lose.

    Attributes:
        max_drop: Largest allowed loss of accuracy and sensitivity, in percentage points.
        max_sensitivity_drop: Largest allowed loss of sensitivity; None applies `max_drop` to it.
        agreement: Smallest allowed share of slices, 0 to 1, with the same decision.
    """

    max_drop: float = 1.0
    max_sensitivity_drop: float | None = None
    agreement: float = 0.0

    def broken(self, before: Scores, after: Scores, agreement: float) -> str | None:
        """Return how the rule is broken, or None. A metric that lacks a class is not compared.

        Args:
            before: Scores of fp32.
            after: Scores of the converted model on the same slices.
            agreement: Share of slices with the same decision.
        """
        reasons = []
        for name in ("sensitivity", "accuracy"):
            special = self.max_sensitivity_drop if name == "sensitivity" else None
            allowed, option = (self.max_drop, "--max-drop") if special is None else (special, "--max-sensitivity-drop")
            had, has = getattr(before, name).value, getattr(after, name).value
            if had is not None and has is not None and 100 * (had - has) > allowed + _TOLERANCE:
                slices = before.n - before.confusion.tn - before.confusion.fp if name == "sensitivity" else before.n
                reasons.append(
                    f"{name} falls by {100 * (had - has):.2f} points, more than {option} {allowed:g}"
                    f"{_describe_few(slices, name, allowed)}"
                )
        if agreement < self.agreement - _TOLERANCE:
            reasons.append(f"agreement is {agreement:.1%}, less than --agreement {self.agreement:g}")
        return " and ".join(reasons) or None


class ClassChange(msgspec.Struct, frozen=True):
    """The change of decisions for the slices of one class.

    Attributes:
        n: Number of slices.
        agreement: Share of slices with the same decision.
        lost: Number of slices that were classified correctly before and are not now.
        gained: Number of slices that were not classified correctly before and are now.
        mcnemar_p: P value of the exact McNemar test.
    """

    n: int
    agreement: float
    lost: int
    gained: int
    mcnemar_p: float


class ModelComparison(msgspec.Struct, frozen=True):
    """The converted model beside another one, on the same slices.

    Attributes:
        name: Name of the other model.
        scores: Scores of the other model.
        agreement: Share of slices with the same decision.
        largest_change: Largest change of P(positive) of any slice.
        mcnemar_p: P value of the exact McNemar test.
        mcnemar_p_positives: P value of the same test over positive slices.
        classes: `negative` and `positive` -> change of decisions.
    """

    name: str
    scores: Scores
    agreement: float
    largest_change: float
    mcnemar_p: float
    mcnemar_p_positives: float
    classes: dict[str, ClassChange]


class LesionMapAgreement(msgspec.Struct, frozen=True):
    """How far the lesion maps of the converted model are from those of fp32 on the same slices.

    Attributes:
        dice: Dice coefficient of the cells from P(lesion) 0.5 on.
        mean_change: Mean absolute change of P(lesion) of a cell.
        cells: Number of cells that either model calls a lesion.
    """

    dice: float
    mean_change: float
    cells: int


class GateReport(msgspec.Struct, frozen=True):
    """What the gate found; `convert --json` prints it under `gate`.

    Attributes:
        passed: Whether the rule was kept.
        split: The split that was compared on.
        max_drop: See `GateRule`.
        reason: How the rule was broken.
        fp32: Scores of fp32 at probability 0.5.
        converted: Scores of the converted model at probability 0.5.
        agreement: Share of slices with the same decision.
        mcnemar_p: P value of the exact McNemar test.
        mcnemar_p_positives: P value of the same test over positive slices.
        rule: The rule.
        before: The comparison with fp32, to which the rule applies.
        reference: The comparison with another run, for information only.
        lesion_maps: The comparison of the lesion maps; None for a network without one.
    """

    passed: bool
    split: str
    max_drop: float
    reason: str | None
    fp32: Scores
    converted: Scores
    agreement: float
    mcnemar_p: float
    mcnemar_p_positives: float
    rule: GateRule
    before: ModelComparison
    reference: ModelComparison | None = None
    lesion_maps: LesionMapAgreement | None = None

    def verdict(self) -> Gate:
        """Return the part that the manifest keeps."""
        return Gate(
            self.max_drop,
            self.passed,
            self.split,
            self.agreement,
            self.mcnemar_p,
            self.mcnemar_p_positives,
            max_sensitivity_drop=self.rule.max_sensitivity_drop,
            least_agreement=self.rule.agreement,
            largest_change=self.before.largest_change,
            reference=self.reference.name if self.reference else None,
            reference_agreement=self.reference.agreement if self.reference else None,
        )


def with_lesion_maps(report: GateReport, fp32: np.ndarray, converted: np.ndarray) -> GateReport:
    """Add the comparison of the lesion maps, logits float32 [n, h, w] each, to a report.

    The gate fails if the maps show lesions in other places; fewer cells than `_FEWEST_CELLS` are not judged.
    """
    before, after = lesion_probabilities(fp32), lesion_probabilities(converted)
    cells = int(((before >= 0.5) | (after >= 0.5)).sum())
    agreement = LesionMapAgreement(dice(after, before), float(np.abs(after - before).mean()), cells)
    broken = cells >= _FEWEST_CELLS and agreement.dice < _LEAST_DICE
    reason = f"the lesion maps agree with those of fp32 to a Dice of {agreement.dice:.3f} only, below {_LEAST_DICE:g}"
    reasons = [text for text in (report.reason, reason if broken else None) if text]
    return msgspec.structs.replace(
        report, passed=not reasons, reason=" and ".join(reasons) or None, lesion_maps=agreement
    )


class ReferenceModel(msgspec.Struct, frozen=True):
    """Another model's P(positive) of the same slices, float64 [n]."""

    name: str
    probabilities: np.ndarray


def compare_with_fp32(
    labels: np.ndarray,
    fp32: np.ndarray,
    converted: np.ndarray,
    rule: GateRule,
    split: str,
    reference: ReferenceModel | None = None,
) -> GateReport:
    """Compare a converted model with fp32 and apply the rule.

    Args:
        labels: 0 or 1, [n].
        fp32: Calibrated P(positive) of fp32, float [n].
        converted: Calibrated P(positive) of the converted model, float [n].
        rule: What may be lost.
        split: Name of the split that the slices are of.
        reference: Another model to compare with for information.
    """
    after, before = score(labels, converted), compare_models("fp32", labels, fp32, converted)
    reason = rule.broken(before.scores, after, before.agreement)
    return GateReport(
        passed=reason is None,
        split=split,
        max_drop=rule.max_drop,
        reason=reason,
        fp32=before.scores,
        converted=after,
        agreement=before.agreement,
        mcnemar_p=before.mcnemar_p,
        mcnemar_p_positives=before.mcnemar_p_positives,
        rule=rule,
        before=before,
        reference=compare_models(reference.name, labels, reference.probabilities, converted) if reference else None,
    )


def compare_models(name: str, labels: np.ndarray, other: np.ndarray, converted: np.ndarray) -> ModelComparison:
    """Compare the decisions of the converted model, at probability 0.5, with those of another.

    Args:
        name: Name of the other model.
        labels: 0 or 1, [n].
        other: P(positive) of the other model, float [n].
        converted: P(positive) of the converted model, float [n].
    """
    positive, other_positive = converted >= 0.5, other >= 0.5
    classes = {}
    for class_name, label in (("negative", 0), ("positive", 1)):
        members = labels == label
        right, was_right = positive[members] == (label == 1), other_positive[members] == (label == 1)
        classes[class_name] = ClassChange(
            n=int(members.sum()),
            agreement=float((right == was_right).mean()) if members.any() else 1.0,
            lost=int((was_right & ~right).sum()),
            gained=int((right & ~was_right).sum()),
            mcnemar_p=mcnemar_p(labels[members], other_positive[members], positive[members]),
        )
    return ModelComparison(
        name=name,
        scores=score(labels, other),
        agreement=float((positive == other_positive).mean()),
        largest_change=float(np.abs(converted - other).max()),
        mcnemar_p=mcnemar_p(labels, other_positive, positive),
        mcnemar_p_positives=classes["positive"].mcnemar_p,
        classes=classes,
    )


def load_reference(folder: Path, table: SplitTable, split: str) -> ReferenceModel:
    """Read the predictions of another run, or of an ensemble, for the slices of a split.

    Args:
        folder: Run folder of the other model.
        table: `split.csv` of the run that is converted.
        split: Name of the split.

    Raises:
        DataRejected: The predictions are missing or damaged, or the other run has some of these slices in another
            split, so that its figures would be of other slices.
    """
    run = load_finished_run(folder)
    path = run.folder / "predictions.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            predicted = {row["path"]: float(row["probability"]) for row in csv.DictReader(file) if row["part"] == split}
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataRejected(f"{path}: the predictions are missing or damaged; evaluate the run again") from error
    other = run.split()
    paths = {other.sha256[index]: other.paths[index] for index in other.where(split)}
    probabilities = [predicted.get(paths.get(table.sha256[index], "")) for index in table.where(split)]
    if missing := sum(value is None for value in probabilities):
        raise DataRejected(
            f"{folder}: {missing} of {count_of(len(probabilities), f'{split} slice')} not in its {split} split; "
            "compare with a run of the same split"
        )
    name = run.name if run.info.kind == "network" else f"ensemble {folder.name}"
    return ReferenceModel(name, np.array(probabilities, np.float64))


def failed_path(target: Path) -> Path:
    """Return where a file that failed is written for inspection, never where a file that passed would be."""
    return target.with_name(f"{target.stem}.gate-failed{target.suffix}")


def enforce(report: GateReport, kept: str | None = None) -> None:
    """Raise `GateFailed` if the rule was broken.

    Args:
        report: What the gate found.
        kept: Where the file was written for inspection; None if it was not.
    """
    if not report.passed:
        where = f"on the {report.split} split (n = {report.fp32.n})"
        raise GateFailed(f"{report.reason}, {where}; {describe_kept(kept)}")


def describe_kept(path: str | None) -> str:
    """Say where a file that failed the gate was written for inspection, or that it was not."""
    return f"the file was written for inspection only: {path}" if path else "nothing was written"


def _describe_few(slices: int, metric: str, allowed: float) -> str:
    """Return what one slice weighs, if so few slices are compared that a single one breaks the rule."""
    kind = "positive slice" if metric == "sensitivity" else "slice"
    if not slices or 100 / slices <= allowed:
        return ""
    return f" (one of {count_of(slices, kind)} is {100 / slices:.1f} points: compare on more slices)"
