"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import EdgeCTError


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, on any error it is removed.

    The content reaches the disk before the name does, so that neither a crash nor a full disk leaves half a file.
    """
    # Where a name fits, the temporary one must fit too; it keeps the ending, by which writers know the format.
    short = hashlib.sha256(path.name.encode()).hexdigest()[:8]
    temporary = path.with_name(f".tmp-{os.getpid()}-{short}-{path.name[-24:]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise EdgeCTError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 `content` to `path`, whole or not at all."""
    write_bytes(path, content.encode())


def refuse_existing(path: Path, force: bool) -> None:
    """Raise where `path` holds something and the user did not say `--force`."""
    try:
        if force or not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return
    except OSError as error:
        raise EdgeCTError(f"{path}: cannot be written: {error.strerror}") from error
    raise EdgeCTError(f"{path}: exists already; give another name, or --force to overwrite it")


def fresh_folder(path: Path, marker: str) -> None:
    """Make an empty folder, in the place of one that this program made: it holds `marker`.

    Raises `EdgeCTError` for any other folder that is not empty: `--force` must not empty somebody's home.
    """
    try:
        if path.exists():
            if any(path.iterdir()) and not (path / marker).exists():
                raise EdgeCTError(f"{path}: holds something else (no {marker}); --force does not delete that")
            shutil.rmtree(path)
        path.mkdir(parents=True)
    except OSError as error:
        raise EdgeCTError(f"{path}: cannot be made anew: {error.strerror or error}") from error


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Raise `EdgeCTError` where another process is at work in `folder`; a killed one holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EdgeCTError(f"{folder}: another process is at work there") from error
        except (ImportError, OSError):  # Windows, and file systems without locks
            pass
        yield


def printable(name: str) -> str:
    """Return a file name as text that UTF-8 can carry: bytes that are not valid UTF-8 are escaped as \\udcxx."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()
    return name
