"""All files of a report: page, JSON, CSV, Markdown, and one picture for a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_ct.files import write_text
from edge_ct.progress import QUIET, Progress

from . import plots, tradeoff, tradeoff_page, tradeoff_tables
from .tradeoff import Options, Report


def write(targets: Sequence[Path], reference: Path, options: Options, out: Path, progress: Progress = QUIET) -> Report:
    """Measure and write everything into `out`. Errors: `tradeoff.collect`."""
    report, probabilities, labels = tradeoff.collect(targets, reference, options, out, progress)
    tradeoff_tables.write_csv(out / "report.csv", report)
    write_text(out / "report.md", tradeoff_tables.markdown(report))
    shown = tradeoff_page.points(report)
    if shown:
        figure = plots.tradeoff(shown)
        plots.save_png(figure, out / "pareto.png")
    tradeoff_page.write(out / "report.html", report, probabilities, labels)
    return report
