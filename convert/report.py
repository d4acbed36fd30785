"""The result of a conversion as text."""

from __future__ import annotations

from edge_ct.manifest import Estimate
from edge_ct.metrics import Scores

from .gate import ModelComparison
from .pipeline import Conversion, ConvertedFile
from .quantise.layer_errors import layer_error_table
from .quantise.mixed_precision import describe_step

_METRICS = ("accuracy", "sensitivity", "specificity")


def describe_conversion(conversion: Conversion) -> str:
    """Describe one bundle in some lines, or several in a table; every metric with its n, interval and split."""
    files = conversion.bundles
    text = _describe_file(files[0]) if len(files) == 1 else _describe_files(files)
    for file in files:
        text += "".join(f"\n{describe_step(step, file.mixed[0])}" for step in file.mixed[1:])
        for number, report in enumerate((file.gate, *file.stability) if file.stability else (), start=1):
            text += f"\ncalibration set {number}: {_metrics(report.converted)}  agreement {report.agreement:.1%}"
        if file.layers:
            text += f"\n{file.variant} against float, layer by layer:\n{layer_error_table(file.layers)}"
    return f"{text}\n{conversion.seconds:.1f} s, peak memory {conversion.peak_memory_mb:,.0f} MB"


def _describe_file(file: ConvertedFile) -> str:
    gate = file.gate
    lines = [f"{file.bundle}: {file.bytes:,} bytes, {file.variant}"]
    width = max(len(file.variant), len("fp32"))
    for name, scores in (("fp32", gate.fp32), (file.variant, gate.converted)):
        lines.append(f"  {name:<{width}}  {_metrics(scores)}  ({gate.split}, n = {scores.n})")
    lines.append(f"  {_describe_comparison(gate.before)}; gate passed")
    if gate.reference:
        reference = gate.reference
        lines.append(f"  {reference.name}: {_metrics(reference.scores)}; {_describe_comparison(reference)}")
    return "\n".join(lines)


def _describe_comparison(comparison: ModelComparison) -> str:
    return (
        f"agreement {comparison.agreement:.1%}, McNemar p {comparison.mcnemar_p:.2f} "
        f"(positives {comparison.mcnemar_p_positives:.2f}), largest change of P {comparison.largest_change:.3f}"
    )


def _describe_files(files: tuple[ConvertedFile, ...]) -> str:
    fp32 = files[0].gate.fp32
    rows: list[tuple[str, ...]] = [("", "bytes", *_METRICS, "agreement", "McNemar p", "of positives", "")]
    rows.append(("fp32 before", "", *_cells(fp32), "", "", "", ""))
    for file in files:
        gate = file.gate
        rows.append(
            (
                file.variant,
                f"{file.bytes:,}",
                *_cells(gate.converted),
                f"{gate.agreement:.1%}",
                f"{gate.mcnemar_p:.2f}",
                f"{gate.mcnemar_p_positives:.2f}",
                file.bundle or f"not written: {gate.reason}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, f"on the {files[0].gate.split} split (n = {fp32.n}); brackets hold 95 % intervals"])


def _metrics(scores: Scores) -> str:
    return "  ".join(f"{name} {text}" for name, text in zip(_METRICS, _cells(scores), strict=True))


def _cells(scores: Scores) -> list[str]:
    estimates: list[Estimate] = [getattr(scores, name) for name in _METRICS]
    return [estimate.text() for estimate in estimates]
