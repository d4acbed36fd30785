"""Names on a command line -> the files to judge: files, folders, globs, DICOMDIRs and standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_ct.errors import InputRejected
from edge_ct.imaging.limits import MAX_BYTES
from edge_ct.imaging.slice_files import LeftOutSummary, Listing, is_dicomdir, walk_slices
from edge_ct.system.files import file_within

STANDARD_INPUT = "-"


@dataclass(frozen=True, eq=False)
class Source:
    """One thing to judge.

    Attributes:
        name: The name under which results are shown; by default the path of the file, too.
        content: The bytes of the file if they are held in memory.
        path: The path of the file, if it is neither held in memory nor called by its path.
        reason: Why there is nothing to judge under this name; None if there is.
        within: Folders in one of which the file must lie; links that lead out of them are not followed. Empty for any.
    """

    name: str
    content: bytes | None = None
    reason: str | None = None
    path: Path | None = None
    within: tuple[Path, ...] = ()

    @contextmanager
    def opened(self) -> Iterator[Path | bytes]:
        """Yield the content of the file, or a path that leads to it. Raises `OSError` if it lies outside `within`."""
        path = self.path or Path(self.name)
        if self.content is not None or not self.within:
            yield path if self.content is None else self.content
            return
        with file_within(path, self.within) as pinned:
            yield pinned


def find_sources(names: Iterable[str], report: Callable[[str], None] = lambda line: None) -> Iterator[Source]:
    """Expand names to sources, in order.

    Args:
        names: Paths of files and folders, globs, DICOMDIRs, or `-` for one image on standard input. The files of a
            folder or glob come in the order of their paths.
        report: Called with one line for each folder of which something was left out.

    Yields:
        One source for each file. A name that leads to no file, and what cannot be read, become sources with a `reason`.
    """
    for name in names:
        if name == STANDARD_INPUT:
            yield Source("<stdin>", sys.stdin.buffer.read(MAX_BYTES + 1))
        elif _is_folder(name):
            yield from _in_folder(Path(name), report)
        elif is_dicomdir(Path(name)):
            yield from _in_dicomdir(name)
        elif any(c in name for c in "*?[") and not _exists(name):
            import glob

            try:
                matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (absolute patterns)
            except RecursionError:
                yield Source(name, reason="folders are nested too deeply for a pattern; name the folder instead")
                continue
            for match in matches:
                if _is_folder(match):
                    yield from _in_folder(Path(match), report)
                else:
                    yield Source(match)
            if not matches:
                yield Source(name, reason="no file matches")
        else:
            yield Source(name)


def _in_dicomdir(name: str) -> Iterator[Source]:
    from . import dicom_objects

    try:
        paths = dicom_objects.dicomdir_files(Path(name))
    except InputRejected as error:
        yield Source(name, reason=str(error).removeprefix(f"{name}: "))
        return
    yield from (Source(str(path)) for path in paths)
    if not paths:
        yield Source(name, reason="this DICOMDIR lists no image")


def listed_sources(listing: Listing, within: tuple[Path, ...]) -> list[Source]:
    """Return the sources of a folder in the order of their paths: its slice files, and what cannot be read.

    Args:
        listing: The content of the folder.
        within: The folders that no link may lead out of when a file is read.
    """
    sources = [Source(str(path), within=within) for path in listing.paths]
    sources += [Source(str(entry.path), reason=entry.reason) for entry in listing.unreadable]
    return sorted(sources, key=lambda source: source.name)


def _in_folder(folder: Path, report: Callable[[str], None]) -> Iterator[Source]:
    empty, left_out = True, LeftOutSummary(folder)
    for found in walk_slices(folder):
        if isinstance(found, Path):
            empty = False
            yield Source(str(found))
        elif found.kind == "unreadable":
            empty = False
            yield Source(str(found.path), reason=found.reason)
        else:
            left_out.add(found)
    if empty:
        yield Source(str(folder), reason="no PNG, JPEG, TIFF or DICOM file in this folder")
    if summary := left_out.text():
        report(summary)


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # The name is too long, for example; `judge_source` says so in a rejected row.
        return False
