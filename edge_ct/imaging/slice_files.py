"""Finding the slice files of a folder, by content, without leaving anything out in silence."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ..system.files import open_regular, printable

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".dcm"})
_DIRECTORY_CLASS = b"1.2.840.10008.1.3.10"  # Media Storage Directory Storage, PS3.4 annex B
_HEAD = 512  # bytes that are read to recognise a file
_SHORT_VALUES = frozenset({b"UL", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO"})  # representations in groups 2 and 8
_LONG_VALUES = frozenset({b"OB", b"SQ", b"UN", b"UT"})
_NAMED = 3  # files of a kind that a summary names


class OtherFormat(NamedTuple):
    """A file format that is not read. advice: what to do with one file of it, and with several."""

    name: str
    advice: str = "save it as PNG"
    advice_for_several: str = "save them as PNG"
    article: str = "a"


def _archive(name: str) -> OtherFormat:
    return OtherFormat(name, "unpack it", "unpack them")


def _volume(name: str, article: str = "a") -> OtherFormat:
    advice = "as DICOM, or as PNG in a lung window"
    return OtherFormat(name, f"export its slices {advice}", f"export their slices {advice}", article)


# First bytes, their offset, and the format that they tell.
_OTHER_FORMATS = (
    (b"BM", 0, OtherFormat("BMP")),
    (b"GIF8", 0, OtherFormat("GIF")),
    (b"WEBP", 8, OtherFormat("WebP")),
    (b"\x00\x00\x00\x0cjP  ", 0, OtherFormat("JPEG 2000")),
    (b"\xff\x4f\xff\x51", 0, OtherFormat("JPEG 2000")),
    (b"%PDF", 0, OtherFormat("PDF")),
    (b"ftypavif", 4, OtherFormat("AVIF", article="an")),
    (b"ftypheic", 4, OtherFormat("HEIC")),
    (b"ftypmif1", 4, OtherFormat("HEIC")),
    (b"\x00\x00\x00\x0cJXL ", 0, OtherFormat("JPEG XL")),
    (b"P5", 0, OtherFormat("PGM")),
    (b"P6", 0, OtherFormat("PPM")),
    (b"II+\x00", 0, OtherFormat("BigTIFF")),
    (b"MM\x00+", 0, OtherFormat("BigTIFF")),
    (b"\x93NUMPY", 0, _volume("NumPy")),
    (b"NRRD", 0, _volume("NRRD", "an")),
    (b"n+1\x00", 344, _volume("NIfTI")),
    (b"PK\x03\x04", 0, _archive("ZIP")),
    (b"\x1f\x8b", 0, _archive("gzip")),
    (b"7z\xbc\xaf\x27\x1c", 0, _archive("7z")),
    (b"Rar!", 0, _archive("RAR")),
)
Kind = Literal["unreadable", "hidden", "link", "directory of a disc", "other"]


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not judged.

    Attributes:
        path: Its path.
        kind: `unreadable` for one that may hold slices; the other kinds hold none, or are left out on purpose.
        reason: Why it is left out, in a few words.
    """

    path: Path
    kind: Kind
    reason: str


@dataclass(frozen=True)
class Listing:
    """The content of a folder.

    Attributes:
        folder: The folder.
        paths: The slice files below it, sorted.
        left_out: Everything else below it, sorted by path.
    """

    folder: Path
    paths: list[Path]
    left_out: tuple[LeftOut, ...]

    @property
    def unreadable(self) -> tuple[LeftOut, ...]:
        """The files and folders that could not be read."""
        return tuple(entry for entry in self.left_out if entry.kind == "unreadable")

    @property
    def with_unreadable(self) -> list[Path]:
        """The slice files, and what could not be read and may hold some: reading it tells why. Sorted."""
        return sorted([*self.paths, *(entry.path for entry in self.unreadable)])

    def summary(self) -> str | None:
        """Describe in one line what was left out on purpose; None where nothing was."""
        summary = LeftOutSummary(self.folder)
        for entry in self.left_out:
            summary.add(entry)
        return summary.text()


class LeftOutSummary:
    """Counts what is left out of a folder, without keeping every path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, entry: LeftOut) -> None:
        """Count an entry, unless it is unreadable or the directory of a disc."""
        if entry.kind in ("unreadable", "directory of a disc"):
            return
        self._counts[entry.reason] = self._counts.get(entry.reason, 0) + 1
        examples = self._examples.setdefault(entry.reason, [])
        if len(examples) < _NAMED:
            examples.append(printable(str(entry.path.relative_to(self._folder))))

    def text(self) -> str | None:
        """Describe in one line what was left out on purpose; None where nothing was."""
        if not self._counts:
            return None
        parts = []
        for reason, count in sorted(self._counts.items(), key=lambda item: -item[1]):
            more = ", ..." if count > _NAMED else ""
            parts.append(f"{reason}: {count} ({', '.join(self._examples[reason])}{more})")
        return f"left out of {printable(str(self._folder))}: {'; '.join(parts)}"


def list_slices(folder: Path, follow_links: bool | Callable[[Path], bool] = True) -> Listing:
    """List the slice files below a folder.

    A file with a usual suffix is a slice file; any other file is one if it begins as a PNG, JPEG, TIFF or DICOM file.

    Args:
        folder: The folder.
        follow_links: Whether to follow links to files and folders, or a function that says so for the path of a link.
            A folder is visited once, so loops end.
    """
    paths: list[Path] = []
    left_out: list[LeftOut] = []
    for found in walk_slices(folder, follow_links):
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            paths.append(found)
    return Listing(folder, sorted(paths), tuple(sorted(left_out, key=lambda entry: entry.path)))


def walk_slices(folder: Path, follow_links: bool | Callable[[Path], bool] = True) -> Iterator[Path | LeftOut]:
    """Yield the slice files below a folder as `list_slices` lists them, and what is left out.

    Only one folder at a time is held in memory. The order is that of the paths as text.
    """
    follows = follow_links if callable(follow_links) else lambda link: bool(follow_links)
    return _walk(folder, follows, set())


def is_dicom(data: Path | bytes) -> bool:
    """Return whether a file, or its content, begins as DICOM, with a preamble or without; False if it is unreadable."""
    if isinstance(data, bytes):
        return has_preamble(data) or _begins_without_preamble(data[:_HEAD])
    try:
        if not data.is_file():
            return False
        with open_regular(data) as file:
            head = file.read(_HEAD)
    except (OSError, ValueError):
        return False
    return has_preamble(head) or _begins_without_preamble(head)


def has_preamble(head: bytes) -> bool:
    """Return whether the first bytes of a file are the preamble and the prefix of PS3.10, section 7.1."""
    return head[128:132] == b"DICM"


def _begins_without_preamble(head: bytes) -> bool:
    """Return whether a file begins with two elements of group 2 or 8, little endian, as older writers left objects."""
    position, last = 0, -1
    for _ in range(2):
        if len(head) < position + 8:
            return False
        group, element, representation, length = struct.unpack_from("<HH2sH", head, position)
        tag = group << 16 | element
        if group not in (2, 8) or tag <= last:
            return False
        if representation in _LONG_VALUES:
            return True  # Two bytes are reserved and zero, and the length has four.
        if representation not in _SHORT_VALUES:
            (length,) = struct.unpack_from("<I", head, position + 4)
        if length > _HEAD:
            return False
        position, last = position + 8 + length, tag
    return True


def is_dicomdir(path: Path) -> bool:
    """Return whether a file is the directory of a DICOM disc, by its name in any case or by its SOP class."""
    if _named_dicomdir(path):
        return True
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
    except (OSError, ValueError):
        return False
    return has_preamble(head) and _DIRECTORY_CLASS in head


def is_slice_file(path: Path) -> bool:
    """Return whether a file is a slice file, by its suffix or by its first bytes."""
    return isinstance(_recognise(path), Path)


def other_format(head: bytes) -> OtherFormat | None:
    """Return the format of a file if it is known and not read, from its first bytes; None for others."""
    return next((format_ for mark, at, format_ in _OTHER_FORMATS if head[at : at + len(mark)] == mark), None)


def _walk(folder: Path, follows: Callable[[Path], bool], visited: set[tuple[int, int]]) -> Iterator[Path | LeftOut]:
    """Walk without recursion: folders may be nested deeper than Python's calls."""
    listed = _list_folder(folder, visited)
    if isinstance(listed, LeftOut):
        yield listed
        return
    around = [(folder, listed)]
    while around:
        folder, entries = around[-1]
        entry = next(entries, None)
        if entry is None:
            around.pop()
            continue
        path = folder / entry.name
        if entry.name.startswith("."):
            yield LeftOut(path, "hidden", "hidden files or folders")
            continue
        try:
            if entry.is_symlink() and not follows(path):
                yield LeftOut(path, "link", "links")
                continue
            mode = entry.stat().st_mode
        except OSError as error:
            broken = entry.is_symlink() and isinstance(error, FileNotFoundError)
            yield LeftOut(path, "link", "broken links") if broken else LeftOut(path, "unreadable", _unreadable(error))
            continue
        if stat.S_ISDIR(mode):
            below = _list_folder(path, visited)
            if isinstance(below, LeftOut):
                yield below
            else:
                around.append((path, below))
        elif not stat.S_ISREG(mode):
            yield LeftOut(path, "other", "special files")
        else:
            yield _recognise(path)


def _list_folder(folder: Path, visited: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]] | LeftOut:
    """Return the entries of a folder in the order of their paths, or why it is left out."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in visited:
            return LeftOut(folder, "link", "links to a folder that was listed already")
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as listing:
            return iter(sorted(listing, key=_name_in_paths))
    except OSError as error:
        return LeftOut(folder, "unreadable", _unreadable(error))


def _name_in_paths(entry: os.DirEntry[str]) -> str:
    """Return the name as it stands in longer paths: "a/b" comes after "a-b", although "a" comes before it."""
    try:
        return entry.name + "/" * entry.is_dir()
    except OSError:
        return entry.name


def _recognise(path: Path) -> Path | LeftOut:
    if _named_dicomdir(path):
        return LeftOut(path, "directory of a disc", "directories of a disc")
    if path.suffix.lower() in SUFFIXES:
        return path
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
    except OSError as error:
        return LeftOut(path, "unreadable", _unreadable(error))
    if has_preamble(head) and _DIRECTORY_CLASS in head:
        return LeftOut(path, "directory of a disc", "directories of a disc")
    if is_dicom(head) or head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")):
        return path
    if other := other_format(head):
        return LeftOut(path, "other", f"{other.name} files, which are not read ({other.advice_for_several})")
    return LeftOut(path, "other", "files that are not slices")


def _named_dicomdir(path: Path) -> bool:
    return path.name.split(";")[0].split(".")[0].lower() == "dicomdir"


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
