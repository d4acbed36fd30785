"""The results of an archive: a folder with one Parquet file for each block, which Parquet readers take as one table.

Rows are those of `edge-ct classify --csv`, in the order of the archive if the files are read in the order of their
names. A file states in its metadata which files it is about, so a repeated run knows what is done already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from edge_ct.system.files import write_bytes

from ..classify.results import COLUMNS
from .block_judge import JudgedSlice

_KEY = b"edge_ct"
_TEXT = ("source", "decision", "reason", "series", "model")
_NUMBERS = ("probability", "decode_ms", "preprocess_ms", "inference_ms", "lesion_share")


class PartInfo(msgspec.Struct, frozen=True):
    """What the metadata of a part states.

    Attributes:
        digest: SHA-256 of the names of its files.
        files: Number of files.
        counts: Number of slices by decision.
        unread: Number of files and frames that could not be read.
    """

    digest: str
    files: int
    counts: dict[str, int]
    unread: int


def part_path(folder: Path, number: int) -> Path:
    """Return the path of the part of a block."""
    return folder / f"part-{number:08}.parquet"


def write_part(folder: Path, number: int, digest: str, files: int, rows: Sequence[JudgedSlice]) -> PartInfo:
    """Write the rows of a block atomically, and return what the part states of itself."""
    results = [row.result for row in rows]
    unread = sum(not row.readable for row in rows)
    info = PartInfo(digest, files, dict(Counter(result.decision for result in results)), unread)
    columns: dict[str, list[Any]] = {name: [getattr(result, name) for result in results] for name in _TEXT}
    columns |= {name: [getattr(result, name) for result in results] for name in ("probability", "lesion_share")}
    columns |= {f"{name}_ms": [getattr(r.ms, name) for r in results] for name in ("decode", "preprocess", "inference")}
    kinds = dict.fromkeys(_TEXT, pa.string()) | dict.fromkeys(_NUMBERS, pa.float64())
    schema = pa.schema([(name, kinds[name]) for name in COLUMNS], metadata={_KEY: msgspec.json.encode(info)})
    buffer = BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer)
    write_bytes(part_path(folder, number), buffer.getvalue())
    return info


def read_part_info(folder: Path, number: int) -> PartInfo | None:
    """Return what the part of a block states of itself; None if there is no such part, or it is damaged."""
    try:
        metadata = pq.read_metadata(part_path(folder, number)).metadata or {}
        return msgspec.json.decode(metadata[_KEY], type=PartInfo)
    except (OSError, pa.ArrowException, KeyError, msgspec.MsgspecError):
        return None


def remove_parts_from(folder: Path, first: int) -> None:
    """Delete the parts of a longer archive, which an earlier run has left."""
    for path in folder.glob("part-*.parquet"):
        if int(path.stem.removeprefix("part-")) >= first:
            path.unlink()
