"""What a conversion made, as text."""

from __future__ import annotations

from edge_ct.manifest import Estimate
from edge_ct.metrics import Scores

from .gate import Against, GateReport
from .pipeline import Made
from .quantise.layer_errors import as_text
from .quantise.mixed_precision import describe

_METRICS = ("accuracy", "sensitivity", "specificity")


def of(made: Made) -> str:
    """A line or more for one bundle, a table of several; every accuracy with its n, interval and split."""
    text = _of_one(made) if len(made.bundles) == 1 else _of_several(made)
    for one in made.bundles:
        text += "".join(f"\n{describe(step, one.mixed[0])}" for step in one.mixed[1:])
        for number, report in enumerate((one.gate, *one.stability) if one.stability else (), start=1):
            text += f"\ncalibration set {number}: {_set(report)}"
        if one.layers:
            text += f"\n{one.variant} against float, layer by layer:\n{as_text(one.layers)}"
    return f"{text}\n{made.seconds:.1f} s, at most {made.peak_memory_mb:,.0f} MB of memory"


def _of_one(made: Made) -> str:
    [one] = made.bundles
    gate = one.gate
    lines = [f"{one.bundle}: {one.bytes:,} bytes, {one.variant}"]
    width = max(len(one.variant), len("fp32"))
    for name, scores in (("fp32", gate.fp32), (one.variant, gate.converted)):
        shown = "  ".join(f"{metric} {_interval(getattr(scores, metric))}" for metric in _METRICS)
        lines.append(f"  {name:<{width}}  {shown}  ({gate.split}, n = {scores.n})")
    lines.append(f"  {_agreement(gate.before)}; gate passed")
    if gate.reference:
        own = gate.reference
        shown = "  ".join(f"{metric} {_interval(getattr(own.scores, metric))}" for metric in _METRICS)
        lines.append(f"  {own.name}: {shown}; {_agreement(own)}")
    return "\n".join(lines)


def _agreement(own: Against) -> str:
    return (
        f"agreement {own.agreement:.1%}, McNemar p {own.mcnemar_p:.2f}, of positives {own.mcnemar_p_positives:.2f}, "
        f"largest change of P {own.largest_change:.3f}"
    )


def _of_several(made: Made) -> str:
    first = made.bundles[0].gate
    rows = [("", "bytes", *_METRICS, "agreement", "McNemar p", "of positives", "")]
    rows.append(("fp32 before", "", *_cells(first.fp32), "", "", "", ""))
    for one in made.bundles:
        gate = one.gate
        rows.append(
            (
                one.variant,
                f"{one.bytes:,}",
                *_cells(gate.converted),
                f"{gate.agreement:.1%}",
                f"{gate.mcnemar_p:.2f}",
                f"{gate.mcnemar_p_positives:.2f}",
                one.bundle or f"not written: {gate.reason}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, f"on the {first.split} split (n = {first.fp32.n}), 95 % intervals in brackets"])


def _set(report: GateReport) -> str:
    shown = "  ".join(f"{metric} {_interval(getattr(report.converted, metric))}" for metric in _METRICS)
    return f"{shown}  agreement {report.agreement:.1%}"


def _cells(scores: Scores) -> list[str]:
    return [_interval(getattr(scores, metric)) for metric in _METRICS]


def _interval(estimate: Estimate) -> str:
    if estimate.value is None:
        return "undefined"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
