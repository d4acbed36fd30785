"""CSV that is safe to open."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable


def csv_line(values: Iterable[object]) -> str:
    """One line, its end included.

    A spreadsheet takes text that begins with = + - @ for a formula, and file names and notes come from anywhere: these
    get an apostrophe in front.
    """
    line = io.StringIO()
    # A writer of Unix line ends would leave a lone carriage return, which a reader takes for one, unquoted.
    csv.writer(line).writerow([_cell(value) for value in values])
    return line.getvalue().removesuffix("\r\n") + "\n"


def _cell(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value


def columns(name: str, estimate: dict[str, float | None]) -> dict[str, str]:
    """An estimate and its interval as three columns."""
    shown = {end: "" if estimate[end] is None else f"{estimate[end]:.5f}" for end in ("value", "low", "high")}
    return {name: shown["value"], f"{name}_low": shown["low"], f"{name}_high": shown["high"]}
