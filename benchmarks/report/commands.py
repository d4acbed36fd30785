"""`edge-ct benchmark report`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_ct.system.progress import Progress, print_json

PATH = click.Path(path_type=Path)


@click.command(short_help="Accuracy beside latency, of bundles and runs against an ensemble.")
@click.argument("targets", type=PATH, nargs=-1, required=True, metavar="BUNDLE_OR_RUN...")
@click.option(
    "--data", type=PATH, required=True, help="Folder or CSV of labelled slices; without labels, latency only."
)
@click.option("--reference", type=PATH, required=True, help="The run or ensemble that all are held against.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write.")
@click.option(
    "--ensemble-device",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Where runs are computed; a missing GPU asked for by name is an error.",
)
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Threads of each model.")
@click.option("--quick", is_flag=True, help="200 queries instead of at least 1,024 and 60 s; marked so.")
@click.option("--reuse", is_flag=True, help="Take what the same command measured before, where the model is older.")
@click.option("--markdown", is_flag=True, help="Also print the table as Markdown.")
@click.option("--positive", default="COVID", show_default=True, help="Name of the positive class.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
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

    Beside it report.json, report.csv, report.md, pareto.png, and below parts/ what each command printed.

    \b
    Example:
      edge-ct benchmark report int8.tflite fp32.tflite --data slices/ --reference runs/ensemble --out report
    """
    from . import collect
    from . import write as tradeoff_report

    options = collect.Options(data, positive, ensemble_device, threads, quick, reuse)
    found = tradeoff_report.write(targets, reference, options, out, Progress())
    if as_json:
        print_json(found)
    else:
        click.echo(found.verdict)
        click.echo(f"{out / 'report.html'}", err=True)
    if markdown:
        click.echo((out / "report.md").read_text(encoding="utf-8"), err=as_json)
    failed = collect.failure(found)
    if failed:
        raise failed
