"""The worklist for other programs: CSV, JSON, labelled slices for `edge-ct train --from`, and pictures of results."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_ct import slices
from edge_ct.errors import DataRejected, EdgeCTError, InputRejected
from edge_ct.system.csv_text import safe_csv_line
from edge_ct.system.files import fresh_folder, refuse_existing, write_bytes, write_text

from ..heatmaps.heatmap import caption, draw_heat, encode_png
from .reader import WorklistReader
from .records import Review, Row, State
from .worklist import Worklist

CLASSES = {"negative": "non-COVID", "positive": "COVID"}
MARKER = "FROM-WORKLIST.txt"
TABLE = "slices.csv"
_NOTE = (
    "These slices were labelled by review of an edge-ct worklist. Research use only. They show patients: store and "
    "share them accordingly.\n"
)
# CSV columns of the latest review, and the fields that they come from.
_REVIEW = {"reviewer": "reviewer", "verdict": "verdict", "label": "label", "note": "note", "reviewed": "time"}


def to_json(rows: list[Row]) -> str:
    """Return rows as a JSON list; `outcome` is the decision that counts: the latest review's, else the model's."""
    listed = [{**msgspec.to_builtins(row), "outcome": row.outcome} for row in rows]
    return msgspec.json.format(msgspec.json.encode(listed), indent=1).decode() + "\n"


def to_csv(rows: list[Row]) -> str:
    """Return one CSV line for each row; the latest review has columns of its own. New columns come last.

    `outcome` is the decision that counts: that of the latest review, else that of the model.
    """
    names = [name for name in Row.__struct_fields__ if name not in ("review", "lesion_share")]
    lines = [safe_csv_line([*names, *_REVIEW, "lesion_share", "outcome"])]
    lines += [
        safe_csv_line(
            [*(getattr(row, name) for name in names), *_review_cells(row.review), row.lesion_share, row.outcome]
        )
        for row in rows
    ]
    return "".join(lines)


# The formats of a table of rows, by the name that `edge-ct worklist export --format` gives them.
TABLES = {"csv": to_csv, "json": to_json}
FORMATS = (*TABLES, "dataset")


def write_table(worklist: Worklist, out: Path, kind: str, state: State | None = None, force: bool = False) -> int:
    """Write rows as a table, and note the export in the audit trail.

    Args:
        worklist: The worklist.
        out: The file to write.
        kind: One of `TABLES`.
        state: Only rows in this state.
        force: Overwrite an existing file.

    Returns:
        The number of rows.
    """
    refuse_existing(out, force)
    rows = worklist.rows(state=state, by="number")
    write_text(out, TABLES[kind](rows))
    worklist.note("export", "export", {"to": kind, "results": len(rows)})
    return len(rows)


def write_dataset(worklist: Worklist, out: Path, force: bool = False) -> dict[str, int]:
    """Write the slices that a review labels as `out/COVID/*.png`, `out/non-COVID/*.png` and `slices.csv`.

    The group of a slice is its patient's pseudonym, else its series, else the slice alone. The worklist stores large
    slices at reduced size; they are read from their files again if these still hold the same pixels.

    Args:
        worklist: The worklist.
        out: The folder to write.
        force: Replace a folder that this function wrote before.

    Returns:
        The number of slices of each class.

    Raises:
        DataRejected: No slice is labelled.
    """
    refuse_existing(out, force)
    labelled = {
        row.sha256: row
        for row in worklist.rows(state="reviewed", by="number")
        if row.sha256 and row.review and row.review.label in CLASSES
    }
    if not labelled:
        raise DataRejected(f"{worklist.folder}: no review labels a slice positive or negative yet")
    fresh_folder(out, MARKER)
    write_text(out / MARKER, _NOTE)
    counts = dict.fromkeys(CLASSES.values(), 0)
    lines = [safe_csv_line(("path", "label", "group"))]
    for sha256, row in sorted(labelled.items()):
        content = _png_of(worklist, row)
        if content is None or row.review is None or row.review.label is None:
            continue
        label = CLASSES[row.review.label]
        name = f"{label}/{sha256[:32]}.png"
        write_bytes(out / name, content)
        lines.append(safe_csv_line((name, label, row.patient or row.series or sha256[:32])))
        counts[label] += 1
    write_text(out / TABLE, "".join(lines))
    worklist.note("export", "export", {"to": "dataset", "slices": counts})
    return counts


def write_picture(worklist: WorklistReader, row: Row, path: Path, force: bool = False) -> None:
    """Write the slice of a row beside its heat map as PNG, or the slice alone if the row has no heat map.

    Raises:
        EdgeCTError: The row has no picture, or `path` exists and `force` is not set.
    """
    refuse_existing(path, force)
    png, heat = worklist.picture(row.id), worklist.heat(row.id)
    if png is None:
        raise EdgeCTError(f"result {row.id} has no picture: its file could not be read")
    if heat is not None:
        text = caption(row)
        if row.reading:
            text = f"Reviewed: {row.reading}. Model: {text}"
        png = encode_png(draw_heat(slices.decode(png, row.source).pixels, heat, text), row.source)
    write_bytes(path, png)


def _review_cells(review: Review | None) -> list[object]:
    return [getattr(review, field) if review else "" for field in _REVIEW.values()]


def _png_of(worklist: Worklist, row: Row) -> bytes | None:
    """Return the slice of a row as PNG, at full size if possible."""
    stored = worklist.picture(row.id)
    if stored is None or slices.decode(stored, row.source).sha256 == row.sha256:
        return stored
    try:
        original = slices.read(row.source)
    except InputRejected:
        return stored
    return encode_png(original.pixels, row.source) if original.sha256 == row.sha256 else stored
