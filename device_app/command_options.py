"""The options that several commands of the device share."""

from __future__ import annotations

from pathlib import Path

import click

from edge_ct.shipped_models import shipped_models

from .paths import DEFAULT_STATE


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


def model_help() -> str:
    """What there is for --model."""
    names = [f"{name}{'' if number else ' (the default)'}" for number, name in enumerate(shipped_models())]
    there = f"or a shipped one: {', '.join(names)}" if names else "no model is shipped with this version"
    return f"The bundle to use: a file; {there}."


model_option = click.option("--model", metavar="BUNDLE", help=model_help())
keep_days_option = click.option(
    "--keep-days", type=click.IntRange(1), help="Delete stored results that are older, once a day."
)
