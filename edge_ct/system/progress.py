"""Progress for people on standard error, results for machines on standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import msgspec
from click.termui import progressbar


class Progress:
    """Progress bars and lines on standard error; `quiet` suppresses both."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a progress bar.

        Args:
            label: Text in front of the bar.
            total: Number of steps.

        Yields:
            A function that advances the bar by a number of steps.
        """
        if self.quiet:
            yield lambda steps: None
            return
        shown = progressbar(length=total, label=f"{label:<22}", file=sys.stderr)
        with shown:
            yield shown.update

    def say(self, line: str) -> None:
        """Print one line."""
        if not self.quiet:
            click.echo(line, err=True)


QUIET = Progress(quiet=True)


def print_json(value: object) -> None:
    """Print a value as one line of JSON on standard output."""
    click.echo(msgspec.json.encode(value).decode())
