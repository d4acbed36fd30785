"""Paths, folders, globs and standard input -> judgements, one a slice, in input order. A bad file is a rejected one.

DICOM objects go the way of those that come over the network: what shows no lung, or is no slice as it was acquired, is
rejected, and an object of several frames is as many slices.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edge_ct import slices
from edge_ct.classifier import Classifier, Judgement, Milliseconds, Result
from edge_ct.errors import InputRejected

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .series import Judged

STANDARD_INPUT = "-"
# An object of several frames may be as much larger than a file of one slice.
_MOST_OF_FRAMES = 8 * slices.MAX_BYTES
# In flight for each worker: enough that none waits for a slow neighbour, few enough that memory stays flat.
_AHEAD = 4

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Source:
    """Something to judge: a file; bytes under a name; or nothing, for the reason given."""

    name: str
    content: bytes | None = None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Found(Judgement):
    """The judgement of a source, or of one of its frames.

    read: False where the file, or the frame, could not be read; True for a readable one, whatever it shows.
    file: the source's name. frame: of a DICOM object, its place in its series, without its pixels.
    """

    file: str = ""
    read: bool = True
    frame: Judged | None = None

    @property
    def patient(self) -> str | None:
        """As a DICOM object states it."""
        return self.frame.facts.patient if self.frame else None

    @property
    def key(self) -> str | None:
        """What a worklist knows a DICOM slice by; None: as it knows others."""
        if self.frame is None or not self.read or not self.frame.facts.instance:
            return None
        return f"{self.slice.sha256 if self.slice else ''} {self.frame.facts.key}"


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


def judge_all(classifier: Classifier, sources: Iterable[str]) -> Iterator[Found]:
    """Judge files, the slice files below folders or that match globs, and `-`, one image on standard input.

    One after the other, each when it is asked for.
    """
    return (found for source in find_all(sources) for found in judge(classifier, source))


def judge(classifier: Classifier, source: Source) -> Iterator[Found]:
    """Judge one source: one slice, or the frames of a DICOM object."""
    data = Path(source.name) if source.content is None else source.content
    if source.reason is not None:
        yield _unread(classifier, source, source.reason)
    elif slices.is_dicom(data):
        yield from _judge_dicom(classifier, source, data)
    else:
        found = classifier.judge(data, source.name)
        yield Found(found.result, found.slice, found.outputs, source.name, found.slice is not None)


def _judge_dicom(classifier: Classifier, source: Source, data: Path | bytes) -> Iterator[Found]:
    from . import dicom_objects

    try:
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        most = slices.MAX_BYTES if isinstance(data, bytes) else _MOST_OF_FRAMES
        if size > most:
            raise InputRejected(f"{size / 2**20:.0f} MiB; the limit is {most >> 20} MiB")
        for own in dicom_objects.judge_object(classifier, data, source.name):
            seen = own.judgement
            assert seen is not None
            read = own.skipped or seen.slice is not None
            frame = replace(own, judgement=None, class_map=None)
            yield Found(seen.result, seen.slice, seen.outputs, source.name, read, frame)
    except (InputRejected, OSError) as error:
        reason = str(getattr(error, "strerror", None) or error).removeprefix(f"{source.name}: ")
        yield _unread(classifier, source, reason)


def _unread(classifier: Classifier, source: Source, reason: str) -> Found:
    result = Result(source.name, "rejected", None, reason, None, classifier.identity, Milliseconds())
    return Found(result, file=source.name, read=False)


def judge_each(judges: Judges, sources: Iterable[Source], then: Callable[[Found, Classifier], T]) -> Iterator[list[T]]:
    """Judge sources on all workers and do `then` there, with each judgement and its classifier.

    Yields what `then` returns, in input order, in lists of those that are ready: at least one, and more where the
    reader is slower than the workers; all frames of an object in one list. Few sources are ahead at any time, however
    many there are.
    """

    def work(source: Source) -> list[T]:
        with judges.one() as classifier:
            return [then(found, classifier) for found in judge(classifier, source)]

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
                yield _ready(waiting)
        while waiting:
            yield _ready(waiting)
    finally:
        # Not waited for: whoever interrupts has waited long enough.
        pool.shutdown(wait=False, cancel_futures=True)


def _ready(waiting: deque[Future[list[T]]]) -> list[T]:
    """Take the first results, and those behind them that are there already."""
    found = waiting.popleft().result()
    while waiting and waiting[0].done():
        found.extend(waiting.popleft().result())
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
    from . import dicom_objects

    try:
        paths = dicom_objects.referenced(Path(name))
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
