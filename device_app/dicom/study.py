"""Files, folders and DICOMDIR -> objects -> judged series: what has not come over the network goes the same way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec

from edge_ct import dicom, lungs, slices
from edge_ct.classifier import Classifier, Judgement, Milliseconds, Result
from edge_ct.errors import InputRejected

from . import header, series
from .header import Facts, order
from .series import Judged, SeriesResult

DICOMDIR = "DICOMDIR"
# Objects up to this size are read at once, larger ones (Enhanced CT) frame by frame.
_WHOLE = 16 << 20


@dataclass(frozen=True, eq=False)
class Series:
    """A judged series of files. files: of its objects, by instance UID."""

    patient: str
    result: SeriesResult
    judged: list[Judged]
    files: dict[str, Path]


def open_object(path: Path, source: str) -> tuple[Any, list[Facts]]:
    """Parse an object: its dataset, with pixel data where that is small, and its frames. Raises `InputRejected`."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            dataset = dicom.read_dataset(file, source, pixels=size <= _WHOLE)
    except OSError as error:
        raise InputRejected(f"{source}: cannot be read: {error.strerror}") from error
    with dicom.refusing(source):
        dicom.check_frame_count(dataset, source)
        return dataset, header.read(dataset)


def judge_object(
    classifier: Classifier, path: Path, dataset: Any, frames: Sequence[Facts], source: str
) -> Iterator[Judged]:
    """Judge the frames of an object, in order. One that cannot be read is rejected, with a judgement that says why."""
    single = len(frames) == 1 and "PixelData" in dataset
    read = None if single else dicom.read_frames(path, source, slices.check_sides)
    for facts in frames:
        where = f"{source} frame {facts.frame}" if facts.frame else source
        try:
            if read is None:
                # Where the header rules a vote out, pixels are not decoded.
                yield series.judge(
                    classifier, facts, lambda: dicom.frame_pixels(dataset, source, slices.check_sides), where
                )
            elif all(header.why_skipped(own) for own in frames):
                yield series.judge_skipped(facts)
            else:
                yield series.judge_pixels(classifier, facts, next(read), where)
        except (InputRejected, StopIteration) as error:
            reason = str(error).removeprefix(f"{source}: ") or "a frame is missing"
            answer = Result(where, "rejected", None, reason, facts.series, classifier.identity, Milliseconds())
            yield replace(series.unreadable(facts, reason), judgement=Judgement(answer))


def without_vote(found: Judgement, content: bytes | None) -> Judgement:
    """A judged DICOM slice; rejected, with the reason, where a series would pass over it.

    content: the file's bytes, where it is not read from its source's path.
    """
    one, result = found.slice, found.result
    if one is None or result.decision == "rejected":
        return found
    try:
        with BytesIO(content) if content is not None else Path(result.source).open("rb") as file:
            (facts,) = header.read(dicom.read_dataset(file, result.source, pixels=False))
    except (InputRejected, OSError, ValueError):
        return found  # changed since it was judged
    reason = header.why_skipped(facts) or series.no_lung(one.pixels, lungs.segment(one.pixels))
    if reason is None:
        return found
    return Judgement(msgspec.structs.replace(result, decision="rejected", probability=None, reason=reason), one)


def referenced(path: Path) -> list[Path]:
    """The files that a DICOMDIR lists, those that lie beside or below it alone. Raises `InputRejected`."""
    try:
        with path.open("rb") as file:
            records = dicom.read_dataset(file, str(path)).get("DirectoryRecordSequence") or []
    except OSError as error:
        raise InputRejected(f"{path}: cannot be read: {error.strerror}") from error
    found = []
    with dicom.refusing(str(path)):
        for record in records:
            if record.get("DirectoryRecordType") != "IMAGE":
                continue
            parts = record.get("ReferencedFileID") or []
            parts = [parts] if isinstance(parts, str) else list(parts)
            if not parts or any(not part or part in (".", "..") or "/" in part for part in map(str, parts)):
                raise InputRejected(f"{path}: a directory that points outside its folder")
            found.append(path.parent.joinpath(*map(str, parts)))
    return found


def judge_files(classifier: Classifier, paths: Iterable[Path]) -> Iterator[Series | Judgement]:
    """Judge DICOM files series by series, in the order in which each series is first met.

    A file that is no DICOM image that can be told a series is a rejected judgement, when it is met.
    """
    grouped: dict[tuple[str, str, str], list[tuple[Facts, Path]]] = {}
    for path in paths:
        source = str(path)
        try:
            if path.is_file() and path.stat().st_size > slices.MAX_BYTES * 8:
                raise InputRejected(f"{source}: larger than {slices.MAX_BYTES >> 17} MiB")
            with path.open("rb") as file:
                dataset = dicom.read_dataset(file, source, pixels=False)
            with dicom.refusing(source):
                dicom.check_frame_count(dataset, source)
                first = header.read(dataset)[0]
        except (InputRejected, OSError) as error:
            reason = str(getattr(error, "strerror", None) or error).removeprefix(f"{source}: ")
            yield Judgement(Result(source, "rejected", None, reason, None, classifier.identity, Milliseconds()))
            continue
        grouped.setdefault((first.patient, first.study, first.series), []).append((first, path))
    for (patient, _, _), members in grouped.items():
        judged: list[Judged] = []
        files: dict[str, Path] = {}
        for first, path in sorted(members, key=lambda own: order(own[0])):
            if first.instance in files:
                continue  # a second copy of the same instance votes once
            files[first.instance] = path
            dataset, frames = open_object(path, str(path))
            judged.extend(judge_object(classifier, path, dataset, frames, str(path)))
        yield Series(patient, series.conclude(classifier, judged), judged, files)
