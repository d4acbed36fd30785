"""A file, or an object in memory -> judged frames; a DICOMDIR -> its files. All that is judged goes this way."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edge_ct import dicom, slices
from edge_ct.classifier import Classifier
from edge_ct.errors import InputRejected

from . import dicom_frames, series
from .dicom_frames import Facts
from .series import Judged

# Objects up to this size are read at once, larger ones (Enhanced CT) frame by frame.
_WHOLE = 16 << 20


def judge_object(classifier: Classifier, data: Path | bytes, source: str) -> Iterator[Judged]:
    """Judge the frames of an object, in order, the third of several under the name `source#3`.

    A frame that cannot be read is rejected, with a judgement that says why; what is no CT object, or cannot be read at
    all, raises `InputRejected`. Where the header rules out every frame, pixels are not decoded.
    """
    begun = perf_counter()
    dataset, frames, whole = _open(data, source)
    all_skipped = all(dicom_frames.why_skipped(own) for own in frames)
    read = _one(dataset, source) if whole and len(frames) == 1 else dicom.read_frames(data, source, slices.check_sides)
    for facts in frames:
        where = f"{source}#{facts.frame}" if facts.frame else source
        if all_skipped:
            yield series.judge_skipped(classifier, facts, where)
            continue
        try:
            pixels = next(read)
            yield series.judge_pixels(classifier, facts, pixels, where, 1000 * (perf_counter() - begun))
        except (InputRejected, StopIteration) as error:
            reason = str(error).removeprefix(f"{source}: ") or "a frame is missing"
            yield series.unreadable(classifier, facts, where, reason)
        begun = perf_counter()


def _open(data: Path | bytes, source: str) -> tuple[Any, list[Facts], bool]:
    """An object's dataset, its frames, and whether pixel data is in the dataset too."""
    try:
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        with dicom.opened(data) as file:
            dataset = dicom.read_dataset(file, source, pixels=size <= _WHOLE)
    except OSError as error:
        raise InputRejected(f"{source}: cannot be read: {error.strerror}") from error
    with dicom.refusing(source):
        modality = dataset.get("Modality")
        if modality != "CT":
            raise InputRejected(f"{source}: DICOM modality {dicom.quoted(modality or '') or 'unknown'}; CT is read")
        dicom.check_frame_count(dataset, source)
        return dataset, dicom_frames.read(dataset), size <= _WHOLE


def _one(dataset: Any, source: str) -> Generator[np.ndarray, None, None]:
    yield dicom.frame_pixels(dataset, source, slices.check_sides)


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
