"""What judges sources: a single classifier in the process of the command, or a pool of worker processes.

A cold `edge-ct classify` of one file imports this module and not the pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier

from .incidents import Incidents, RecentIncidents
from .judge import SliceJudgement, judge_source
from .sources import Source

if TYPE_CHECKING:
    from concurrent.futures import Future

# Processor time for one slice: twenty times what the largest image takes on a Raspberry Pi 4.
SECONDS = 8.0
# Sources in flight for each worker: enough that none waits for a slow neighbour, few enough that memory stays flat.
_AHEAD = 4
T = TypeVar("T")

Prepare = Callable[[SliceJudgement, Classifier], T]
Job = Callable[[Classifier], Iterator[T]]


class Judge(Protocol):
    """What judges sources: a pool, or a single classifier in this process."""

    bundle: Bundle
    workers: int
    incidents: Incidents
    broken: bool
    ends: int

    def judge(self, source: Source, prepare: Prepare[T], seconds: float = ...) -> list[T]:
        """Judge a source and return what `prepare` makes of each of its judgements."""

    def run_contained(self, job: Job[T], source: Source, seconds: float, values: list[T]) -> str | None:
        """Run a job over a foreign file; its values go to `values`. Returns why there are none, or None."""

    def run(self, job: Job[T], seconds: float = ...) -> list[T]:
        """Run a job and return what it yields."""

    def close(self) -> None:
        """End the workers."""


class InProcess:
    """Judges in the process of the command: for a single file, whose answer must come at once."""

    workers = 1
    broken = False
    ends = 0

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.bundle = classifier.bundle
        self.incidents: Incidents = RecentIncidents()

    def judge(self, source: Source, prepare: Prepare[T], seconds: float = SECONDS) -> list[T]:
        """See `Judge`; the time is not limited."""
        return [prepare(judgement, self._classifier) for judgement in judge_source(self._classifier, source)]

    def run_contained(self, job: Job[T], source: Source, seconds: float, values: list[T]) -> str | None:
        """See `Judge`."""
        values.extend(job(self._classifier))
        return None

    def run(self, job: Job[T], seconds: float = SECONDS) -> list[T]:
        """See `Judge`."""
        return list(job(self._classifier))

    def close(self) -> None:
        """See `Judge`; nothing is held."""

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing is held."""


def judge_each(
    judge: Judge, sources: Iterable[Source], prepare: Prepare[T], seconds: float = SECONDS
) -> Iterator[list[T]]:
    """Judge sources on all workers.

    Args:
        judge: The workers.
        sources: What to judge. Only a few sources are taken ahead of the reader.
        prepare: A picklable function; called on the worker with each judgement and its classifier.
        seconds: Processor time in seconds for one slice.

    Yields:
        What `prepare` returned, in input order, in lists of those that are ready: at least one value, and all frames of
        an object together.
    """
    if judge.workers == 1:
        yield from (judge.judge(source, prepare, seconds) for source in sources)
        return
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[Future[list[T]]] = deque()
    # These threads wait for the worker processes.
    threads = ThreadPoolExecutor(judge.workers, "judge")
    try:
        for source in sources:
            waiting.append(threads.submit(judge.judge, source, prepare, seconds))
            if len(waiting) == _AHEAD * judge.workers:
                yield _take_ready(waiting)
        while waiting:
            yield _take_ready(waiting)
    finally:
        # Not waited for: a user who interrupts has waited long enough.
        threads.shutdown(wait=False, cancel_futures=True)


def _take_ready(waiting: deque[Future[list[T]]]) -> list[T]:
    """Wait for the first results; take those behind them that are finished already."""
    values = waiting.popleft().result()
    while waiting and waiting[0].done():
        values.extend(waiting.popleft().result())
    return values
