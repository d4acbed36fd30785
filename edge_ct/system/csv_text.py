"""Tables as CSV text with Unix line ends, safe to open in a spreadsheet where they hold foreign text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence


def to_csv(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Format a table as CSV.

    Args:
        header: Column names.
        rows: The rows, in the order of the columns.
    """
    return "".join(_line(row) for row in (header, *rows))


def safe_csv_line(values: Iterable[object]) -> str:
    """Format one line of a CSV file that people open in a spreadsheet.

    A spreadsheet takes text that begins with = + - @ for a formula. File names and notes come from anywhere, so such
    text gets an apostrophe in front.

    Args:
        values: The cells of the line.
    """
    return _line(_safe_cell(value) for value in values)


def estimate_columns(name: str, estimate: Mapping[str, float | None]) -> dict[str, str]:
    """Return an estimate and its interval as three columns.

    Args:
        name: Name of the metric and of the first column; the others are `name_low` and `name_high`.
        estimate: `value`, `low` and `high`; None becomes an empty cell.
    """
    cells = {end: "" if estimate[end] is None else f"{estimate[end]:.5f}" for end in ("value", "low", "high")}
    return {name: cells["value"], f"{name}_low": cells["low"], f"{name}_high": cells["high"]}


def _line(values: Iterable[object]) -> str:
    buffer = io.StringIO()
    # A writer with Unix line ends would leave a lone carriage return unquoted, and a reader takes it for a line end.
    csv.writer(buffer).writerow(values)
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def _safe_cell(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
