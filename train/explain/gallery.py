"""One HTML page with all pictures and tables of a folder; it opens offline, for example from a USB stick."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_ct.manifest import INTENDED_USE
from edge_ct.reporting.html_page import row, table, write_page


def write_gallery(
    title: str, pictures: Sequence[Path], tables: Mapping[str, Sequence[Sequence[str]]], path: Path
) -> None:
    """Write a self-contained page; the pictures are embedded in it.

    Args:
        title: Title of the page.
        pictures: PNG files.
        tables: Heading -> rows, the first of which is the header.
        path: The HTML file to write.
    """
    parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(INTENDED_USE)}</p>"]
    for heading, (header, *rows) in tables.items():
        cells = [row(map(html.escape, values)) for values in rows]
        parts.append(f"<h2>{html.escape(heading)}</h2>{table(map(html.escape, header), cells)}")
    for picture in pictures:
        encoded = base64.b64encode(picture.read_bytes()).decode()
        name = html.escape(picture.stem)
        parts.append(
            f'<figure><img src="data:image/png;base64,{encoded}" alt="{name}"><figcaption>{name}</figcaption></figure>'
        )
    write_page(path, title, parts)
