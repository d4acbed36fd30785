"""A watched folder: each file is judged once, when it is complete, and remembered across restarts.

Nothing in the folder is moved or changed. Where the kernel reports changes (see `folder_events`), the folder is listed
after a change and once a minute; elsewhere it is polled, because network shares send no events. A file is complete when
its size and modification time have not changed for `settle` seconds of this process's clock; the clocks of sticks and
shares are often wrong. A file that cannot be read may be a copy that has stalled, so it is tried again for some time
before it becomes a rejected row. The folder may disappear and come back.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edge_ct.errors import InputRejected, StorageFull
from edge_ct.imaging.slice_files import list_slices

from ..judging.entries import PreparedEntry, PrepareEntry
from ..judging.judge import Judge
from ..judging.sources import Source, listed_sources
from ..worklist.records import Added, Entry
from ..worklist.retention import DailyRetention
from ..worklist.worklist import Worklist
from .folder_events import FolderEvents

SETTLE = 3.0
INTERVAL = 2.0
# An empty or unreadable file is given this many times the settling time.
PATIENCE = 5
_FULL_PAUSE = 30.0
# Seconds between two listings of a folder in which no change is reported.
_SLOW_INTERVAL = 60.0
# The pause after the listing of a large folder, as a multiple of the time that the listing took.
_REST = 4.0


@dataclass(eq=False)
class _Tracked:
    """A file that is not judged yet: its size and modification time, and since when they have not changed."""

    size: int
    modified_ns: int
    since: float


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A judgement on its way to the worklist; `entry` is None if its file has changed or may still be completed."""

    path: Path
    fingerprint: bytes
    entry: Entry | None
    unread: bool = False


class Watch:
    """Watches one folder for one worklist: `scan` looks once, `run` repeats it until it is told to stop."""

    def __init__(
        self,
        folder: Path,
        worklist: Worklist,
        judge: Judge,
        settle: float = SETTLE,
        say: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
        events: FolderEvents | None = None,
    ) -> None:
        """Begin to watch.

        Args:
            folder: The folder; it need not exist yet.
            worklist: Where results are stored.
            judge: The worker processes.
            settle: Seconds for which a complete file has not changed.
            say: Takes messages for the user.
            clock: Returns the time in seconds.
            events: Reports changes of the folder; without it, the folder is polled.
        """
        self.folder, self.settle = folder, settle
        self._worklist, self._judge = worklist, judge
        self._say, self._clock = say, clock
        self._tracked: dict[Path, _Tracked] = {}
        self._known: dict[Path, bytes] = {}
        self._present = True
        self._left_out: str | None = None
        self._events = events
        self._unread: set[str] = set()
        self._listing_seconds = 0.0

    @property
    def waiting(self) -> int:
        """Number of files in the folder that are not judged yet."""
        return len(self._tracked)

    @property
    def unread(self) -> list[str]:
        """Names of the files and folders that could not be read."""
        return sorted(self._unread)

    def scan(self) -> Iterator[Added]:
        """Judge the files that are complete now.

        Yields:
            The rows, each when it is on the disk.

        Raises:
            StorageFull: There is no room in the worklist.
        """
        complete = self._complete_files()
        if not complete:
            return
        for batch in self._judge.judge_each(complete, PrepareEntry("watch")):
            checked = [self._check(prepared) for prepared in batch]
            # The frames of one object are stored together: none of them if one is not ready.
            postponed = {prepared.path for prepared in checked if prepared.entry is None}
            ready = [prepared for prepared in checked if prepared.path not in postponed]
            entries = [prepared.entry for prepared in ready if prepared.entry is not None]
            if not entries:
                continue
            for prepared, added in zip(ready, self._worklist.add_all(entries), strict=True):
                self._tracked.pop(prepared.path, None)
                self._known[prepared.path] = prepared.fingerprint
                if prepared.unread:
                    self._unread.add(str(prepared.path))
                yield added

    def run(
        self,
        stop: threading.Event,
        interval: float = INTERVAL,
        keep_days: int | None = None,
        once: bool = False,
        delete_unreviewed: bool = False,
    ) -> Iterator[Added]:
        """Scan again and again.

        Args:
            stop: Ends the run when it is set.
            interval: Seconds between two scans.
            keep_days: Once a day, delete stored results that are older than this number of days.
            once: End the run when no file waits.
            delete_unreviewed: Delete old results that nobody has reviewed as well.

        Yields:
            The rows, each when it is on the disk.

        Raises:
            InputRejected: There is no folder, and `once` is set.
            StorageFull: There is no room in the worklist, and `once` is set.
        """
        if once and not self.folder.is_dir():
            raise InputRejected(f"{self.folder}: no such folder")
        retention = DailyRetention(self._worklist, keep_days, delete_unreviewed, self._say, self._clock)
        while not stop.is_set():
            pause = interval
            reported = self._events is not None and self._events.watch(self.folder)
            try:
                retention.run_if_due()
                for added in self.scan():
                    yield added
                    if stop.is_set():
                        return
            except StorageFull as error:
                if once:
                    raise
                # Nothing is lost: the files are still in the folder, and are judged when there is room again.
                self._say(f"{error}")
                pause = max(interval, _FULL_PAUSE)
            if once and not self._tracked:
                return
            stop.wait(pause if once else max(pause, _REST * self._listing_seconds))
            # What happens from the listing on is reported, also what happened before this wait.
            if self._events is not None and reported and not self._tracked and not stop.is_set():
                self._events.wait(_SLOW_INTERVAL, stop)

    def _complete_files(self) -> list[Source]:
        """Return the files that have not changed for long enough, in the order of their paths."""
        begun = time.monotonic()
        try:
            return self._list_complete()
        finally:
            self._listing_seconds = time.monotonic() - begun

    def _list_complete(self) -> list[Source]:
        sources = self._list_folder()
        if sources is None:
            # What comes back may be a different stick, or the same one with a copy that was interrupted.
            self._tracked.clear()
            self._known.clear()
            return []
        now = self._clock()
        complete = [source for source in sources if self._is_complete(Path(source.name), now)]
        listed = {Path(source.name) for source in sources}
        for remembered in (self._tracked, self._known):
            for path in remembered.keys() - listed:
                del remembered[path]
        return complete

    def _is_complete(self, path: Path, now: float) -> bool:
        """Return True if a file is new and complete; track it otherwise, if it is new."""
        status = _status(path)
        if status is None:
            self._tracked.pop(path, None)
            self._known.pop(path, None)
            return False
        size, modified_ns = status.st_size, status.st_mtime_ns
        fingerprint = file_fingerprint(str(path), size, modified_ns)
        if self._known.get(path) == fingerprint:
            return False
        tracked = self._tracked.get(path)
        if tracked is None and self._worklist.result_of_file(fingerprint) is not None:
            self._known[path] = fingerprint
            return False
        if tracked is None or (tracked.size, tracked.modified_ns) != (size, modified_ns):
            self._tracked[path] = _Tracked(size, modified_ns, now)
            return False
        return now - tracked.since >= self.settle * (1 if size else PATIENCE)

    def _list_folder(self) -> list[Source] | None:
        """Return the slice files of the folder, and what cannot be read in it; None if there is no folder.

        Links are not followed: who can write to the folder must not reach other files through it.
        """
        try:
            # An unmounted stick leaves an empty folder or none at all; in neither case is there anything to judge.
            listing = list_slices(self.folder, follow_links=False) if self.folder.is_dir() else None
        except OSError:
            listing = None
        if (listing is not None) != self._present:
            self._present = listing is not None
            self._say(f"{self.folder}: {'the folder is back' if self._present else 'no such folder; waiting for it'}")
        if listing is None:
            return None
        left_out = listing.summary()
        if left_out and left_out != self._left_out:
            self._say(left_out)
        self._left_out = left_out
        self._unread.update(str(entry.path) for entry in listing.unreadable)
        return listed_sources(listing, (self.folder,))

    def _check(self, judged: PreparedEntry) -> _Prepared:
        """Return what is stored of a judgement, if its file is still the one that was judged."""
        path = Path(judged.file)
        tracked = self._tracked[path]
        status = _status(path)
        if status is None:
            return _Prepared(path, b"", None)
        size, modified_ns = status.st_size, status.st_mtime_ns
        fingerprint = file_fingerprint(str(path), size, modified_ns)
        changed = (size, modified_ns) != (tracked.size, tracked.modified_ns)
        if changed or (not judged.readable and self._clock() - tracked.since < PATIENCE * self.settle):
            return _Prepared(path, fingerprint, None)
        return _Prepared(path, fingerprint, replace(judged.entry, fingerprint=fingerprint), not judged.readable)


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a file; None if there is none, or if a link has taken its place since it was listed."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return None if stat.S_ISLNK(status.st_mode) else status


def file_fingerprint(path: str, size: int, modified_ns: int) -> bytes:
    """Return 16 bytes that identify a state of a file: its path, its size in bytes and its modification time in ns."""
    text = f"{size} {modified_ns} {path}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).digest()[:16]
