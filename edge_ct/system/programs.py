"""Programs of this wing that are no commands of `edge-ct`: one line and an exit code for what goes wrong, as there."""

from __future__ import annotations

import sys

import click

from ..errors import EdgeCTError


def run(command: click.Command) -> None:
    """Run a command with the words of this process, and end it."""
    try:
        command()
    except EdgeCTError as error:
        click.echo(f"edge-ct: {error}", err=True)
        sys.exit(error.exit_code)
