"""Classification behind the page: a bounded queue, and a few threads with an interpreter each."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier, Judgement
from edge_ct.errors import EdgeCTError

from ..heatmaps.heatmap import Heat

Kept = TypeVar("Kept")
CAPACITY = 64


class Busy(EdgeCTError):
    """The queue is full, or closing; nothing was taken."""


@dataclass
class _Job(Generic[Kept]):
    """One slice to judge. read: its bytes, called by the worker, so that what waits is a file and not memory."""

    name: str
    read: Callable[[], bytes]
    future: Future[Kept] = field(default_factory=Future)


class Workers(Generic[Kept]):
    """Judge, then keep: a future is done when what `keep` returned is durable.

    keep: called by a worker with a judgement; returns what the worklist holds of it.
    """

    def __init__(self, bundle: Bundle, keep: Callable[[Judgement], Kept], count: int, capacity: int = CAPACITY) -> None:
        self._bundle, self._keep, self._count = bundle, keep, count
        self._queue: queue.Queue[_Job[Kept] | None] = queue.Queue(capacity)
        self._threads: list[threading.Thread] = []
        self._opened = threading.Event()
        self._closing = False
        self._testing = threading.Lock()
        self._tester: Classifier | None = None
        self.error: Exception | None = None
        self.self_test_seconds = 0.0

    @property
    def ready(self) -> bool:
        """Interpreters loaded, golden slices as expected."""
        return self._opened.is_set() and self.error is None

    @property
    def waiting(self) -> int:
        """Slices in the queue."""
        return self._queue.qsize()

    def open(self) -> None:
        """Load the interpreters and run the golden slices, in the background; `wait` tells how that went."""
        threading.Thread(target=self._open, name="opening", daemon=True).start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the interpreters are there. Raises what went wrong; False on a timeout."""
        done = self._opened.wait(timeout)
        if self.error:
            raise self.error
        return done

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until nothing is being loaded: meanwhile standard error is turned away, for whoever has to speak too."""
        self._opened.wait(timeout)

    def submit(self, name: str, read: Callable[[], bytes], patience: float = 0.0) -> Future[Kept]:
        """Queue one slice, waiting up to `patience` seconds for a place. Raises `Busy`."""
        job: _Job[Kept] = _Job(name, read)
        try:
            if self._closing:
                raise Busy("closing")
            self._queue.put(job, timeout=patience) if patience else self._queue.put_nowait(job)
        except queue.Full as error:
            raise Busy(f"{self._queue.maxsize} slices are waiting already") from error
        return job.future

    def check(self) -> float:
        """Run the golden slices; the seconds that took. Raises `ModelRejected` where they come out wrong here."""
        with self._testing:
            # An interpreter of its own: those of the workers are at work.
            self._tester = self._tester or Classifier(self._bundle)
            start = time.perf_counter()
            self._tester.check_golden()
            return time.perf_counter() - start

    def explain(self, pixels: np.ndarray, seconds: float) -> Heat:
        """The evidence of a slice by occlusion, for a graph without a class map. pixels: uint8 [h, w]."""
        from ..heatmaps.evidence import occlusion

        with self._testing:
            self._tester = self._tester or Classifier(self._bundle)
            return occlusion(self._tester, pixels, seconds)

    def close(self, timeout: float) -> bool:
        """Take nothing more, finish what is queued; whether that was done within `timeout` seconds."""
        self._closing = True
        end = time.monotonic() + timeout
        self.settle(timeout)
        for _ in self._threads:
            try:
                self._queue.put(None, timeout=max(0.0, end - time.monotonic()))
            except queue.Full:
                return False
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _open(self) -> None:
        # One after the other: loading an interpreter turns standard error away for a moment, which is the process's.
        try:
            classifiers = [Classifier(self._bundle) for _ in range(self._count)]
            start = time.perf_counter()
            classifiers[0].check_golden()
            self.self_test_seconds = time.perf_counter() - start
        except Exception as error:
            self.error = error
        else:
            for number, classifier in enumerate(classifiers):
                thread = threading.Thread(target=self._work, args=(classifier,), name=f"judge-{number}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._opened.set()

    def _work(self, classifier: Classifier) -> None:
        while (job := self._queue.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                job.future.set_result(self._keep(classifier.judge(job.read(), job.name)))
            except Exception as error:
                job.future.set_exception(error)
