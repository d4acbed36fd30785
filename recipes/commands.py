"""`edge-ct demo`: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click

from edge_ct.system.progress import Progress


@click.command(short_help="The whole line on synthetic slices, in a few minutes.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("edge-ct-demo"),
    show_default=True,
    help="Folder to write.",
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def demo(out: Path, force: bool) -> None:
    """Make phantom slices, train, convert to int8, evaluate, benchmark, classify, and write report.html.

    All slices are synthetic: the figures say that the software works, nothing about patients.

    \b
    Example:
      edge-ct demo --out demo
    """  # fmt: skip
    from .demo import run as demonstration

    demonstration.run(out, force, Progress())
