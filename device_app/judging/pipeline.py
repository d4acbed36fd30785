"""Judging many sources on the workers of a pool, in order, with a single thread.

To wake a process that sleeps takes up to 0.2 ms on a virtual machine, and a small network judges a slice in 2 ms. So
workers and parent sleep less often: the next sources wait in a worker's connection while it judges one, and the parent
collects several answers at a time. A worker answers in the order of its sources, so the source over which it ended is
the first one without an answer; those behind it go to other workers.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING, Generic, TypeVar

from edge_ct.classifier import Classifier

from . import worker
from .incidents import Content
from .judge import SliceJudgement, judge_source
from .sources import Source

if TYPE_CHECKING:
    from .pool import JudgingPool, Worker

# Sources in flight for each worker: enough that none waits for a slow neighbour, few enough that memory stays flat.
_AHEAD = 4
# Seconds for one slice by the clock, if a worker waits and uses no processor time.
PATIENCE = 60.0
# Seconds below which a source is quick. A worker that judges quick sources has several of them. Others are given one at
# a time, so that none waits behind a slow one while another worker is free.
_QUICK = 0.05
# Seconds for which the parent lets answers to quick sources gather.
_GATHERING = 0.004
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class JudgeSource(Generic[T_co]):
    """The job of judging one source."""

    source: Source
    prepare: Callable[[SliceJudgement, Classifier], T_co]

    def __call__(self, classifier: Classifier) -> Iterator[T_co]:
        return (self.prepare(judgement, classifier) for judgement in judge_source(classifier, self.source))


@dataclass(eq=False)
class _Item(Generic[T]):
    """A source on its way, and the values that it gave."""

    source: Source
    values: list[T] = field(default_factory=list)
    error: Exception | None = None
    finished: bool = False


@dataclass(eq=False)
class _Lane(Generic[T]):
    """A worker with its items, the first of which it judges.

    Attributes:
        since: When the worker began with the first item, or gave its last value.
        most: Number of items that it may have.
    """

    worker: Worker
    items: deque[_Item[T]] = field(default_factory=deque)
    since: float = 0.0
    most: int = 1


class Pipeline(Generic[T]):
    """Judges sources on workers of a pool, for one reader."""

    def __init__(self, pool: JudgingPool, prepare: Callable[[SliceJudgement, Classifier], T], seconds: float) -> None:
        """Take no worker yet.

        Args:
            pool: The pool.
            prepare: A picklable function; called on the worker with each judgement and its classifier.
            seconds: Processor time in seconds for one slice.
        """
        self._pool, self._prepare, self._seconds = pool, prepare, seconds
        self._lanes: list[_Lane[T]] = []
        self._unsent: deque[_Item[T]] = deque()
        self._selector = selectors.DefaultSelector()

    def judge(self, sources: Iterable[Source]) -> Iterator[list[T]]:
        """Yield what `prepare` returned, in input order, in lists of what is ready; see `Judge.judge_each`."""
        # In input order, from the first whose values have not been yielded.
        items: deque[_Item[T]] = deque()
        iterator = iter(sources)
        try:
            while True:
                ready: list[T] = []
                while items and items[0].finished:
                    item = items.popleft()
                    if item.error is not None:
                        raise item.error
                    ready += item.values
                while len(items) < _AHEAD * self._pool.workers and (source := next(iterator, None)) is not None:
                    items.append(_Item(source))
                    self._unsent.append(items[-1])
                self._send()
                if ready:
                    yield ready
                elif items:
                    self._receive()
                else:
                    return
        finally:
            self._release()

    def _send(self) -> None:
        """Give each worker its next items."""
        while self._unsent:
            lane = min(self._lanes, key=lambda lane: len(lane.items), default=None)
            if (lane is None or lane.items) and len(self._lanes) < self._pool.workers:
                process = self._pool.take_worker(wait=lane is None)
                if process is not None:
                    lane = _Lane(process)
                    self._lanes.append(lane)
                    self._selector.register(process.channel, selectors.EVENT_READ, lane)
            assert lane is not None
            item = self._unsent[0]
            # Content that is sent along might not fit into the connection of a worker that does not receive yet.
            if len(lane.items) >= (lane.most if item.source.content is None else 1):
                return
            self._unsent.popleft()
            if reason := self._pool.quarantined(Content(item.source)):
                item.source = Source(item.source.name, reason=reason)
            if not lane.items:
                lane.since = monotonic()
            lane.items.append(item)
            with contextlib.suppress(ConnectionError):  # The worker has ended: `_receive` meets its end.
                worker.send(lane.worker.channel, (JudgeSource(item.source, self._prepare), self._seconds))

    def _receive(self) -> None:
        """Wait for answers, and take those that are there."""
        patience = PATIENCE + self._seconds
        busy = [lane for lane in self._lanes if lane.items]
        ready = self._selector.select(max(min(lane.since for lane in busy) + patience - monotonic(), 0))
        if not ready:
            for lane in busy:
                if monotonic() > lane.since + patience:
                    self._replace(lane, late=True)
            return
        if all(len(lane.items) > 1 for lane in busy):
            sleep(_GATHERING)
        while ready:
            for key, _ in ready:
                self._take_answer(key.data)
            ready = self._selector.select(0)

    def _take_answer(self, lane: _Lane[T]) -> None:
        try:
            answer = worker.receive(lane.worker.channel)
        except TimeoutError:
            self._replace(lane, late=True)
            return
        if answer is None:
            self._replace(lane, late=False)
            return
        kind, value = answer
        item, now = lane.items[0], monotonic()
        lane.most = _AHEAD if now - lane.since < _QUICK else 1
        lane.since = now
        if kind == worker.VALUE:
            item.values.append(value)
            return
        if kind == worker.DONE:
            item.values += value
        else:
            item.error = value
        item.finished = True
        lane.items.popleft()

    def _replace(self, lane: _Lane[T], late: bool) -> None:
        """Give up a worker that has ended, or must end, over its first item."""
        self._lanes.remove(lane)
        self._selector.unregister(lane.worker.channel)
        if late:
            os.kill(lane.worker.pid, signal.SIGKILL)
        end = self._pool.collect_worker(lane.worker, late)
        if not lane.items:  # It ended while it waited.
            return
        item = lane.items[0]
        item.values.clear()
        if reason := self._pool.record_end(Content(item.source), item.source.name, end):
            item.source = Source(item.source.name, reason=reason)
        self._unsent.extendleft(reversed(lane.items))

    def _release(self) -> None:
        """Give the workers back. One that still judges is ended: its reader has gone."""
        self._selector.close()
        for lane in self._lanes:
            if lane.items:
                self._pool.close_worker(lane.worker)
            else:
                self._pool.return_worker(lane.worker)
