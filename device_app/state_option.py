"""The option that every command with a worklist has."""

from __future__ import annotations

from pathlib import Path

import click

from .worklist import DEFAULT_FOLDER


def _folder(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    return value.expanduser()


state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_FOLDER,
    show_default=True,
    callback=_folder,
    help="The folder of worklist and device key.",
)
