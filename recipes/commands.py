"""`edge-ct demo`: parse the options, call the library."""

from __future__ import annotations

from pathlib import Path

import click

from edge_ct.system.progress import Progress


@click.command(short_help="Run the whole product on synthetic slices, in a few minutes.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("edge-ct-demo"),
    show_default=True,
    help="Folder to write the results to.",
)
@click.option("--force", is_flag=True, help="Overwrite the results of an earlier demo.")
def demo(out: Path, force: bool) -> None:
    """Make phantom slices, train, convert to int8, evaluate, benchmark, classify, and write report.html.

    All slices are synthetic: the figures show that the software works, and say nothing about patients.

    \b
    Example:
      edge-ct demo --out demo
    """
    from .demo.run import run_demo

    run_demo(out, force, Progress())
