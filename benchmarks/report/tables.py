"""The report's table as CSV and as Markdown."""

from __future__ import annotations

from pathlib import Path

from edge_ct.manifest import Estimate
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text

from .collect import Report, Subject

ESTIMATES = ("accuracy", "sensitivity", "specificity", "f1", "auc", "ece")


def write_csv(path: Path, report: Report) -> None:
    """One row a model, every figure with its interval."""
    rows = [_flat(report, subject) for subject in report.subjects]
    header = tuple(dict.fromkeys(name for row in rows for name in row))
    write_text(path, to_csv(header, ([row.get(name, "") for name in header] for row in rows)))


def _flat(report: Report, own: Subject) -> dict[str, object]:
    found: dict[str, object] = {"label": own.label, "kind": own.kind, "reference": own.reference, "front": own.front}
    found |= {"split": own.split or "", "n": report.data.n, "not_measured": own.reason or ""}
    found |= {"data_fingerprint": report.data.fingerprint or ""}
    for name in ESTIMATES:
        found |= _columns(name, getattr(own.scores, name) if own.scores else None)
    at = own.at_threshold
    found["threshold"] = f"{at.threshold:.4f}" if at else ""
    for name in ("sensitivity", "specificity"):
        found |= _columns(f"{name}_at_threshold", getattr(at, name) if at else None)
    versus = own.against
    found |= _columns("kept_sensitivity", versus.kept if versus else None)
    found["mcnemar_p"] = f"{versus.mcnemar_p:.4g}" if versus else ""
    found["mcnemar_p_positives"] = f"{versus.mcnemar_p_positives:.4g}" if versus else ""
    equal = versus.equal if versus else None
    found["speed_up_at_equal_sensitivity"] = f"{equal.speed_up:.2f}" if equal and equal.speed_up else ""
    found |= _columns("specificity_at_equal_sensitivity", equal.specificity if equal else None)
    if own.benchmark:
        took = own.benchmark
        found |= {"model": took.model, "bytes": took.bytes, "parameters": took.parameters, "macs": took.macs}
        for part in ("model_only", "end_to_end"):
            for name in ("p50_ms", "p90_ms", "p99_ms", "mean_ms", "std_ms", "min_ms", "max_ms"):
                found[f"{part}_{name}"] = f"{getattr(getattr(took, part), name):.3f}"
        found |= {"queries": took.model_only.n, "threads": took.model_only.threads, "quick": took.quick}
        for name in ("slices_per_second", "cold_start_ms", "peak_rss_mb"):
            found[name] = f"{getattr(took, name):.1f}"
        best = max(took.by_batch, key=lambda batch: batch.slices_per_second, default=None)
        found["best_batch"] = best.batch if best else 1
        found["slices_per_second_at_best_batch"] = f"{best.slices_per_second:.1f}" if best else ""
        found |= {"device": took.device, "precision": took.precision, "backend": took.backend}
        machine = took.machine
        found |= {name: getattr(machine, name) for name in ("cpu", "cores", "architecture", "system", "python")}
    return found


def _columns(name: str, estimate: Estimate | None) -> dict[str, str]:
    ends = ("value", "low", "high")
    values = [getattr(estimate, end) if estimate else None for end in ends]
    shown = ["" if value is None else f"{value:.5f}" for value in values]
    return dict(zip((name, f"{name}_low", f"{name}_high"), shown, strict=True))


def markdown(report: Report) -> str:
    """The verdict and a table, for a README."""
    lines = [report.verdict, ""]
    header = ("model", "accuracy", "sensitivity", "specificity", "AUC", "p vs reference", "size", "one slice", "memory",
              "slices/s", "speed-up at equal sensitivity")  # fmt: skip
    lines += [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for own in report.subjects:
        lines.append(f"| {' | '.join(_cells(own))} |")
    measured = next((own.benchmark for own in report.subjects if own.benchmark), None)
    if measured:
        lines += ["", f"{_footnote(report)} {measured.machine.cpu}, {measured.machine.cores} cores."]
    return "\n".join(lines) + "\n"


def _cells(own: Subject) -> list[str]:
    name = f"**{own.label}**" if own.front else own.label
    if own.reason:
        return [name, f"not measured: {own.reason}", *[""] * 9]
    shown = [_bracketed(getattr(own.scores, metric) if own.scores else None) for metric in ESTIMATES[:3]]
    auc = own.scores.auc.value if own.scores else None
    shown.append("" if auc is None else f"{auc:.3f}")
    shown.append("reference" if own.reference else f"{own.against.mcnemar_p:.2g}" if own.against else "")
    took = own.benchmark
    if took:
        shown += [f"{took.bytes / 1e6:.2f} MB", f"{took.model_only.p50_ms:.1f} ms", f"{took.peak_rss_mb:.0f} MB"]
        shown.append(f"{took.slices_per_second:.0f}")
    equal = own.against.equal if own.against else None
    shown.append(
        f"{equal.speed_up:.0f} x, specificity {_bracketed(equal.specificity)}" if equal and equal.speed_up else ""
    )
    return [name, *shown]


def _bracketed(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _footnote(report: Report) -> str:
    data = report.data
    said = f"n = {data.n}, {' and '.join(data.splits)} split; 95 % intervals; " if data.labelled else ""
    return (
        f"{said}bold: no other model is at once as fast, as sensitive and as specific. Times are medians, one slice "
        f"at a time{', quick mode' * report.quick}; memory is the peak of a process that judges one slice."
    )
