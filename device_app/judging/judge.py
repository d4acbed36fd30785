"""Sources -> judgements, one for each slice. A file that cannot be read is a rejected slice.

`judge_source` judges one source; a `Judge` judges many: a single classifier in the process of the command, or a pool of
worker processes. A cold `edge-ct classify` of one file imports this module and not the pool.

DICOM objects are judged like those that arrive over the network: a slice without lung, or one that is not an original
acquisition, is rejected, and an object of several frames gives several slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier, Judgement, Milliseconds, Result
from edge_ct.errors import EdgeCTError, InputRejected
from edge_ct.imaging.limits import MAX_BYTES, reason_for
from edge_ct.imaging.slice_files import is_dicom

from .incidents import Incidents, RecentIncidents
from .sources import Source, find_sources

if TYPE_CHECKING:
    from .series import JudgedFrame

# A DICOM file on disk may hold many frames; they are read one by one.
_MAX_MULTIFRAME_BYTES = 8 * MAX_BYTES
# Processor time for one slice: twenty times what the largest image takes on a Raspberry Pi 4.
SECONDS = 8.0
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SliceJudgement(Judgement):
    """The judgement of a source, or of one frame of it.

    Attributes:
        file: The name of the source.
        readable: False if the file or the frame could not be read.
        frame: The place of a DICOM slice in its series, with its maps and without pixels; None for other formats.
    """

    file: str = ""
    readable: bool = True
    frame: JudgedFrame | None = None

    @property
    def patient(self) -> str | None:
        """PatientID as the DICOM object states it."""
        return self.frame.attributes.patient if self.frame else None

    @property
    def key(self) -> str | None:
        """What identifies a DICOM slice in a worklist; None if the worklist's default identity applies.

        The same object has the same key however it arrived: as a file, an upload or over the network.
        """
        if self.frame is None or not self.frame.attributes.instance:
            return None
        return f"{self.slice.sha256 if self.slice else ''} {self.frame.attributes.key}"


def judge_paths(classifier: Classifier, names: Iterable[str]) -> Iterator[SliceJudgement]:
    """Judge files, folders, globs and `-` (standard input), one after the other, each when it is asked for."""
    return (judgement for source in find_sources(names) for judgement in judge_source(classifier, source))


def judge_source(classifier: Classifier, source: Source) -> Iterator[SliceJudgement]:
    """Judge one source: a single slice, or the frames of a DICOM object.

    Whatever a file provokes in a decoder or in the runtime is a rejected slice with a reason.
    """
    judgements = _judge_source(classifier, source)
    while True:
        try:
            judgement = next(judgements)
        except StopIteration:
            return
        except (EdgeCTError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # A decoder in Rust raises a BaseException when it panics.
            yield reject_source(classifier, source, reason_for(error))
            return
        yield judgement


def _judge_source(classifier: Classifier, source: Source) -> Iterator[SliceJudgement]:
    if source.reason is not None:
        yield reject_source(classifier, source, source.reason)
        return
    with ExitStack() as stack:
        try:
            data = stack.enter_context(source.opened())
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            yield reject_source(classifier, source, reason)
            return
        if is_dicom(data):
            yield from _judge_dicom(classifier, source, data)
        else:
            judgement = classifier.judge(data, source.name)
            yield _with_source(judgement, source, readable=judgement.slice is not None)


def _with_source(
    judgement: Judgement, source: Source, readable: bool, frame: JudgedFrame | None = None
) -> SliceJudgement:
    named = {field.name: getattr(judgement, field.name) for field in fields(Judgement)}
    return SliceJudgement(**named, file=source.name, readable=readable, frame=frame)


def _judge_dicom(classifier: Classifier, source: Source, data: Path | bytes) -> Iterator[SliceJudgement]:
    from . import dicom_objects

    try:
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        limit = MAX_BYTES if isinstance(data, bytes) else _MAX_MULTIFRAME_BYTES
        if size > limit:
            raise InputRejected(f"{size / 2**20:.0f} MiB; the limit is {limit >> 20} MiB")
        for judged in dicom_objects.judge_object(classifier, data, source.name):
            judgement = judged.judgement
            assert judgement is not None
            readable = judged.skipped or judgement.slice is not None
            yield _with_source(judgement, source, readable, replace(judged, judgement=None))
    except (InputRejected, OSError) as error:
        reason = str(getattr(error, "strerror", None) or error).removeprefix(f"{source.name}: ")
        yield reject_source(classifier, source, reason)


def reject_source(classifier: Classifier, source: Source, reason: str) -> SliceJudgement:
    """Return the rejected slice that stands for a source which cannot be read."""
    result = Result(source.name, "rejected", None, reason, None, classifier.identity, Milliseconds())
    return SliceJudgement(result, file=source.name, readable=False)


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

    def judge_each(self, sources: Iterable[Source], prepare: Prepare[T], seconds: float = ...) -> Iterator[list[T]]:
        """Judge sources, on all workers.

        Args:
            sources: What to judge. Only a few sources are taken ahead of the reader.
            prepare: A picklable function; called on the worker with each judgement and its classifier.
            seconds: Processor time in seconds for one slice.

        Yields:
            What `prepare` returned, in input order, in lists of those that are ready: at least one value, and all
            frames of an object together.
        """

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

    def judge_each(self, sources: Iterable[Source], prepare: Prepare[T], seconds: float = SECONDS) -> Iterator[list[T]]:
        """See `Judge`; the time is not limited."""
        return (self.judge(source, prepare, seconds) for source in sources)

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
