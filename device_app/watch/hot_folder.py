"""A hot folder: files are judged once they are complete, and remembered across restarts; nothing in it is touched.

It asks the folder every few seconds, because USB sticks and network shares send no events. A file is complete when its
size and time of change have stayed the same for `settle` seconds, by this process's own clock: those of sticks and
shares are often wrong. One that cannot be read may be a copy that stalled, so it is asked again before it is a rejected
row. The folder may vanish and come back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_ct import slices
from edge_ct.classifier import Classifier
from edge_ct.errors import StorageFull

from ..judging.judge import SliceJudgement
from ..judging.pool import Judges, judge_each
from ..judging.sources import Source
from ..worklist.records import Added, Entry
from ..worklist.worklist import Worklist, fingerprint

SETTLE = 3.0
INTERVAL = 2.0
# How much longer an empty or unreadable file is given.
PATIENCE = 5
_FULL_PAUSE = 30.0
_DAY = 86400.0


@dataclass(eq=False)
class _Tracked:
    """A file that is not judged yet: as it was last seen, and since when it has been so."""

    size: int
    modified_ns: int
    since: float


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A judgement ready to be stored; entry: None where its file changed meanwhile, or may yet be completed.

    seen: the file's fingerprint.
    """

    path: Path
    seen: bytes
    entry: Entry | None


class Watch:
    """One folder, one worklist. `scan` looks once; `run` goes on until told to stop."""

    def __init__(
        self,
        folder: Path,
        worklist: Worklist,
        judges: Judges,
        settle: float = SETTLE,
        say: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """say: takes lines for people. clock: seconds."""
        self.folder, self.settle = folder, settle
        self._worklist, self._judges = worklist, judges
        self._say, self._clock = say, clock
        self._tracked: dict[Path, _Tracked] = {}
        self._known: dict[Path, bytes] = {}
        self._there = True

    @property
    def waiting(self) -> int:
        """How many files are there and not judged yet."""
        return len(self._tracked)

    def scan(self) -> Iterator[Added]:
        """Look once, and judge what is complete. A row is on the disk before it is yielded. Raises `StorageFull`."""
        ready = self._complete()
        if not ready:
            return
        for batch in judge_each(self._judges, (Source(str(path)) for path in ready), self._prepare):
            # Of an object of several frames all are stored, or none yet.
            held = {own.path for own in batch if own.entry is None}
            prepared = [own for own in batch if own.path not in held]
            entries = [own.entry for own in prepared if own.entry is not None]
            if not entries:
                continue
            for own, added in zip(prepared, self._worklist.add_all(entries), strict=True):
                self._tracked.pop(own.path, None)
                self._known[own.path] = own.seen
                yield added

    def run(
        self, stop: threading.Event, interval: float = INTERVAL, keep_days: int | None = None, once: bool = False
    ) -> Iterator[Added]:
        """Scan every `interval` seconds until `stop` is set or, with `once`, until nothing waits.

        keep_days: delete results that are older, once a day.
        """
        pruned = -_DAY
        while not stop.is_set():
            pause = interval
            try:
                if keep_days and self._clock() - pruned >= _DAY:
                    self._worklist.prune(keep_days)
                    pruned = self._clock()
                for added in self.scan():
                    yield added
                    if stop.is_set():
                        return
            except StorageFull as error:
                if once:
                    raise
                # Nothing is acknowledged, so nothing is lost: the files are judged when there is room.
                self._say(f"{error}")
                pause = max(interval, _FULL_PAUSE)
            if once and not self._tracked:
                return
            stop.wait(pause)

    def _complete(self) -> list[Path]:
        """The files that have been as they are for long enough, in order of their paths."""
        found = self._look()
        if found is None:
            # What comes back may be another stick, or the same one half written.
            self._tracked.clear()
            self._known.clear()
            return []
        now, ready, present = self._clock(), [], set()
        for path in found:
            try:
                status = path.stat()
            except OSError:
                continue
            present.add(path)
            seen = fingerprint(str(path), status.st_size, status.st_mtime_ns)
            if self._known.get(path) == seen:
                continue
            tracked = self._tracked.get(path)
            if tracked is None and self._worklist.was_seen(seen) is not None:
                self._known[path] = seen
                continue
            if tracked is None or (tracked.size, tracked.modified_ns) != (status.st_size, status.st_mtime_ns):
                self._tracked[path] = _Tracked(status.st_size, status.st_mtime_ns, now)
                continue
            quiet = now - tracked.since
            if quiet >= self.settle * (1 if status.st_size else PATIENCE):
                ready.append(path)
        for own in (self._tracked, self._known):
            for path in own.keys() - present:
                del own[path]
        return ready

    def _look(self) -> list[Path] | None:
        try:
            # An unmounted stick leaves no folder, or an empty one; both are nothing to do.
            found = slices.find(self.folder) if self.folder.is_dir() else None
        except OSError:
            found = None
        if (found is not None) != self._there:
            self._there = found is not None
            self._say(f"{self.folder}: {'is back' if self._there else 'is gone; waiting for it'}")
        return found

    def _prepare(self, found: SliceJudgement, classifier: Classifier) -> _Prepared:
        """On a worker: what is stored."""
        path = Path(found.file)
        tracked = self._tracked[path]
        try:
            status = path.stat()
        except OSError:
            return _Prepared(path, b"", None)
        seen = fingerprint(str(path), status.st_size, status.st_mtime_ns)
        if (status.st_size, status.st_mtime_ns) != (tracked.size, tracked.modified_ns):
            return _Prepared(path, seen, None)
        if not found.readable and self._clock() - tracked.since < PATIENCE * self.settle:
            return _Prepared(path, seen, None)
        entry = self._worklist.entry(
            found, classifier.bundle, origin="watch", patient=found.patient, key=found.key, seen=seen
        )
        return _Prepared(path, seen, entry)
