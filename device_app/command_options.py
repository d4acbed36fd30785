"""The options and colours that several commands of the device share."""

from __future__ import annotations

from pathlib import Path

import click

from edge_ct.engines.command_option import engine_option
from edge_ct.shipped_models import complete_bundle, shipped_models

from .paths import DEFAULT_STATE

__all__ = [
    "engine_option",
    "keep_days_option",
    "key_option",
    "model_help",
    "model_option",
    "state_option",
    "threads_option",
    "workers_option",
]


def _expand_home(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    return value.expanduser()


state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_STATE,
    show_default=True,
    callback=_expand_home,
    help="Folder of the worklist and of the device key.",
)


def model_help() -> str:
    """Return the help of `--model`, which names the shipped bundles."""
    names = [f"{name}{'' if number else ' (the default)'}" for number, name in enumerate(shipped_models())]
    shipped = f"the name of a shipped one: {', '.join(names)}" if names else "required: no bundle is shipped"
    return f"The bundle to use: a file, or {shipped}."


model_option = click.option("--model", metavar="BUNDLE", help=model_help(), shell_complete=complete_bundle)
key_option = click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Public key that the bundle must be signed with.  [default: the key that device install has pinned, if any]",
)
keep_days_option = click.option(
    "--keep-days",
    type=click.IntRange(1, 36_500),
    help="Once a day, delete stored results that are older than this number of days.",
)
delete_unreviewed_option = click.option(
    "--delete-unreviewed",
    is_flag=True,
    help="Delete old results that nobody has reviewed as well.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Number of threads of each interpreter.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Number of slices judged at the same time.  [default: the number of processors / --threads]",
)
