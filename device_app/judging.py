"""Paths, folders, globs and standard input -> judgements, one a slice, in input order. A bad file is a rejected one."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edge_ct import slices
from edge_ct.classifier import Classifier, Judgement, Milliseconds, Result
from edge_ct.errors import InputRejected

if TYPE_CHECKING:
    from concurrent.futures import Future

STANDARD_INPUT = "-"
# In flight for each worker: enough that none waits for a slow neighbour, few enough that memory stays flat.
_AHEAD = 4

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Source:
    """Something to judge: a file; bytes under a name; or nothing, for the reason given."""

    name: str
    content: bytes | None = None
    reason: str | None = None


class Judges:
    """Classifiers of one bundle, one thread each, for any number of threads that ask."""

    def __init__(self, classifier: Classifier, workers: int) -> None:
        """classifier: becomes one of the `workers`."""
        self.first, self.workers = classifier, workers
        self._count = threading.Semaphore(workers)
        self._free = deque([classifier])
        # Here and not in the threads: loading a model moves the process's standard error for a moment.
        for _ in range(workers - 1):
            self._free.append(Classifier(classifier.bundle))

    @contextmanager
    def one(self) -> Iterator[Classifier]:
        """A classifier that nobody else uses meanwhile; waits for one."""
        with self._count:
            own = self._free.pop()
            try:
                yield own
            finally:
                self._free.append(own)


def judge_all(classifier: Classifier, sources: Iterable[str]) -> Iterator[Judgement]:
    """Judge files, the slice files below folders or that match globs, and `-`, one image on standard input.

    One after the other, each when it is asked for.
    """
    return (judge(classifier, source) for source in find_all(sources))


def judge(classifier: Classifier, source: Source) -> Judgement:
    """Judge one source."""
    if source.reason is not None:
        return Judgement(
            Result(source.name, "rejected", None, source.reason, None, classifier.identity, Milliseconds())
        )
    found = classifier.judge(source.name if source.content is None else source.content, source.name)
    if found.slice is None or found.slice.dicom is None:
        return found
    from .dicom import study

    # As in a series that comes over the network: what shows no lung does not vote.
    return study.without_vote(found, source.content)


def judge_each(
    judges: Judges, sources: Iterable[Source], then: Callable[[Judgement, Classifier], T]
) -> Iterator[list[T]]:
    """Judge sources on all workers and do `then` there, with each judgement and its classifier.

    Yields what `then` returns, in input order, in lists of those that are ready: at least one, and more where the
    reader is slower than the workers. Few sources are ahead at any time, however many there are.
    """

    def work(source: Source) -> T:
        with judges.one() as classifier:
            return then(judge(classifier, source), classifier)

    if judges.workers == 1:
        yield from ([work(source)] for source in sources)
        return
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(judges.workers, "judge")
    try:
        for source in sources:
            waiting.append(pool.submit(work, source))
            if len(waiting) == _AHEAD * judges.workers:
                yield _ready(waiting)
        while waiting:
            yield _ready(waiting)
    finally:
        # Not waited for: whoever interrupts has waited long enough.
        pool.shutdown(wait=False, cancel_futures=True)


def _ready(waiting: deque[Future[T]]) -> list[T]:
    """Take the first result, and those behind it that are there already."""
    found = [waiting.popleft().result()]
    while waiting and waiting[0].done():
        found.append(waiting.popleft().result())
    return found


def find_all(names: Iterable[str]) -> Iterator[Source]:
    """What is to be judged, in order: files as they are named, folders and globs by the paths of their files."""
    for name in names:
        if name == STANDARD_INPUT:
            yield Source("<stdin>", sys.stdin.buffer.read(slices.MAX_BYTES + 1))
        elif _is_folder(name):
            yield from _in_folder(Path(name))
        elif Path(name).name == "DICOMDIR":
            yield from _in_dicomdir(name)
        elif any(c in name for c in "*?[") and not _exists(name):
            import glob

            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (absolute patterns)
            for match in matches:
                if _is_folder(match):
                    yield from _in_folder(Path(match))
                else:
                    yield Source(match)
            if not matches:
                yield Source(name, reason="no file matches")
        else:
            yield Source(name)


def _in_dicomdir(name: str) -> Iterator[Source]:
    from .dicom import study

    try:
        paths = study.referenced(Path(name))
    except InputRejected as error:
        yield Source(name, reason=str(error).removeprefix(f"{name}: "))
        return
    yield from (Source(str(path)) for path in paths)
    if not paths:
        yield Source(name, reason="a DICOMDIR that lists no image")


def _in_folder(folder: Path) -> Iterator[Source]:
    found = slices.find(folder)
    yield from (Source(str(path)) for path in found)
    if not found:
        yield Source(str(folder), reason="no PNG, JPEG, TIFF or DICOM file in this folder")


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # a name that is too long, say: a rejected row, from `judge`
        return False
