"""One page of all pictures and tables of a folder: opens offline, from a USB stick."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from edge_ct.manifest import INTENDED_USE
from edge_ct.system.files import write_text

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1.5rem; color: #111;
  background: #fff }
figure { margin: 1.5rem 0; break-inside: avoid } img { max-width: 100%; border: 1px solid #999 }
figcaption { color: #333 } table { border-collapse: collapse } td, th { border: 1px solid #999; padding: .3rem .6rem }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee } figcaption { color: #ccc } }
@media print { body { max-width: none; padding: 0; font-size: 10pt } }
"""


def write(title: str, pictures: Sequence[Path], tables: dict[str, Sequence[Sequence[str]]], path: Path) -> None:
    """tables: heading -> rows, the first of which is the header."""
    parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(INTENDED_USE)}</p>"]
    for heading, rows in tables.items():
        lines = [_row(rows[0], "th"), *(_row(row, "td") for row in rows[1:])]
        parts.append(f"<h2>{html.escape(heading)}</h2><table>{''.join(lines)}</table>")
    for picture in pictures:
        encoded = base64.b64encode(picture.read_bytes()).decode()
        name = html.escape(picture.stem)
        parts.append(
            f'<figure><img src="data:image/png;base64,{encoded}" alt="{name}"><figcaption>{name}</figcaption></figure>'
        )
    write_text(
        path,
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>{''.join(parts)}</body></html>\n",
    )


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
