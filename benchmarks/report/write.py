"""Write all files of a report: the page, JSON, CSV, Markdown, and the plot as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_ct.reporting.plotting import save_png
from edge_ct.system.files import write_text
from edge_ct.system.progress import QUIET, Progress

from ..plots import tradeoff
from .collect import Report, ReportOptions, collect
from .page import tradeoff_points, write_report_page
from .tables import markdown_table, write_csv


def write_report(
    targets: Sequence[Path], reference: Path, options: ReportOptions, out: Path, progress: Progress = QUIET
) -> Report:
    """Score and measure all models and write the report into a folder; arguments and errors as for `collect`."""
    report, probabilities, labels = collect(targets, reference, options, out, progress)
    write_csv(out / "report.csv", report)
    write_text(out / "report.md", markdown_table(report))
    points = tradeoff_points(report)
    if points:
        save_png(tradeoff(points), out / "pareto.png")
    write_report_page(out / "report.html", report, probabilities, labels)
    return report
