"""What all pages share: one object, made at the start and held by the application."""

from __future__ import annotations

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
from edge_ct.classifier import Judgement
from edge_ct.imaging.limits import MAX_BYTES

from ..heatmaps.heatmap import Heat
from ..worklist.records import Added, Row
from ..worklist.worklist import Worklist
from .events import Events
from .folders import Folders, Reader, Reading
from .judging_queue import Workers
from .pin import Gate
from .request_checks import Hosts
from .sessions import Sessions

ORIGIN = "serve"
_TICK_SECONDS = 0.4
_EXPLAIN_SECONDS = 2.0
_DAY_SECONDS = 86400


@dataclass(frozen=True)
class Limits:
    """Of what may be sent at once. file_bytes: a slice file; request_bytes: all files of a request, a form included."""

    file_bytes: int = MAX_BYTES
    files: int = 64
    request_bytes: int = MAX_BYTES + (1 << 20)


class State(msgspec.Struct, frozen=True):
    """How things stand, as every open page is told. version: of the worklist; counts: its open rows by decision."""

    ready: bool
    version: int
    waiting: int
    counts: dict[str, int]
    reading: Reading | None


@dataclass
class Desk:
    """worklist, workers, and who is listening."""

    bundle: Bundle
    worklist: Worklist
    hosts: Hosts
    roots: Sequence[Path] = ()
    gate: Gate | None = None
    workers_count: int = 2
    language: str = "en"
    limits: Limits = field(default_factory=Limits)
    streams: int = 12
    keep_days: int | None = None

    def __post_init__(self) -> None:
        self.started = time.time()
        self.sessions = Sessions()
        self.events = Events(self.streams)
        self.workers: Workers[Added] = Workers(self.bundle, self._keep, self.workers_count)
        self.folders = Folders(self.roots)
        self.reader = Reader(self.folders, self._submit_path, lambda reading: self._stir.set())
        self._stir = threading.Event()
        self._explaining = threading.Lock()
        self._closing = False
        self._counted: tuple[int, dict[str, int]] = (-1, {})

    def open(self) -> None:
        """Load the interpreters and begin to tell, both in the background."""
        self.workers.open()
        threading.Thread(target=self._tell, name="teller", daemon=True).start()

    def state(self) -> State:
        """How things stand now."""
        version = self.worklist.version()
        if version != self._counted[0]:
            self._counted = (version, {str(name): n for name, n in self.worklist.counts("open").items()})
        return State(self.workers.ready, version, self.workers.waiting, self._counted[1], self.reader.state)

    def heat_method(self, row: Row) -> str | None:
        """By what means a row is explained: None where there is nothing to show."""
        if row.decision == "rejected":  # a map of what the model was not made for would mislead
            return None
        kept = self.worklist.heat(row.id)
        if kept is not None:
            return kept.method
        mine = row.bundle == self.bundle.seal and row.sha256 is not None
        return "occlusion" if mine and self.bundle.manifest.tensors.class_map is None else None

    def heat(self, row: Row, png: bytes) -> Heat | None:
        """The heat map of a row; by occlusion, made when first looked at and kept, where the graph gives none."""
        if self.heat_method(row) is None:
            return None
        with self._explaining:
            kept = self.worklist.heat(row.id)
            if kept is None:
                kept = self.workers.explain(slices.decode(png, row.source).pixels, _EXPLAIN_SECONDS)
                self.worklist.set_heat(row.id, kept)
            return kept

    def submit(self, name: str, read: Callable[[], bytes], patience: float = 20.0) -> Future[Added]:
        """Queue a slice; the future is done when its row is on the disk. Raises `Busy`."""
        return self.workers.submit(name, read, patience)

    def quiet_down(self) -> None:
        """End what never ends by itself: streams, the reading of a folder."""
        self._closing = True
        self._stir.set()
        self.reader.stop()
        self.events.close()

    def close(self, timeout: float = 20.0) -> bool:
        """Finish what is queued and close the worklist; whether all was done in time."""
        self.quiet_down()
        self.reader.stop(timeout)
        done = self.workers.close(timeout)
        self.worklist.close()
        return done

    def _keep(self, judgement: Judgement) -> Added:
        return self.worklist.add(judgement, self.bundle, origin=ORIGIN)

    def _submit_path(self, path: Path, name: str) -> Future[Added]:
        return self.workers.submit(name, lambda: slices.read_bytes(path, name), patience=60.0)

    def _tell(self) -> None:
        """Tell of changes, whoever made them (a watched folder, another command), at most a few times a second."""
        last: State | None = None
        pruned = -float(_DAY_SECONDS)
        while not self._closing:
            if self.keep_days and time.monotonic() - pruned > _DAY_SECONDS:
                pruned = time.monotonic()
                with suppress(Exception):
                    self.worklist.prune(self.keep_days)
            # A long lock, say: the pages hear of it by their own requests.
            with suppress(Exception):
                state = self.state()
                if state != last:
                    self.events.tell("state", state)
                    last = state
            self._stir.wait(_TICK_SECONDS)
            self._stir.clear()
            time.sleep(0.1)
