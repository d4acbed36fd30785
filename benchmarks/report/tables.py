"""The table of a report as CSV and as Markdown."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_ct.manifest import Estimate
from edge_ct.system.csv_text import estimate_columns, to_csv
from edge_ct.system.files import write_text

from ..measure.bundle import Benchmark
from .collect import Report, Subject
from .verdict import ReferenceComparison

ESTIMATES = ("accuracy", "sensitivity", "specificity", "f1", "auc", "ece")
_UNDEFINED = Estimate(None, None, None)


def write_csv(path: Path, report: Report) -> None:
    """Write one row a model, each figure with its interval."""
    rows = [_csv_row(report, subject) for subject in report.subjects]
    header = tuple(dict.fromkeys(name for row in rows for name in row))
    write_text(path, to_csv(header, ([row.get(name, "") for name in header] for row in rows)))


def _csv_row(report: Report, subject: Subject) -> dict[str, object]:
    row: dict[str, object] = {
        "label": subject.label,
        "kind": subject.kind,
        "reference": subject.reference,
        "front": subject.front,
        "split": subject.split or "",
        "n": report.data.n,
        "not_measured": subject.reason or "",
        "data_fingerprint": report.data.fingerprint or "",
    }
    for name in ESTIMATES:
        row |= _columns(name, getattr(subject.scores, name) if subject.scores else None)
    at_threshold = subject.at_threshold
    row["threshold"] = f"{at_threshold.threshold:.4f}" if at_threshold else ""
    for name in ("sensitivity", "specificity"):
        row |= _columns(f"{name}_at_threshold", getattr(at_threshold, name) if at_threshold else None)
    row |= _comparison_columns(subject.against)
    if subject.benchmark:
        row |= _benchmark_columns(subject.benchmark)
    return row


def _comparison_columns(comparison: ReferenceComparison | None) -> dict[str, object]:
    equal = comparison.equal if comparison else None
    return {
        **_columns("kept_sensitivity", comparison.kept if comparison else None),
        "mcnemar_p": f"{comparison.mcnemar_p:.4g}" if comparison else "",
        "mcnemar_p_positives": f"{comparison.mcnemar_p_positives:.4g}" if comparison else "",
        "speed_up_at_equal_sensitivity": f"{equal.speed_up:.2f}" if equal and equal.speed_up else "",
        **_columns("specificity_at_equal_sensitivity", equal.specificity if equal else None),
    }


def _benchmark_columns(benchmark: Benchmark) -> dict[str, object]:
    row: dict[str, object] = {
        "model": benchmark.model,
        "bytes": benchmark.bytes,
        "parameters": benchmark.parameters,
        "macs": benchmark.macs,
    }
    for part in ("model_only", "end_to_end"):
        for name in ("p50_ms", "p90_ms", "p99_ms", "mean_ms", "std_ms", "min_ms", "max_ms"):
            row[f"{part}_{name}"] = f"{getattr(getattr(benchmark, part), name):.3f}"
    row |= {"queries": benchmark.model_only.n, "threads": benchmark.model_only.threads, "quick": benchmark.quick}
    for name in ("slices_per_second", "cold_start_ms", "peak_rss_mb"):
        row[name] = f"{getattr(benchmark, name):.1f}"
    best = max(benchmark.by_batch, key=lambda batch: batch.slices_per_second, default=None)
    row["best_batch"] = best.batch if best else 1
    row["slices_per_second_at_best_batch"] = f"{best.slices_per_second:.1f}" if best else ""
    row |= {"device": benchmark.device, "precision": benchmark.precision, "backend": benchmark.backend}
    return row | {
        name: getattr(benchmark.machine, name) for name in ("cpu", "cores", "architecture", "system", "python")
    }


def _columns(name: str, estimate: Estimate | None) -> dict[str, str]:
    return estimate_columns(name, msgspec.to_builtins(estimate or _UNDEFINED))


def markdown_table(report: Report) -> str:
    """Return the verdict and a table as Markdown."""
    header = (
        "model",
        "accuracy",
        "sensitivity",
        "specificity",
        "AUC",
        "p against reference",
        "file size",
        "time per slice",
        "memory",
        "slices/s",
        "speed-up at equal sensitivity",
    )
    lines = [report.verdict, "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(_markdown_cells(subject, len(header)))} |" for subject in report.subjects]
    benchmark = next((subject.benchmark for subject in report.subjects if subject.benchmark), None)
    if benchmark:
        lines += ["", f"{_footnote(report)} {benchmark.machine.cpu}, {benchmark.machine.cores} cores."]
    return "\n".join(lines) + "\n"


def _markdown_cells(subject: Subject, columns: int) -> list[str]:
    name = f"**{subject.label}**" if subject.front else subject.label
    if subject.reason:
        return [name, f"not measured: {subject.reason}", *[""] * (columns - 2)]
    scores, comparison, benchmark = subject.scores, subject.against, subject.benchmark
    cells = [_percent(getattr(scores, metric) if scores else None) for metric in ESTIMATES[:3]]
    cells.append("" if scores is None or scores.auc.value is None else f"{scores.auc.value:.3f}")
    cells.append("reference" if subject.reference else f"{comparison.mcnemar_p:.2g}" if comparison else "")
    if benchmark:
        cells += [
            f"{benchmark.bytes / 1e6:.2f} MB",
            f"{benchmark.model_only.p50_ms:.1f} ms",
            f"{benchmark.peak_rss_mb:.0f} MB",
            f"{benchmark.slices_per_second:.0f}",
        ]
    equal = comparison.equal if comparison else None
    cells.append(
        f"{equal.speed_up:.0f} x, specificity {_percent(equal.specificity)}" if equal and equal.speed_up else ""
    )
    return [name, *cells]


def _percent(estimate: Estimate | None) -> str:
    return "" if estimate is None or estimate.value is None else estimate.text(1, percent=True)


def _footnote(report: Report) -> str:
    data = report.data
    accuracy = f"n = {data.n}, {' and '.join(data.splits)} split; 95 % intervals; " if data.labelled else ""
    return (
        f"{accuracy}bold: no other model is at once as fast, as sensitive and as specific. Times are medians, one "
        f"slice at a time{', quick mode' * report.quick}; memory is the peak of a process that judges one slice."
    )
