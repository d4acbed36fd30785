"""Judging on several workers: processes that may end over a file, and whose parent does not.

    with JudgingPool(bundle, workers=2) as pool:
        for batch in pool.judge_each(sources, prepare):
            ...

The parent reads no image: a worker opens, decodes and judges a source and sends back what `prepare` makes of it. If a
worker ends over a source, the source is a rejected slice and another worker takes its place. A source over which two
workers have ended is not given to a third; `Incidents` remembers it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import cv2

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.errors import EdgeCTError
from edge_ct.system.host import processors

from . import fork_server, worker
from .incidents import MAX_ENDS, Content, Incidents, RecentIncidents
from .judge import SECONDS, InProcess, Job, Prepare
from .pipeline import PATIENCE, JudgeSource, Pipeline
from .sources import Source

if TYPE_CHECKING:
    import socket

LOG = logging.getLogger("edge_ct.judging")
T = TypeVar("T")


class WorkerEnded(EdgeCTError):
    """A worker process ended over a job. `late`: it was ended because it took too long."""

    def __init__(self, reason: str, late: bool) -> None:
        super().__init__(reason)
        self.late = late


def open_judge(
    bundle: Bundle, workers: int | None = None, threads: int = 1, engine: EngineName = DEFAULT_ENGINE
) -> InProcess | JudgingPool:
    """Return a pool of a bundle, or a single classifier on systems that cannot fork workers.

    Args:
        bundle: The bundle.
        workers: Number of worker processes; by default one for each processor, or fewer if each has several threads.
        threads: Threads of each worker's interpreter.
        engine: The engine of each worker.

    Raises:
        ModelRejected: The engine computes other outputs than LiteRT.
        MissingExtra: The engine is not installed.
    """
    if not fork_server.available():
        return InProcess(Classifier(bundle, threads, engine))
    pool = JudgingPool(bundle, workers or max(1, processors() // threads), threads, engine=engine)
    if engine != DEFAULT_ENGINE:
        try:
            pool.wait_until_loaded()
        except BaseException:
            pool.close()
            raise
    return pool


@dataclass(eq=False)
class Worker:
    """A worker process and the connection to it."""

    pid: int
    channel: socket.socket


class JudgingPool:
    """Worker processes of one bundle, shared by any number of threads.

    Attributes:
        bundle: The bundle that the workers have loaded.
        workers: Number of workers.
        ends: Number of workers that have ended over a job.
        broken: True once no worker can be replaced.
    """

    def __init__(
        self,
        bundle: Bundle,
        workers: int,
        threads: int = 1,
        incidents: Incidents | None = None,
        engine: EngineName = DEFAULT_ENGINE,
    ) -> None:
        """Begin to load the bundle in a process of its own; `wait_until_loaded` waits for it.

        Create a pool before the first thread is started and before sockets and databases are opened.

        Args:
            bundle: The bundle.
            workers: Number of worker processes.
            threads: Threads of each worker's interpreter.
            incidents: Remembers files over which workers ended; by default as long as the pool exists.
            engine: The engine of each worker.
        """
        self.bundle, self.workers, self._engine = bundle, workers, engine
        self.incidents: Incidents = incidents or RecentIncidents()
        self.ends, self.broken = 0, False
        # Threads of OpenCV do not survive a fork, and it would wait for them: the workers do without.
        opencv_threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        self._server = fork_server.ForkServer(worker.loader(bundle, threads, engine), bundle.source)
        cv2.setNumThreads(opencv_threads)
        self._loaded, self._loading = False, threading.Lock()
        self._count = threading.Semaphore(workers)
        self._free: deque[Worker] = deque()
        self._closed = False

    def __enter__(self) -> JudgingPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers that are free; others end with their job."""
        self._closed = True
        self._end_free_workers()
        self._server.close()

    def wait_until_loaded(self) -> None:
        """Wait until the bundle is loaded.

        Raises:
            ModelRejected: The bundle cannot be loaded, or not by the engine.
            MissingExtra: The engine is not installed.
        """
        with self._loading:
            if not self._loaded:
                self._server.wait_until_loaded()
                if self._engine != DEFAULT_ENGINE:
                    # Each worker loads the engine itself; the first one shows whether it can be used.
                    self._give_back(self._start())
                self._loaded = True

    def judge(self, source: Source, prepare: Prepare[T], seconds: float = SECONDS) -> list[T]:
        """Judge a source and return what `prepare` makes of each of its judgements, on a worker.

        Args:
            source: What to judge.
            prepare: A picklable function; called with each judgement and the classifier.
            seconds: Processor time in seconds for one slice.
        """
        values: list[T] = []
        reason = self.run_contained(JudgeSource(source, prepare), source, seconds, values)
        if reason is None:
            return values
        return self.run(JudgeSource(Source(source.name, reason=reason), prepare), seconds)

    def run_contained(self, job: Job[T], source: Source, seconds: float, values: list[T]) -> str | None:
        """Run a job over a foreign file, again if a worker ended over it for the first time.

        Args:
            job: The job.
            source: The file that the job decodes.
            seconds: Processor time in seconds for one slice.
            values: Takes the values that the job yields.

        Returns:
            None, or in plain words why the file could not be judged.
        """
        content = Content(source)
        reason = self.quarantined(content)
        while reason is None:
            values.clear()
            try:
                values.extend(self.run(job, seconds))
                return None
            except WorkerEnded as end:
                reason = self.record_end(content, source.name, end)
        values.clear()
        return reason

    def quarantined(self, content: Content) -> str | None:
        """Return why a file is not judged any more; None if it may be judged."""
        return self.incidents.quarantined(content.size, content.digest) if content.size else None

    def record_end(self, content: Content, name: str, end: WorkerEnded) -> str | None:
        """Remember that a worker ended over a file. Returns why the file must not be tried again; None if it may be."""
        ends = self.incidents.record(content.digest(), content.size, name, str(end))
        LOG.error("a worker ended over %r (%d of %d): %s", name, ends, MAX_ENDS, end)
        return str(end) if end.late or ends >= MAX_ENDS else None

    def judge_each(self, sources: Iterable[Source], prepare: Prepare[T], seconds: float = SECONDS) -> Iterator[list[T]]:
        """See `Judge`. A reader that closes the iterator ends the workers that still judge."""
        self.wait_until_loaded()
        yield from Pipeline(self, prepare, seconds).judge(sources)

    def run(self, job: Job[T], seconds: float = SECONDS) -> list[T]:
        """Run a job on a free worker and return what it yields.

        Raises:
            WorkerEnded: The worker ended; another one has taken its place.
        """
        self.wait_until_loaded()
        process = self.take_worker()
        assert process is not None
        try:
            values = self._run_on(process, job, seconds)
        except _JobFailed as failure:
            self.return_worker(process)
            raise failure.error from None
        except BaseException:
            self.close_worker(process)
            raise
        self.return_worker(process)
        return values

    def take_worker(self, wait: bool = True) -> Worker | None:
        """Take a worker; it must be returned, closed or collected.

        Args:
            wait: Whether to wait for a worker if all are taken.

        Returns:
            The worker; None if all are taken and `wait` is false.

        Raises:
            EdgeCTError: No worker can be started.
        """
        if not self._count.acquire(blocking=wait):
            return None
        try:
            with contextlib.suppress(IndexError):
                return self._free.pop()
            return self._start()
        except BaseException:
            self._count.release()
            raise

    def return_worker(self, process: Worker) -> None:
        """Take back a worker that has finished its jobs."""
        self._give_back(process)
        self._count.release()

    def close_worker(self, process: Worker) -> None:
        """Have a worker end with its job."""
        process.channel.close()
        self._count.release()

    def collect_worker(self, process: Worker, late: bool) -> WorkerEnded:
        """Collect a worker that has ended over a job. Returns how; `late` says that it was ended."""
        self._count.release()
        return self._ended(process, late)

    def _give_back(self, process: Worker) -> None:
        # In this order: the pool may be closed at any moment, and then either side ends the worker.
        self._free.append(process)
        if self._closed:
            self._end_free_workers()

    def _end_free_workers(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._free.pop().channel.close()

    def _start(self) -> Worker:
        try:
            process = Worker(*self._server.fork())
        except EdgeCTError:
            self.broken = True
            raise
        process.channel.settimeout(PATIENCE)
        answer = None
        with contextlib.suppress(TimeoutError):
            answer = worker.receive(process.channel)
        if answer is not None and answer[0] == worker.DONE:
            return process
        process.channel.close()
        self.broken = True
        if answer is not None:  # An engine that the worker cannot use.
            raise answer[1]
        raise EdgeCTError("a worker process ends as soon as it starts; restart the command")

    def _run_on(self, process: Worker, job: Job[T], seconds: float) -> list[T]:
        values: list[T] = []
        process.channel.settimeout(PATIENCE + seconds)
        with contextlib.suppress(ConnectionError):  # The worker has ended: the answer below is its end.
            worker.send(process.channel, (job, seconds))
        while True:
            try:
                answer = worker.receive(process.channel)
            except TimeoutError:
                os.kill(process.pid, signal.SIGKILL)
                raise self._ended(process, late=True) from None
            if answer is None:
                raise self._ended(process, late=False)
            kind, value = answer
            if kind == worker.VALUE:
                values.append(value)
            elif kind == worker.DONE:
                values += value
                return values
            else:
                raise _JobFailed(value)

    def _ended(self, process: Worker, late: bool) -> WorkerEnded:
        """Collect a worker that has ended; another one starts with the next job."""
        process.channel.close()
        status = self._server.status(process.pid)
        self.ends += 1
        if late or status == -signal.SIGPROF:
            return WorkerEnded("reading it takes longer than an image may take", late=True)
        if status == worker.OUT_OF_MEMORY:
            return WorkerEnded("reading it takes more memory than an image may take", late=False)
        if status == -signal.SIGKILL:
            return WorkerEnded("reading it takes more memory than this device has", late=False)
        return WorkerEnded("damaged: its decoder ended", late=False)


class _JobFailed(Exception):
    """A job raised `error` on its worker, which goes on."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
