"""What all requests share: worklist, judging queue, folders, sessions and live events."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge_ct import slices
from edge_ct.bundle import Bundle
from edge_ct.errors import WorklistBusy
from edge_ct.imaging.limits import MAX_BYTES

from ..heatmaps.heatmap import Heat
from ..judging.incidents import MAX_ENDS
from ..judging.judge import Judge
from ..judging.sources import Source
from ..worklist.records import Added, Entry, Row
from ..worklist.retention import DailyRetention
from ..worklist.worklist import Worklist
from .events import Events
from .folders import FolderProgress, FolderReader, Folders
from .judging_queue import JudgingQueue
from .pin import PinGate
from .request_checks import AllowedHosts
from .sessions import Sessions

_TICK_SECONDS = 0.4
_EXPLAIN_SECONDS = 2.0


@dataclass(frozen=True)
class UploadLimits:
    """Limits of an upload.

    Attributes:
        file_bytes: Maximum size of a file in bytes.
        files: Maximum number of files in a request.
        request_bytes: Maximum size of a request in bytes.
    """

    file_bytes: int = MAX_BYTES
    files: int = 64
    request_bytes: int = MAX_BYTES + (1 << 20)


class ServerState(msgspec.Struct, frozen=True):
    """The state that open pages are sent.

    Attributes:
        ready: True if slices are judged.
        version: Version of the worklist.
        waiting: Number of slices in the queue.
        counts: Number of open rows by decision.
        reading: Progress of the folder that is being read.
    """

    ready: bool
    version: int
    waiting: int
    counts: dict[str, int]
    reading: FolderProgress | None


@dataclass
class Services:
    """The services behind the page.

    Attributes:
        hosts: Host names that the server answers to.
        roots: Folders that the page offers to read.
        gate: Checks the PIN; None without a PIN.
        workers: Number of processes that judge.
        language: Language for browsers that ask for none of those supported.
        streams: Maximum number of pages with live events.
        keep_days: Days after which results are deleted; None keeps them.
        delete_unreviewed: Delete old results that nobody has reviewed as well.
        judge: The worker processes; by default a pool is opened here.
    """

    bundle: Bundle
    worklist: Worklist
    hosts: AllowedHosts
    roots: Sequence[Path] = ()
    gate: PinGate | None = None
    workers: int = 2
    language: str = "en"
    limits: UploadLimits = field(default_factory=UploadLimits)
    streams: int = 12
    keep_days: int | None = None
    delete_unreviewed: bool = False
    judge: Judge | None = None

    def __post_init__(self) -> None:
        self.started = time.time()
        self.sessions = Sessions()
        self.events = Events(self.streams)
        self.queue: JudgingQueue[list[Added]] = JudgingQueue(self.bundle, self._store, self.workers, judge=self.judge)
        self.queue.judge.incidents = self.worklist.quarantine(MAX_ENDS)
        self.folders = Folders(self.roots)
        self.reader = FolderReader(self.folders, self._submit_source, lambda progress: self._wake.set())
        say = logging.getLogger("edge_ct.serve").warning
        self.retention = DailyRetention(self.worklist, self.keep_days, self.delete_unreviewed, say)
        self._wake = threading.Event()
        self._explaining = threading.Lock()
        self._closing = False
        self._counted: tuple[int, dict[str, int]] = (-1, {})

    def open(self) -> None:
        """Load the interpreters and start to send events, both in the background."""
        self.queue.open()
        threading.Thread(target=self._watch, name="events", daemon=True).start()

    def state(self) -> ServerState:
        """Return the current state."""
        version = self.worklist.version()
        if version != self._counted[0]:
            self._counted = (version, {str(name): n for name, n in self.worklist.counts("open").items()})
        return ServerState(self.queue.ready, version, self.queue.waiting, self._counted[1], self.reader.state)

    def heat_method(self, row: Row) -> str | None:
        """Return how the heat map of a row is made; None if it has none."""
        if row.decision == "rejected":  # A heat map of an image that the model was not made for would mislead.
            return None
        stored = self.worklist.heat(row.id)
        if stored is not None:
            return stored.method
        can_explain = row.bundle == self.bundle.seal and row.sha256 is not None
        return "occlusion" if can_explain and self.bundle.manifest.tensors.class_map is None else None

    def heat(self, row: Row, png: bytes) -> Heat | None:
        """Return the heat map of a row; a map by occlusion is made when it is first asked for, and stored."""
        if self.heat_method(row) is None:
            return None
        with self._explaining:
            heat = self.worklist.heat(row.id)
            if heat is None:
                heat = self.queue.explain(slices.decode(png, row.source).pixels, _EXPLAIN_SECONDS)
                with suppress(WorklistBusy):  # It is made again when it is next asked for.
                    self.worklist.set_heat(row.id, heat, patience=1.0)
            return heat

    def submit(self, name: str, read: Callable[[], bytes], patience: float = 20.0) -> Future[list[Added]]:
        """Queue a file; the future is done when the rows of its slices are on the disk. See `JudgingQueue.submit`."""
        return self.queue.submit(name, read, patience)

    def end_streams(self) -> None:
        """End what would never end by itself: the streams of events, and the reading of a folder."""
        self._closing = True
        self._wake.set()
        self.reader.stop()
        self.events.close()

    def close(self, timeout: float = 20.0) -> bool:
        """Finish what is queued and close the worklist; return whether all was done in time."""
        self.end_streams()
        self.reader.stop(timeout)
        done = self.queue.close(timeout)
        self.worklist.close()
        return done

    def _store(self, entries: Sequence[Entry]) -> list[Added]:
        return self.worklist.add_all(entries)

    def _submit_source(self, source: Source) -> Future[list[Added]]:
        return self.queue.submit(source.name, lambda: source, patience=60.0)

    def _watch(self) -> None:
        """Send an event when the state changes, whoever changed it (another command, for example); prune once a day."""
        last: ServerState | None = None
        while not self._closing:
            with suppress(Exception):
                self.retention.run_if_due()
            # An error, such as a locked worklist, is reported to each page at its next request.
            with suppress(Exception):
                state = self.state()
                if state != last:
                    self.events.send("state", state)
                    last = state
            self._wake.wait(_TICK_SECONDS)
            self._wake.clear()
            time.sleep(0.1)
