"""Folders that the server reads itself (a USB stick): below roots given at the start, named by tokens, not by paths."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_ct import slices
from edge_ct.errors import EdgeCTError

_MOST_SHOWN = 200
_OUTSTANDING = 8


@dataclass(frozen=True)
class Folder:
    """A folder that may be read. token: what a page calls it by. slices: files in it that look like slices."""

    token: str
    name: str
    slices: int
    root: bool


class Folders:
    """What lies below the roots. A token is a MAC of a path that this server has shown; nothing else opens a folder."""

    def __init__(self, roots: Sequence[Path]) -> None:
        """Raises `EdgeCTError` for a root that is no folder."""
        self._roots = []
        for root in roots:
            if not root.is_dir():
                raise EdgeCTError(f"{root}: not a folder, so not one to offer on the page")
            self._roots.append(root.resolve())
        self._secret = secrets.token_bytes(32)
        self._shown: dict[str, Path] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._roots)

    def roots(self) -> list[Folder]:
        """The roots themselves."""
        return [self._show(root, root=True) for root in self._roots]

    def below(self, token: str) -> list[Folder] | None:
        """Sub-folders, sorted, links left out; None for a token that no page was given."""
        path = self.path(token)
        if path is None:
            return None
        try:
            with os.scandir(path) as entries:
                names = [e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
        except OSError:  # a stick that was pulled out
            return []
        return [self._show(path / name) for name in sorted(names)[:_MOST_SHOWN]]

    def path(self, token: str) -> Path | None:
        """The folder of a token, where it still is below its root."""
        with self._lock:
            path = self._shown.get(token)
        return path if path is not None and self.holds(path) else None

    def holds(self, path: Path) -> bool:
        """Whether a path, links followed, is below a root."""
        try:
            real = path.resolve(strict=True)
        except OSError:
            return False
        return any(real.is_relative_to(root) for root in self._roots)

    def trail(self, token: str) -> list[Folder]:
        """The folder of a token and those above it, the root first."""
        path = self.path(token)
        found: list[Folder] = []
        while path is not None:
            root = path in self._roots
            found.insert(0, self._show(path, root))
            path = None if root else path.parent
        return found

    def _show(self, path: Path, root: bool = False) -> Folder:
        token = hmac.new(self._secret, os.fsencode(path), hashlib.sha256).hexdigest()[:32]
        with self._lock:
            self._shown[token] = path
        name = path.name.encode(errors="replace").decode() or str(path)
        return Folder(token, name, _count(path), root)


def _count(path: Path) -> int:
    try:
        with os.scandir(path) as entries:
            return sum(Path(entry.name).suffix.lower() in slices.SUFFIXES for entry in entries)
    except OSError:
        return 0


class Reading(msgspec.Struct, frozen=True):
    """How far the reading of a folder has come. failed: could not be kept; message: why it ended early."""

    folder: str
    total: int
    done: int
    failed: int
    running: bool
    message: str | None = None


class Reader:
    """Reads one folder at a time into the worklist, in the background."""

    def __init__(
        self, folders: Folders, submit: Callable[[Path, str], Future[Any]], tell: Callable[[Reading], None]
    ) -> None:
        self._folders, self._submit, self._tell = folders, submit, tell
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.state: Reading | None = None

    def start(self, path: Path) -> bool:
        """Begin; False where another folder is being read."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, args=(path,), name="folder", daemon=True)
            self._set(Reading(path.name, 0, 0, 0, True))
            self._thread.start()
            return True

    def stop(self, timeout: float | None = 0.0) -> None:
        """Ask it to end after the slices that are being judged."""
        self._stop.set()
        thread = self._thread
        if thread is not None and timeout != 0.0:
            thread.join(timeout)

    def _set(self, state: Reading) -> None:
        self.state = state
        self._tell(state)

    def _run(self, folder: Path) -> None:
        done, failed, message = 0, 0, None
        outstanding: deque[Future[Any]] = deque()
        try:
            # A link that leads out of the roots is left alone.
            paths = [path for path in slices.find(folder) if self._folders.holds(path)]
            total = len(paths)
        except OSError as error:
            paths, total, message = [], 0, error.strerror or "cannot be read"
        for path in paths:
            if self._stop.is_set() or message:
                break
            try:
                outstanding.append(self._submit(path, str(path.relative_to(folder.parent))))
            except EdgeCTError as error:
                message = str(error)
                break
            if len(outstanding) >= _OUTSTANDING:
                message = _settle(outstanding.popleft())
                done, failed = done + (message is None), failed + (message is not None)
                self._set(Reading(folder.name, total, done, failed, True))
        while outstanding:
            problem = _settle(outstanding.popleft())
            done, failed, message = done + (problem is None), failed + (problem is not None), message or problem
        self._set(Reading(folder.name, total, done, failed, False, message))


def _settle(future: Future[Any]) -> str | None:
    """Wait for one slice; why it could not be kept, None where it is."""
    try:
        future.result()
    except EdgeCTError as error:
        return str(error)
    except Exception as error:
        return type(error).__name__
    return None
