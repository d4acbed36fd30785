"""All files of a report: page, JSON, CSV, Markdown, and one picture for a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_ct.reporting import plotting
from edge_ct.system.files import write_text
from edge_ct.system.progress import QUIET, Progress

from . import collect, page, tables
from .collect import Options, Report


def write(targets: Sequence[Path], reference: Path, options: Options, out: Path, progress: Progress = QUIET) -> Report:
    """Measure and write everything into `out`. Errors: `tradeoff.collect`."""
    report, probabilities, labels = collect.collect(targets, reference, options, out, progress)
    tables.write_csv(out / "report.csv", report)
    write_text(out / "report.md", tables.markdown(report))
    shown = page.points(report)
    if shown:
        figure = plotting.tradeoff(shown)
        plotting.save_png(figure, out / "pareto.png")
    page.write(out / "report.html", report, probabilities, labels)
    return report
