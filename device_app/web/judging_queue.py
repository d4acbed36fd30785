"""Judging behind the page: a bounded queue, and a few threads with an interpreter each."""

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

Stored = TypeVar("Stored")
CAPACITY = 64


class Busy(EdgeCTError):
    """The queue is full or closing; nothing was queued."""


@dataclass
class _Job(Generic[Stored]):
    """One slice to judge.

    `read` returns its bytes and is called by the thread that judges it, so that a waiting slice takes no memory.
    """

    name: str
    read: Callable[[], bytes]
    future: Future[Stored] = field(default_factory=Future)


class JudgingQueue(Generic[Stored]):
    """Judges slices and stores their results; a future is done once its result is durable."""

    def __init__(
        self, bundle: Bundle, store: Callable[[Judgement], Stored], count: int, capacity: int = CAPACITY
    ) -> None:
        """Prepare the queue; `open` starts it.

        Args:
            bundle: The bundle that judges.
            store: Stores a judgement durably; called on the judging thread, and its value is that of the future.
            count: Number of threads.
            capacity: Maximum number of waiting slices.
        """
        self._bundle, self._store, self._count = bundle, store, count
        self._queue: queue.Queue[_Job[Stored] | None] = queue.Queue(capacity)
        self._threads: list[threading.Thread] = []
        self._opened = threading.Event()
        self._closing = False
        self._testing = threading.Lock()
        self._tester: Classifier | None = None
        self.error: Exception | None = None
        self.self_test_seconds = 0.0

    @property
    def ready(self) -> bool:
        """True if the interpreters are loaded and the golden slices gave the expected results."""
        return self._opened.is_set() and self.error is None

    @property
    def waiting(self) -> int:
        """Number of slices in the queue."""
        return self._queue.qsize()

    def open(self) -> None:
        """Load the interpreters and run the golden slices in the background; `wait` reports the outcome."""
        threading.Thread(target=self._open, name="opening", daemon=True).start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the interpreters are loaded; return False on a timeout.

        Raises:
            Exception: Whatever loading the model raised.
        """
        done = self._opened.wait(timeout)
        if self.error:
            raise self.error
        return done

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until no interpreter is being loaded, which redirects the standard error of the whole process."""
        self._opened.wait(timeout)

    def submit(self, name: str, read: Callable[[], bytes], patience: float = 0.0) -> Future[Stored]:
        """Queue one slice.

        Args:
            name: Name of the slice.
            read: Returns its bytes; called when it is judged.
            patience: Seconds to wait for a place in the queue.

        Raises:
            Busy: The queue is full or closing.
        """
        job: _Job[Stored] = _Job(name, read)
        try:
            if self._closing:
                raise Busy("the server is stopping; nothing was stored")
            self._queue.put(job, timeout=patience) if patience else self._queue.put_nowait(job)
        except queue.Full as error:
            raise Busy(f"{self._queue.maxsize} slices are waiting already; send this one later") from error
        return job.future

    def check(self) -> float:
        """Run the golden slices; return the time it took in seconds.

        Raises:
            ModelRejected: A result differs from the expected one.
        """
        with self._testing:
            # The interpreters of the judging threads are in use.
            self._tester = self._tester or Classifier(self._bundle)
            start = time.perf_counter()
            self._tester.check_golden()
            return time.perf_counter() - start

    def explain(self, pixels: np.ndarray, seconds: float) -> Heat:
        """Return the heat map of a slice by occlusion, for a network without a class map.

        Args:
            pixels: uint8 [h, w].
            seconds: Time limit in seconds.
        """
        from ..heatmaps.evidence import occlusion_heat

        with self._testing:
            self._tester = self._tester or Classifier(self._bundle)
            return occlusion_heat(self._tester, pixels, seconds)

    def close(self, timeout: float) -> bool:
        """Accept nothing more and finish what is queued; return whether that took at most `timeout` seconds."""
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
        # One after the other: loading a model redirects the standard error of the whole process.
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
                job.future.set_result(self._store(classifier.judge(job.read(), job.name)))
            except Exception as error:
                job.future.set_exception(error)
