"""Judging behind the page: a bounded queue in front of the worker processes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier
from edge_ct.errors import EdgeCTError

from ..heatmaps.heatmap import Heat
from ..judging.entries import PrepareEntry
from ..judging.judge import SECONDS, Judge
from ..judging.pool import open_judge
from ..judging.sources import Source
from ..worklist.records import Entry

Stored = TypeVar("Stored")
CAPACITY = 64
ORIGIN = "serve"
_GOLDEN_SECONDS = 60.0


class Busy(EdgeCTError):
    """The queue is full or closing; nothing was queued."""


@dataclass(frozen=True)
class Explain:
    """The job of measuring the evidence of a slice by occlusion. pixels: uint8 [h, w]. seconds: at most."""

    pixels: np.ndarray
    seconds: float

    def __call__(self, classifier: Classifier) -> Iterator[Heat]:
        from ..heatmaps.evidence import occlusion_heat

        yield occlusion_heat(classifier, self.pixels, self.seconds)


def check_golden(classifier: Classifier) -> Iterator[float]:
    """The job of running the golden slices; yields the seconds that took. Raises `ModelRejected`."""
    start = time.perf_counter()
    classifier.check_golden()
    yield time.perf_counter() - start


@dataclass
class _Upload(Generic[Stored]):
    """One file to judge. read: returns its content or its source; called late, so that what waits is not in memory."""

    name: str
    read: Callable[[], bytes | Source]
    future: Future[Stored] = field(default_factory=Future)


class JudgingQueue(Generic[Stored]):
    """Judges slices and stores their results; a future is done once its result is durable."""

    def __init__(
        self,
        bundle: Bundle,
        store: Callable[[Sequence[Entry]], Stored],
        count: int,
        capacity: int = CAPACITY,
        judge: Judge | None = None,
    ) -> None:
        """Begin to load the bundle; create this before the first thread is started.

        Args:
            bundle: The bundle.
            store: Stores the slices of one file durably; called in this process, and its value is that of the future.
            count: Number of slices judged at once.
            capacity: Number of slices that may wait.
            judge: The workers; by default a pool of `count` processes.
        """
        self._store, self._count = store, count
        self.judge = judge or open_judge(bundle, count)
        self._queue: queue.Queue[_Upload[Stored] | None] = queue.Queue(capacity)
        self._threads: list[threading.Thread] = []
        self._opened = threading.Event()
        self._closing = False
        self.error: Exception | None = None
        self.self_test_seconds = 0.0

    @property
    def ready(self) -> bool:
        """True if the bundle is loaded, its golden slices are as expected, and workers can be replaced."""
        return self._opened.is_set() and self.error is None and not self.judge.broken

    @property
    def waiting(self) -> int:
        """Number of slices in the queue."""
        return self._queue.qsize()

    def open(self) -> None:
        """Run the golden slices in the background; `wait` tells how that went."""
        threading.Thread(target=self._open, name="opening", daemon=True).start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until slices can be judged. Raises what went wrong; False on a timeout."""
        done = self._opened.wait(timeout)
        if self.error:
            raise self.error
        return done

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until the bundle is loaded or has failed to load."""
        self._opened.wait(timeout)

    def submit(self, name: str, read: Callable[[], bytes | Source], patience: float = 0.0) -> Future[Stored]:
        """Queue one file, waiting up to `patience` seconds for a place.

        Args:
            name: The name under which results are shown.
            read: Returns the content of the file, or the source under that name.
            patience: Seconds to wait for a place.

        Raises:
            Busy: There is no place.
        """
        upload: _Upload[Stored] = _Upload(name, read)
        try:
            if self._closing:
                raise Busy("the server is stopping; nothing was stored")
            self._queue.put(upload, timeout=patience) if patience else self._queue.put_nowait(upload)
        except queue.Full as error:
            raise Busy(f"{self._queue.maxsize} slices are waiting already; send this one later") from error
        return upload.future

    def check(self) -> float:
        """Run the golden slices; returns the seconds that took. Raises `ModelRejected` if they come out wrong."""
        return self.judge.run(check_golden, _GOLDEN_SECONDS)[0]

    def explain(self, pixels: np.ndarray, seconds: float) -> Heat:
        """Return the evidence of a slice by occlusion, for a graph without class map. pixels: uint8 [h, w]."""
        return self.judge.run(Explain(pixels, seconds), SECONDS + seconds)[0]

    def close(self, timeout: float) -> bool:
        """Take nothing more and finish what is queued. Returns whether that was done within `timeout` seconds."""
        self._closing = True
        end = time.monotonic() + timeout
        self.settle(timeout)
        with suppress(queue.Full):
            for _ in self._threads:
                self._queue.put(None, timeout=max(0.0, end - time.monotonic()))
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self.judge.close()
        return not any(thread.is_alive() for thread in self._threads)

    def _open(self) -> None:
        try:
            self.self_test_seconds = self.check()
        except Exception as error:
            self.error = error
        else:
            # These threads wait for the worker processes.
            for number in range(self._count):
                thread = threading.Thread(target=self._work, name=f"judge-{number}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._opened.set()

    def _work(self) -> None:
        while (upload := self._queue.get()) is not None:
            if not upload.future.set_running_or_notify_cancel():
                continue
            try:
                upload.future.set_result(self._store(self._judge(upload.name, upload.read())))
            except Exception as error:
                upload.future.set_exception(error)

    def _judge(self, name: str, data: bytes | Source) -> list[Entry]:
        """Judge a file as every command does; return a row for each of its slices."""
        source = data if isinstance(data, Source) else Source(name, data)
        return [prepared.entry for prepared in self.judge.judge(source, PrepareEntry(ORIGIN))]
