"""`edge-ct benchmark report`: parse the options, call the library, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_ct.system.progress import Progress, print_json, remark

PATH = click.Path(path_type=Path)


@click.command(short_help="Report accuracy beside latency for bundles and runs, against an ensemble.")
@click.argument("targets", type=PATH, nargs=-1, required=True, metavar="BUNDLE_OR_RUN...")
@click.option(
    "--data",
    type=PATH,
    required=True,
    help="Folder or CSV of labelled slices; slices without labels give latency only.",
)
@click.option("--reference", type=PATH, required=True, help="Run or ensemble that all models are compared with.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder to write the report to.",
)
@click.option(
    "--ensemble-device",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Device that computes runs; gpu without a GPU is an error.",
)
@click.option(
    "--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Number of threads of each model."
)
@click.option(
    "--quick", is_flag=True, help="Run 200 queries instead of at least 1,024 and 60 s; the report is marked as quick."
)
@click.option(
    "--reuse", is_flag=True, help="Use the results of an earlier report again, unless the model is newer than they are."
)
@click.option("--markdown", is_flag=True, help="Also print the table as Markdown.")
@click.option("--positive", default="COVID", show_default=True, help="Name of the positive class.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def report(
    targets: tuple[Path, ...],
    data: Path,
    reference: Path,
    out: Path,
    ensemble_device: Any,
    threads: int,
    quick: bool,
    reuse: bool,
    markdown: bool,
    positive: str,
    as_json: bool,
) -> None:
    """Score and measure bundles and runs on slices that none was trained on, and write report.html.

    Also writes report.json, report.csv, report.md and pareto.png, and the output of each command below parts/.

    \b
    Example:
      edge-ct benchmark report int8.tflite fp32.tflite --data slices/ --reference runs/ensemble --out report
    """
    from .collect import ReportOptions, failure
    from .write import write_report

    options = ReportOptions(data, positive, ensemble_device, threads, quick, reuse)
    result = write_report(targets, reference, options, out, Progress())
    if as_json:
        print_json(result)
    else:
        click.echo(result.verdict)
        remark(f"{out / 'report.html'}")
    if markdown:
        click.echo((out / "report.md").read_text(encoding="utf-8"), err=as_json)
    failed = failure(result)
    if failed:
        raise failed
