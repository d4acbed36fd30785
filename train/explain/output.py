"""Reading the slices that an `edge-ct explain` command was given, and writing its output folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_ct.dataset import Dataset
from edge_ct.errors import InputRejected
from edge_ct.imaging.slice_files import list_slices
from edge_ct.system.files import fresh_folder, write_bytes
from edge_ct.system.progress import QUIET, Progress

from .gallery import write_gallery

_MARKER = "explain.json"
_MAX_SLICES = 64  # in one picture


def find_slices(sources: Sequence[Path], progress: Progress = QUIET) -> list[Path]:
    """Return the slice files that were named, or that lie in the named folders.

    Of more slices than one picture can show, as many as it can show are taken, spread evenly over all of them.

    Args:
        sources: Slice files or folders of them.
        progress: Told if slices are left out.

    Raises:
        InputRejected: There is no slice.
    """
    paths = [path for source in sources for path in (list_slices(source).paths if source.is_dir() else [source])]
    if not paths:
        raise InputRejected(f"{sources[0]}: there is no slice in this folder")
    if len(paths) > _MAX_SLICES:
        progress.say(
            f"{len(paths)} slices were named, and one picture shows at most {_MAX_SLICES}: {_MAX_SLICES} of "
            "them, spread "
            "evenly, are explained"
        )
        paths = [paths[index] for index in np.linspace(0, len(paths) - 1, _MAX_SLICES).round().astype(int)]
    return paths


def spread_indices(dataset: Dataset, limit: int) -> list[int]:
    """Return the indices of up to `limit` slices per class, spread evenly over the class."""
    indices: list[int] = []
    for value in (0, 1):
        members = np.flatnonzero(dataset.labels == value)
        chosen = np.linspace(0, len(members) - 1, min(limit, len(members))).round().astype(int)
        indices += members[np.unique(chosen)].tolist()
    return indices


def start_folder(out: Path, settings: dict[str, Any]) -> None:
    """Create an empty output folder with the settings in `explain.json`, by which a later run knows the folder."""
    fresh_folder(out, _MARKER)
    write_bytes(out / _MARKER, msgspec.json.encode(settings) + b"\n")


def write_page_if(
    wanted: bool, out: Path, title: str, tables: Mapping[str, Sequence[Sequence[str]]] | None = None
) -> tuple[str, ...]:
    """Write `gallery.html` with all pictures of the folder if it is wanted; return the names of the files written."""
    if not wanted:
        return ()
    write_gallery(title, sorted(out.glob("*.png")), tables or {}, out / "gallery.html")
    return ("gallery.html",)


def pack_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    """Return the content of a compressed NPZ file."""
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # no array is named allow_pickle
    return buffer.getvalue()


def format_cell(value: object) -> str:
    """Format a table cell: floats with four digits, None as an empty cell."""
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
