"""Source -> judgements, one for each slice. A file that cannot be read is a rejected slice.

DICOM objects are judged like those that arrive over the network: a slice without lung, or one that is not an original
acquisition, is rejected, and an object of several frames gives several slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_ct.classifier import Classifier, Judgement, Milliseconds, Result
from edge_ct.errors import EdgeCTError, InputRejected
from edge_ct.imaging.limits import MAX_BYTES, reason_for
from edge_ct.imaging.slice_files import is_dicom

from .sources import Source, find_sources

if TYPE_CHECKING:
    from .series import JudgedFrame

# A DICOM file on disk may hold many frames; they are read one by one.
_MAX_MULTIFRAME_BYTES = 8 * MAX_BYTES


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
    data = source.data
    if source.reason is not None:
        yield reject_source(classifier, source, source.reason)
    elif is_dicom(data):
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
