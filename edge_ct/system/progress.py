"""Progress and remarks for people on standard error, results for machines on standard output.

`edge-ct --quiet` suppresses progress and remarks; `edge-ct -v` adds details.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import click
import msgspec
from click.termui import progressbar

Verbosity = Literal["quiet", "normal", "verbose"]
_verbosity: Verbosity = "normal"


def set_verbosity(verbosity: Verbosity) -> None:
    """Set how much this process prints on standard error besides errors."""
    global _verbosity
    _verbosity = verbosity


def is_verbose() -> bool:
    """Return whether details are printed."""
    return _verbosity == "verbose"


def is_quiet() -> bool:
    """Return whether only errors are printed."""
    return _verbosity == "quiet"


def remark(line: str) -> None:
    """Print a line for people on standard error, unless the command is quiet."""
    if not is_quiet():
        click.echo(line, err=True)


def detail(line: str) -> None:
    """Print a line on standard error if the command is verbose."""
    if is_verbose():
        click.echo(line, err=True)


class Progress:
    """Progress bars and lines on standard error; `quiet`, or `edge-ct --quiet`, suppresses both."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet

    @property
    def quiet(self) -> bool:
        """Whether nothing is shown."""
        return self._quiet or is_quiet()

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
