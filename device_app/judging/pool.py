"""Judging sources on several workers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from edge_ct.classifier import Classifier

from .judge import SliceJudgement, judge_source
from .sources import Source

if TYPE_CHECKING:
    from concurrent.futures import Future

# Sources in flight for each worker: enough that none waits for a slow neighbour, few enough that memory stays flat.
_AHEAD = 4

T = TypeVar("T")


class Judges:
    """Classifiers of one bundle, shared by any number of threads."""

    def __init__(self, classifier: Classifier, workers: int) -> None:
        """Load the classifiers.

        Args:
            classifier: The first of the classifiers.
            workers: Number of classifiers in all.
        """
        self.first, self.workers = classifier, workers
        self._count = threading.Semaphore(workers)
        self._free = deque([classifier])
        # Loaded here and not in the threads: loading a model redirects the standard error of the whole process.
        for _ in range(workers - 1):
            self._free.append(Classifier(classifier.bundle))

    @contextmanager
    def one(self) -> Iterator[Classifier]:
        """Wait for a free classifier and reserve it."""
        with self._count:
            classifier = self._free.pop()
            try:
                yield classifier
            finally:
                self._free.append(classifier)


def judge_each(
    judges: Judges, sources: Iterable[Source], then: Callable[[SliceJudgement, Classifier], T]
) -> Iterator[list[T]]:
    """Judge sources on all workers.

    Args:
        judges: The workers.
        sources: What to judge. Only a few sources are taken ahead of the reader.
        then: Called on the worker with each judgement and its classifier.

    Yields:
        What `then` returned, in input order, in lists of those that are ready: at least one value, and all frames of an
        object together.
    """

    def work(source: Source) -> list[T]:
        with judges.one() as classifier:
            return [then(judgement, classifier) for judgement in judge_source(classifier, source)]

    if judges.workers == 1:
        yield from (work(source) for source in sources)
        return
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[Future[list[T]]] = deque()
    pool = ThreadPoolExecutor(judges.workers, "judge")
    try:
        for source in sources:
            waiting.append(pool.submit(work, source))
            if len(waiting) == _AHEAD * judges.workers:
                yield _take_ready(waiting)
        while waiting:
            yield _take_ready(waiting)
    finally:
        # Not waited for: a user who interrupts has waited long enough.
        pool.shutdown(wait=False, cancel_futures=True)


def _take_ready(waiting: deque[Future[list[T]]]) -> list[T]:
    """Wait for the first results; take those behind them that are finished already."""
    values = waiting.popleft().result()
    while waiting and waiting[0].done():
        values.extend(waiting.popleft().result())
    return values
