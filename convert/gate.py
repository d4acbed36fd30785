"""The gate: converted against fp32 on the same slices, by a rule stated before measuring; and against another run."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.errors import DataRejected, GateFailed
from edge_ct.manifest import Gate
from edge_ct.metrics import Scores, mcnemar_p, score
from edge_ct.run import SplitTable, load_finished_run


class Rule(msgspec.Struct, frozen=True):
    """What may be lost. max_drop: points of accuracy, and of sensitivity where `max_sensitivity_drop` is None.

    agreement: least share of slices, 0 to 1, on which both make the same call.
    """

    max_drop: float = 1.0
    max_sensitivity_drop: float | None = None
    agreement: float = 0.0

    def broken(self, before: Scores, after: Scores, agreement: float) -> str | None:
        """How the rule is broken, else None. Where a class is missing there is no sensitivity to lose."""
        reasons = []
        for name in ("sensitivity", "accuracy"):
            own = self.max_sensitivity_drop if name == "sensitivity" else None
            allowed, option = (self.max_drop, "--max-drop") if own is None else (own, "--max-sensitivity-drop")
            had, has = getattr(before, name).value, getattr(after, name).value
            if had is not None and has is not None and 100 * (had - has) > allowed + 1e-9:
                reasons.append(f"{name} falls by {100 * (had - has):.2f} points, more than {option} {allowed:g}")
        if agreement < self.agreement - 1e-9:
            reasons.append(f"agreement is {agreement:.1%}, less than --agreement {self.agreement:g}")
        return " and ".join(reasons) or None


class ClassChange(msgspec.Struct, frozen=True):
    """One class: lost and gained count slices that were called rightly before and not after, and the reverse."""

    n: int
    agreement: float
    lost: int
    gained: int
    mcnemar_p: float


class Against(msgspec.Struct, frozen=True):
    """Two models on the same slices. scores: of the other one. largest_change: of P(positive)."""

    name: str
    scores: Scores
    agreement: float
    largest_change: float
    mcnemar_p: float
    mcnemar_p_positives: float
    classes: dict[str, ClassChange]


class GateReport(msgspec.Struct, frozen=True):
    """What `convert --json` prints under `gate`. fp32, converted: scores at probability 0.5 on `split`.

    before: the comparison with fp32 that the rule is about; reference: with another run, for information.
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
    rule: Rule
    before: Against
    reference: Against | None = None

    def verdict(self) -> Gate:
        """What the manifest keeps of it."""
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


class Reference(msgspec.Struct, frozen=True):
    """Another model's P(positive) of the same slices, float [n]."""

    name: str
    probabilities: np.ndarray


def compare(
    labels: np.ndarray,
    fp32: np.ndarray,
    converted: np.ndarray,
    rule: Rule,
    split: str,
    reference: Reference | None = None,
) -> GateReport:
    """Compare calibrated P(positive), float [n] each."""
    after, before = score(labels, converted), against("fp32", labels, fp32, converted)
    reason = rule.broken(before.scores, after, before.agreement)
    other = against(reference.name, labels, reference.probabilities, converted) if reference else None
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
        reference=other,
    )


def against(name: str, labels: np.ndarray, other: np.ndarray, converted: np.ndarray) -> Against:
    """The converted file beside another model, both as P(positive), float [n]; calls are made at 0.5."""
    calls, other_calls = converted >= 0.5, other >= 0.5
    classes = {}
    for known, label in (("negative", 0), ("positive", 1)):
        own = labels == label
        right, was_right = calls[own] == (label == 1), other_calls[own] == (label == 1)
        classes[known] = ClassChange(
            n=int(own.sum()),
            agreement=float((right == was_right).mean()) if own.any() else 1.0,
            lost=int((was_right & ~right).sum()),
            gained=int((right & ~was_right).sum()),
            mcnemar_p=mcnemar_p(labels[own], other_calls[own], calls[own]),
        )
    return Against(
        name=name,
        scores=score(labels, other),
        agreement=float((calls == other_calls).mean()),
        largest_change=float(np.abs(converted - other).max()),
        mcnemar_p=mcnemar_p(labels, other_calls, calls),
        mcnemar_p_positives=classes["positive"].mcnemar_p,
        classes=classes,
    )


def reference_of(folder: Path, table: SplitTable, split: str) -> Reference:
    """What another run, or an ensemble, said of the slices of `split`, out of its predictions.csv.

    Raises `DataRejected` where it has not seen all of them as `split`: its figures would be of other slices.
    """
    run = load_finished_run(folder)
    path = run.folder / "predictions.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            said = {row["path"]: float(row["probability"]) for row in csv.DictReader(file) if row["part"] == split}
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataRejected(f"{path}: missing or damaged") from error
    theirs = run.split()
    hashes = {theirs.sha256[index]: theirs.paths[index] for index in theirs.where(split)}
    found = [said.get(hashes.get(table.sha256[index], "")) for index in table.where(split)]
    if missing := sum(one is None for one in found):
        raise DataRejected(f"{folder}: {missing} of {len(found)} {split} slices are not in its {split} part")
    return Reference(run.name if run.info.kind == "network" else f"ensemble {folder.name}", np.array(found, np.float64))


def failed_name(target: Path) -> Path:
    """Where a file that failed is written to be looked at: never where one that passed would be."""
    return target.with_name(f"{target.stem}.gate-failed{target.suffix}")


def enforce(report: GateReport) -> None:
    """Raise `GateFailed` where the rule is broken."""
    if not report.passed:
        where = f"on the {report.split} split (n = {report.fp32.n})"
        raise GateFailed(f"{report.reason}, {where}; nothing was written to the target")
