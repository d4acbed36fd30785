"""A stored result as a picture: the slice beside its heat map, as `classify --heatmap` writes it."""

from __future__ import annotations

from pathlib import Path

from edge_ct import slices
from edge_ct.errors import EdgeCTError
from edge_ct.system.files import write_bytes

from ..heatmaps import heatmap
from .records import Row
from .worklist import Worklist


def write(worklist: Worklist, row: Row, path: Path) -> None:
    """Write the picture of a row. Raises `EdgeCTError` where the worklist holds none."""
    kept, heat = worklist.picture(row.id), worklist.heat(row.id)
    if kept is None:
        raise EdgeCTError(f"result {row.id} has no picture: its file could not be read")
    pixels = slices.decode(kept, row.source).pixels
    if heat is None:
        write_bytes(path, kept)
        return
    write_bytes(path, heatmap.encode(heatmap.draw_heat(pixels, heat, heatmap.caption(row)), row.source))
