"""A worklist for others: CSV, JSON, or a folder of labelled slices that `edge-ct train --from` takes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_ct import slices
from edge_ct.errors import DataRejected, InputRejected
from edge_ct.system.csv_text import safe_csv_line
from edge_ct.system.files import fresh_folder, refuse_existing, write_bytes, write_text

from .records import Row, encode
from .worklist import Worklist

FORMATS = ("csv", "json", "dataset")
CLASSES = {"negative": "non-COVID", "positive": "COVID"}
MARKER = "FROM-WORKLIST.txt"
TABLE = "slices.csv"
_NOTE = "Slices labelled by review of an edge-ct worklist. Research use only. They show patients: handle them so.\n"
_REVIEW = ("reviewer", "verdict", "label", "note", "reviewed")


def to_json(rows: list[Row]) -> str:
    """A JSON list of rows."""
    return msgspec.json.format(msgspec.json.encode(rows), indent=1).decode() + "\n"


def to_csv(rows: list[Row]) -> str:
    """One line a row; the latest review in columns of its own."""
    names = [name for name in Row.__struct_fields__ if name != "review"]
    lines = [safe_csv_line([*names, *_REVIEW])]
    for row in rows:
        own = row.review
        review = (own.reviewer, own.verdict, own.label, own.note, own.time) if own else ("",) * len(_REVIEW)
        lines.append(safe_csv_line([*(getattr(row, name) for name in names), *review]))
    return "".join(lines)


def write_dataset(worklist: Worklist, out: Path, force: bool = False) -> dict[str, int]:
    """Write the slices that a review labels as `out/COVID/*.png`, `out/non-COVID/*.png` and `slices.csv`.

    Groups are patients by their pseudonyms, else series, else the slice alone. A slice larger than the worklist keeps
    is taken from its file where that still holds the same pixels, else as kept. Returns how many of each class; raises
    `DataRejected` where there are none.
    """
    refuse_existing(out, force)
    chosen = {
        row.sha256: row
        for row in worklist.rows(state="reviewed", by="number")
        if row.sha256 and row.review and row.review.label in CLASSES
    }
    if not chosen:
        raise DataRejected(f"{worklist.folder}: no slice is labelled positive or negative by a review yet")
    fresh_folder(out, MARKER)
    write_text(out / MARKER, _NOTE)
    counts = dict.fromkeys(CLASSES.values(), 0)
    lines = [safe_csv_line(("path", "label", "group"))]
    for sha256, row in sorted(chosen.items()):
        content = _pixels(worklist, row)
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


def _pixels(worklist: Worklist, row: Row) -> bytes | None:
    kept = worklist.picture(row.id)
    if kept is not None and slices.decode(kept, row.source).sha256 != row.sha256:
        try:
            one = slices.read(row.source)
        except InputRejected:
            return kept
        if one.sha256 == row.sha256:
            return encode(one.pixels, row.source, whole=True)
    return kept
