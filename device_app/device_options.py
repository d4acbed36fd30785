"""The options that several commands of the device share."""

from __future__ import annotations

from pathlib import Path

import click

from .places import DEFAULT_STATE


def _folder(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    return value.expanduser()


state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_STATE,
    show_default=True,
    callback=_folder,
    help="The folder of worklist and device key.",
)
model_option = click.option(
    "--model", metavar="BUNDLE", help="The bundle to use. No model is shipped with this version."
)
keep_days_option = click.option(
    "--keep-days", type=click.IntRange(1), help="Delete stored results that are older, once a day."
)
