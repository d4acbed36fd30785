"""Folders that the server reads itself, such as a USB stick: below given roots, and named by tokens, not by paths."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.imaging.slice_files import is_slice_file, list_slices

from ..judging.sources import Source, listed_sources

_MAX_SHOWN = 200
_MAX_OUTSTANDING = 8
_LINKS = "links out of the folders that this page may read"


@dataclass(frozen=True)
class Folder:
    """A folder that may be read.

    Attributes:
        token: The name that pages use for it.
        name: The name that pages show.
        slices: Number of files in it that look like slices.
        root: True for a folder that was given when the server was started.
    """

    token: str
    name: str
    slices: int
    root: bool


class Folders:
    """The folders below the roots.

    A token is a MAC of a path that this server has shown; a folder can be opened by its token only.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        """Offer the folders below `roots`.

        Raises:
            EdgeCTError: A root is not a folder.
        """
        self._roots = []
        for root in roots:
            if not root.is_dir():
                raise EdgeCTError(f"{root}: not a folder; name an existing folder with --folder")
            self._roots.append(root.resolve())
        self._secret = secrets.token_bytes(32)
        self._shown: dict[str, Path] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._roots)

    def roots(self) -> list[Folder]:
        """Return the roots."""
        return [self._show(root, root=True) for root in self._roots]

    def subfolders(self, token: str) -> list[Folder] | None:
        """Return the sub-folders of a folder, sorted and without links; None if no page was given the token."""
        path = self.path(token)
        if path is None:
            return None
        try:
            with os.scandir(path) as entries:
                names = [e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
        except OSError:  # The stick was pulled out, for example.
            return []
        return [self._show(path / name) for name in sorted(names)[:_MAX_SHOWN]]

    def path(self, token: str) -> Path | None:
        """Return the path of a token; None if it is unknown, gone, or no longer below a root."""
        with self._lock:
            path = self._shown.get(token)
        return path if path is not None and self.contains(path) else None

    def contains(self, path: Path) -> bool:
        """Return whether a path exists and, with links followed, lies below a root."""
        real = _resolve(path)
        return real is not None and any(real.is_relative_to(root) for root in self._roots)

    def list_slices(self, folder: Path) -> tuple[list[Source], str | None]:
        """List a folder without following links out of the roots.

        Returns:
            The sources, named by their paths below the folder's parent, and what was left out of it.
        """
        listing = list_slices(folder, lambda link: _resolve(link) is None or self.contains(link))
        left_out = [replace(entry, reason=_LINKS) if entry.reason == "links" else entry for entry in listing.left_out]
        start = len(str(folder.parent).rstrip("/")) + 1
        sources = [
            replace(source, name=source.name[start:], path=Path(source.name))
            for source in listed_sources(listing, tuple(self._roots))
        ]
        return sources, replace(listing, left_out=tuple(left_out)).summary()

    def breadcrumbs(self, token: str) -> list[Folder]:
        """Return the folders from the root to the folder of a token."""
        path = self.path(token)
        folders: list[Folder] = []
        while path is not None:
            root = path in self._roots
            folders.insert(0, self._show(path, root))
            path = None if root else path.parent
        return folders

    def _show(self, path: Path, root: bool = False) -> Folder:
        token = hmac.new(self._secret, os.fsencode(path), hashlib.sha256).hexdigest()[:32]
        with self._lock:
            self._shown[token] = path
        name = path.name.encode(errors="replace").decode() or str(path)
        return Folder(token, name, _count_slices(path), root)


def _resolve(path: Path) -> Path | None:
    """Return where a path leads; None if it leads nowhere."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
        return None


def _count_slices(path: Path) -> int:
    try:
        with os.scandir(path) as entries:
            files = [Path(entry.path) for entry in entries if entry.is_file() and not entry.name.startswith(".")]
        return sum(is_slice_file(file) for file in files)
    except OSError:
        return 0


class FolderProgress(msgspec.Struct, frozen=True):
    """Progress of reading a folder.

    Attributes:
        folder: Name of the folder.
        total: Number of its slices.
        done: Number of slices in the worklist.
        failed: Number of slices that could not be stored.
        running: False once the reading has ended.
        message: Why it ended early, or what was left out of the folder.
    """

    folder: str
    total: int
    done: int
    failed: int
    running: bool
    message: str | None = None


class FolderReader:
    """Reads folders into the worklist in the background, one at a time."""

    def __init__(
        self, folders: Folders, submit: Callable[[Source], Future[Any]], report: Callable[[FolderProgress], None]
    ) -> None:
        """Prepare the reader.

        Args:
            folders: The folders that may be read.
            submit: Queues a source; the future is done when its rows are stored.
            report: Called at each progress.
        """
        self._folders, self._submit, self._report = folders, submit, report
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.state: FolderProgress | None = None

    def start(self, path: Path) -> bool:
        """Start to read a folder; return False if another one is being read."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, args=(path,), name="folder", daemon=True)
            self._set(FolderProgress(path.name, 0, 0, 0, True))
            self._thread.start()
            return True

    def stop(self, timeout: float | None = 0.0) -> None:
        """End the reading after the slices that are being judged; wait for up to `timeout` seconds."""
        self._stop.set()
        thread = self._thread
        if thread is not None and timeout != 0.0:
            thread.join(timeout)

    def _set(self, state: FolderProgress) -> None:
        self.state = state
        self._report(state)

    def _run(self, folder: Path) -> None:
        try:
            self._read(folder)
        except Exception as error:  # The page must not wait for a reading that has ended.
            state = self.state or FolderProgress(folder.name, 0, 0, 0, True)
            message = f"reading ended early: {type(error).__name__}"
            self._set(msgspec.structs.replace(state, running=False, message=message))

    def _read(self, folder: Path) -> None:
        done, failed, message = 0, 0, None
        outstanding: deque[Future[Any]] = deque()
        sources, left_out = self._folders.list_slices(folder)
        total = len(sources)
        for source in sources:
            if self._stop.is_set() or message:
                break
            try:
                outstanding.append(self._submit(source))
            except EdgeCTError as error:
                message = str(error)
                break
            if len(outstanding) >= _MAX_OUTSTANDING:
                message = _failure(outstanding.popleft())
                done, failed = done + (message is None), failed + (message is not None)
                self._set(FolderProgress(folder.name, total, done, failed, True))
        while outstanding:
            problem = _failure(outstanding.popleft())
            done, failed, message = done + (problem is None), failed + (problem is not None), message or problem
        self._set(FolderProgress(folder.name, total, done, failed, False, message or left_out))


def _failure(future: Future[Any]) -> str | None:
    """Wait for one slice; return why it could not be stored, or None if it was."""
    try:
        future.result()
    except EdgeCTError as error:
        return str(error)
    except Exception as error:
        return type(error).__name__
    return None
