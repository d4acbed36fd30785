"""Atomic writes, locks and printable file names."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import EdgeCTError


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it on success and is removed on any error.

    The content is on the disk before the file is renamed, so neither a crash nor a full disk leaves half a file.

    Args:
        path: The file to write; missing folders are made.

    Raises:
        EdgeCTError: The file cannot be written.
    """
    # The temporary name must fit where the real one does, and keep the suffix, from which writers infer the format.
    short = zlib.crc32(os.fsencode(path.name))
    temporary = path.with_name(f".tmp-{os.getpid()}-{short:08x}-{path.name[-24:]}")
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


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading without waiting: a pipe that has taken the place of a file has no end.

    Raises:
        OSError: The file cannot be opened, or is no regular file.
    """
    file = open(path, "rb", opener=_open_nonblocking)  # noqa: SIM115 (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a file")
    return file


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def file_within(path: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """Find a file that must lie in one of some folders, whatever others put in its place between listing and reading.

    Args:
        path: The file; links in the path are followed.
        folders: The folders.

    Yields:
        A path that leads to this file until the end of the context, also when `path` no longer does.

    Raises:
        OSError: There is no such file, or links lead out of the folders.
    """
    if not hasattr(os, "O_PATH"):  # Elsewhere than on Linux, nothing keeps the path from changing after this check.
        _check_within(path.resolve(strict=True), folders)
        yield path
        return
    # This opens nothing: what lies outside the folders, a device for example, does not notice.
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        pinned = Path(f"/proc/self/fd/{descriptor}")
        _check_within(pinned.readlink(), folders)
        yield pinned
    finally:
        os.close(descriptor)


def _check_within(real: Path, folders: Sequence[Path]) -> None:
    if not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise OSError(errno.EXDEV, "a link leads out of the folder")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes to a file atomically."""
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write text to a file atomically, as UTF-8."""
    write_bytes(path, content.encode())


def create_once(path: Path, content: bytes, mode: int) -> bool:
    """Write a new file durably, or leave the one that exists: of several processes that create it, the first one wins.

    Args:
        path: The file; its folder must exist.
        content: The content.
        mode: Permissions of the file.

    Returns:
        Whether this call created the file.

    Raises:
        OSError: The file cannot be written.
    """
    with _durable_temporary(path, content, mode) as temporary:
        try:
            # A link, unlike a rename, never replaces an existing file.
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


def write_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file; when this returns, it is on the disk under its name, even after a power failure.

    Args:
        path: The file; its folder must exist.
        content: The content.
        mode: Permissions of the file.

    Raises:
        OSError: The file cannot be written; nothing of it is left.
    """
    with _durable_temporary(path, content, mode) as temporary:
        temporary.replace(path)


@contextmanager
def _durable_temporary(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """Yield a file beside `path` whose content is on the disk; afterwards bring the names in its folder to the disk."""
    unique = os.urandom(4).hex()
    temporary = path.with_name(f".tmp-{os.getpid()}-{unique}-{path.name[-24:]}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with suppress(OSError):
            temporary.unlink()


def refuse_existing(path: Path, force: bool) -> None:
    """Raise `EdgeCTError` if `path` exists and is not an empty folder, unless `force` is set."""
    try:
        if force or not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return
    except OSError as error:
        raise EdgeCTError(f"{path}: cannot be written: {error.strerror}") from error
    raise EdgeCTError(f"{path}: already exists; choose another name, or overwrite it with --force")


def fresh_folder(path: Path, marker: str) -> None:
    """Make an empty folder, replacing one that edge-ct made before.

    Args:
        path: The folder.
        marker: A file that folders made by edge-ct contain.

    Raises:
        EdgeCTError: The folder is not empty and does not contain `marker`: `--force` must not delete foreign files.
    """
    try:
        if path.exists():
            if any(path.iterdir()) and not (path / marker).exists():
                raise EdgeCTError(
                    f"{path}: is not a folder that edge-ct made (it has no {marker}), so --force does not delete it"
                )
            import shutil

            shutil.rmtree(path)
        path.mkdir(parents=True)
    except OSError as error:
        raise EdgeCTError(f"{path}: cannot be replaced: {error.strerror or error}") from error


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock a folder for this process; the lock is released when the process dies.

    Raises:
        EdgeCTError: Another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EdgeCTError(f"{folder}: another process is using this folder") from error
        except (ImportError, OSError):  # Windows, and file systems without locks
            pass
        yield


def one_line(name: str) -> str:
    """Return a name as it can be shown in a line of a table, with U+FFFD for characters that are not printable.

    Control characters and marks of writing direction in a file name would otherwise change other lines of a terminal.
    """
    return name if name.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in name)


def printable(name: str) -> str:
    """Return a file name as text that UTF-8 can carry: bytes that are not valid UTF-8 are escaped as \\udcxx."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()
    return name
