"""CSV: reading tables, and writing them with Unix line ends, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import DataRejected


def read_table(table: Path, columns: str) -> list[dict[str, str]]:
    """Read the rows of a CSV file that a user wrote. Cells that a row lacks are empty.

    Args:
        table: The file.
        columns: Names of the columns as errors state them: those that the file must have, then others in brackets.

    Raises:
        DataRejected: The file cannot be read, lacks a column, or has no row.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))
    except OSError as error:
        raise DataRejected(f"{table}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataRejected(f"{table}: not a CSV file; UTF-8 text is needed") from error
    except csv.Error as error:
        raise DataRejected(f"{table}: cannot be read as CSV: an open quotation mark, or a cell too long") from error
    if not rows or not set(columns.split("[")[0].split(",")) <= set(rows[0]):
        raise DataRejected(f"{table}: a CSV with the columns {columns} and at least one row is needed")
    return rows


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file that edge-ct wrote; none if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
