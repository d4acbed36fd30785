"""Self-contained HTML pages that print on A4 and are readable in greyscale."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

from ..manifest import Estimate
from ..system.files import write_text

STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem;
  color: #111; background: #fff }
h1 { font-size: 1.6rem; margin: 0 0 .2rem }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #bbb }
.verdict { font-size: 1.15rem; border-left: 4px solid #111; padding: .3rem 1rem; margin: 1rem 0 }
.notice { border: 1px solid #111; padding: .5rem 1rem; margin: 1rem 0 }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .4rem; border-bottom: 1px solid #ddd; vertical-align: top;
  white-space: nowrap }
th:first-child, td:first-child { text-align: left }
tr.shipped td { font-weight: 600 }
small, .interval { color: #444; font-size: .85em; font-weight: 400 }
img, svg { max-width: 100%; height: auto }
pre { background: #f3f3f3; padding: .8rem; overflow-x: auto; font-size: .85rem }
figure { margin: 1rem 0 }
figcaption { font-size: .9rem; color: #333 }
.pair { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start }
.pair > * { flex: 1 1 20rem; min-width: 0 }
@page { size: A4; margin: 14mm }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt }
  .wide { overflow: visible }
  .wide table { font-size: 7.5pt }
  .wide th, .wide td { white-space: normal; padding: .2rem .25rem }
  h2, figure, tr { break-inside: avoid }
  h2, h2 + p { break-after: avoid }
  pre { white-space: pre-wrap }
}
"""


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page, whole or not at all.

    Args:
        path: The HTML file.
        title: Title of the page, as plain text.
        parts: HTML of the body.
    """
    body = "\n".join(parts)
    write_text(
        path,
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n",
    )


def row(cells: Iterable[str], tag: str = "td", marked: bool = False) -> str:
    """Return a table row.

    Args:
        cells: HTML of the cells.
        tag: `td`, or `th` for a header row.
        marked: Whether the row is printed in bold.
    """
    mark = " class=shipped" if marked else ""
    return f"<tr{mark}>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"


def table(header: Iterable[str], rows: Iterable[str]) -> str:
    """Return a table that scrolls sideways on a narrow screen.

    Args:
        header: HTML of the column headings.
        rows: Rows, as `row` returns them.
    """
    return f"<div class=wide><table><thead>{row(header, tag='th')}</thead><tbody>{''.join(rows)}</tbody></table></div>"


def estimate_cell(estimate: Estimate | None, per_cent: bool = True) -> str:
    """Return HTML of a value with its interval below it.

    Args:
        estimate: The value; None, or one without value, gives "undefined".
        per_cent: Whether to print per cent with one digit, or a number with three.
    """
    if estimate is None or estimate.value is None:
        return "<small>undefined</small>"
    value, _, interval = estimate.text(1 if per_cent else 3, per_cent).partition(" [")
    ends = interval.rstrip("]").replace(", ", " to ")
    return f"{value}<br><span class=interval>{ends}</span>" if ends else value
