"""The gate: converted against fp32 on the same slices, by a rule stated before measuring."""

from __future__ import annotations

import msgspec
import numpy as np

from edge_ct.errors import GateFailed
from edge_ct.manifest import Gate
from edge_ct.metrics import Scores, mcnemar_p, score


class GateReport(msgspec.Struct, frozen=True):
    """What `convert --json` prints under `gate`. fp32, converted: scores at probability 0.5 on `split`."""

    passed: bool
    split: str
    max_drop: float
    reason: str | None
    fp32: Scores
    converted: Scores
    agreement: float
    mcnemar_p: float
    mcnemar_p_positives: float

    def verdict(self) -> Gate:
        """What the manifest keeps of it."""
        return Gate(self.max_drop, self.passed, self.split, self.agreement, self.mcnemar_p, self.mcnemar_p_positives)


def compare(labels: np.ndarray, fp32: np.ndarray, converted: np.ndarray, max_drop: float, split: str) -> GateReport:
    """Compare calibrated P(positive), float [n] each. max_drop: largest loss of sensitivity or accuracy, in points."""
    before, after = score(labels, fp32), score(labels, converted)
    reasons = []
    for name in ("sensitivity", "accuracy"):
        lost = 100 * (getattr(before, name).value - getattr(after, name).value)
        if lost > max_drop + 1e-9:
            reasons.append(f"{name} falls by {lost:.2f} points")
    calls, other_calls = fp32 >= 0.5, converted >= 0.5
    positive = labels == 1
    return GateReport(
        passed=not reasons,
        split=split,
        max_drop=max_drop,
        reason=" and ".join(reasons) or None,
        fp32=before,
        converted=after,
        agreement=float((calls == other_calls).mean()),
        mcnemar_p=mcnemar_p(labels, calls, other_calls),
        mcnemar_p_positives=mcnemar_p(labels[positive], calls[positive], other_calls[positive]),
    )


def enforce(report: GateReport) -> None:
    """Raise `GateFailed` where the rule is broken."""
    if not report.passed:
        raise GateFailed(
            f"{report.reason} on the {report.split} split (n = {report.fp32.n}), more than --max-drop "
            f"{report.max_drop:g}; nothing was written"
        )
