"""What the kernel says about a folder: inotify(7) for the folders below it, and changes of the mounted file systems.

Only Linux has both. A file system whose files change elsewhere (a network share) sends no events: it must be polled.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

# From <sys/inotify.h>: a file or folder was created, closed after writing, moved, deleted, or changed its permissions.
_MASK = 0x100 | 0x8 | 0x40 | 0x80 | 0x200 | 0x4 | 0x400 | 0x800
_ONLY_FOLDERS, _NO_LINKS = 0x01000000, 0x02000000
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, getattr(os, "O_CLOEXEC", 0)
_BUFFER = 1 << 16
# File systems that send an event for every change.
_LOCAL = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "ramfs", "vfat", "exfat", "ntfs3", "hfsplus", "overlay")
)
_STOP_SECONDS = 0.5
_MOUNTS = Path("/proc/self/mountinfo")


class FolderEvents:
    """Events of one folder and of all folders below it."""

    def __init__(self) -> None:
        """Begin without a folder. Raises `OSError` if this system has no inotify."""
        if sys.platform != "linux":
            raise OSError("inotify is a feature of Linux")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(_NONBLOCK | _CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._mounts = _MOUNTS.open("rb")
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._poll.register(self._mounts, select.POLLPRI)

    def close(self) -> None:
        """Forget all folders."""
        os.close(self._descriptor)
        self._mounts.close()

    def watch(self, folder: Path) -> bool:
        """Watch a folder and those below it, also those that were watched before.

        Returns:
            True if no change can be missed; False if the folder must be polled.
        """
        local, folders = _local_devices(), _folders(folder)
        complete = bool(folders)
        for path, device in folders:
            number = self._libc.inotify_add_watch(
                self._descriptor, os.fsencode(path), _MASK | _ONLY_FOLDERS | _NO_LINKS
            )
            complete = complete and number >= 0 and device in local
        return complete

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Wait for an event, up to `seconds` or until `stop` is set; return whether there was one."""
        end = time.monotonic() + seconds
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            if events := self._poll.poll(1000 * min(left, _STOP_SECONDS)):
                for descriptor, _ in events:
                    if descriptor == self._descriptor:
                        with suppress(BlockingIOError):
                            while os.read(self._descriptor, _BUFFER):
                                pass
                return True
        return False


def _folders(folder: Path) -> list[tuple[str, int]]:
    """Return the path and the device of a folder and of all folders below it, without links and hidden ones."""
    found, waiting = [], [str(folder)]
    while waiting:
        path = waiting.pop()
        with suppress(OSError):
            found.append((path, Path(path).stat().st_dev))
            with os.scandir(path) as entries:
                waiting += [
                    entry.path
                    for entry in entries
                    if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
                ]
    return found


def _local_devices() -> set[int]:
    """Return the device numbers of the mounted file systems that send events; see proc_pid_mountinfo(5)."""
    devices = set()
    with suppress(OSError, ValueError, IndexError):
        for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
            fields, _, rest = line.partition(" - ")
            major, minor = fields.split()[2].split(":")
            if rest.split()[0] in _LOCAL:
                devices.add(os.makedev(int(major), int(minor)))
    return devices
