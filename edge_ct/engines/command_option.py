"""`--engine`, the option of every command that runs a bundle."""

from __future__ import annotations

import click

from .names import DEFAULT_ENGINE, ENGINES

engine_option = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default=DEFAULT_ENGINE,
    show_default=True,
    help="Program that computes the network; edge-ct benchmark shows which one is faster on this machine.",
)
