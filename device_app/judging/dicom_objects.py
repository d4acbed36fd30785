"""DICOM file or object in memory -> judged frames; DICOMDIR -> its files. Every command judges DICOM with this code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edge_ct import dicom
from edge_ct.classifier import Classifier
from edge_ct.errors import InputRejected
from edge_ct.imaging.frame_reader import FrameReader

from . import dicom_frames, series
from .dicom_frames import FrameAttributes
from .series import JudgedFrame

# Objects up to this size in bytes are read at once, larger ones (Enhanced CT) frame by frame.
_WHOLE = 16 << 20


def judge_object(classifier: Classifier, data: Path | bytes, source: str) -> Iterator[JudgedFrame]:
    """Judge the frames of an object, in order.

    The pixels of a frame that the header rules out are not decoded.

    Args:
        classifier: The classifier.
        data: The path of a file, or the bytes of one.
        source: The name of the object; the third of several frames is reported as `source#3`.

    Yields:
        One judged frame each; a frame that cannot be decoded is rejected, and its judgement says why.

    Raises:
        InputRejected: The object is not CT, or cannot be read at all.
    """
    begun = perf_counter()
    dataset, frames, whole = _read_object(data, source)
    wanted = [attributes for attributes in frames if dicom_frames.reason_to_skip(attributes) is None]
    with contextlib.ExitStack() as stack:
        read = _frame_function(data, source, dataset if whole and len(frames) == 1 else None, stack) if wanted else None
        for index, attributes in enumerate(frames):
            name = f"{source}#{attributes.frame}" if attributes.frame else source
            if read is None or dicom_frames.reason_to_skip(attributes):
                yield series.judge_skipped(classifier, attributes, name)
                continue
            try:
                pixels = read(index)
            except InputRejected as error:
                reason = str(error).removeprefix(f"{source}: ")
                yield series.judge_unreadable(classifier, attributes, name, reason)
            else:
                yield series.judge_pixels(classifier, attributes, pixels, name, 1000 * (perf_counter() - begun))
            begun = perf_counter()


def _frame_function(
    data: Path | bytes, source: str, dataset: Any | None, stack: contextlib.ExitStack
) -> Callable[[int], np.ndarray]:
    """Return a function that decodes a frame by its index; the stack closes what it reads from.

    Args:
        data: The path of a file, or the bytes of one.
        source: The name of the object.
        dataset: The parsed object with its pixel data, if it has one frame; None reads frames one by one.
        stack: Closes the file.
    """
    if dataset is not None:
        return lambda index: dicom.frame_pixels(dataset, source)
    try:
        return stack.enter_context(FrameReader(data, source)).read
    except InputRejected as error:
        failure = error

        def fail(index: int) -> np.ndarray:
            raise failure

        return fail


def _read_object(data: Path | bytes, source: str) -> tuple[Any, list[FrameAttributes], bool]:
    """Return the dataset of an object, its frames, and whether the dataset includes the pixel data."""
    try:
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        if size <= _WHOLE and not isinstance(data, bytes):
            # Reading a file allocates what a length states, even if the file is shorter; reading from memory does not.
            data = data.read_bytes()
        with dicom.open_object(data) as file:
            dataset = dicom.read_dataset(file, source, pixels=size <= _WHOLE)
    except OSError as error:
        raise InputRejected(f"{source}: cannot be read: {error.strerror}") from error
    with dicom.reject_on_error(source):
        modality = dataset.get("Modality")
        if modality != "CT":
            raise InputRejected(f"{source}: DICOM modality {dicom.quoted(modality or '') or 'unknown'}; CT is read")
        dicom.check_frame_count(dataset, source)
        return dataset, dicom_frames.read_frame_attributes(dataset), size <= _WHOLE


def dicomdir_files(path: Path) -> list[Path]:
    """Return the files that a DICOMDIR lists.

    Raises:
        InputRejected: The DICOMDIR cannot be read, or lists a file outside its folder.
    """
    try:
        with path.open("rb") as file:
            records = dicom.read_dataset(file, str(path)).get("DirectoryRecordSequence") or []
    except OSError as error:
        raise InputRejected(f"{path}: cannot be read: {error.strerror}") from error
    paths = []
    with dicom.reject_on_error(str(path)):
        for record in records:
            if record.get("DirectoryRecordType") != "IMAGE":
                continue
            parts = record.get("ReferencedFileID") or []
            parts = [parts] if isinstance(parts, str) else list(parts)
            if not parts or any(not part or part in (".", "..") or "/" in part for part in map(str, parts)):
                raise InputRejected(f"{path}: this DICOMDIR lists a file outside its folder")
            paths.append(_find_listed_file(path.parent, [str(part) for part in parts]))
    return paths


def _find_listed_file(folder: Path, parts: list[str]) -> Path:
    """Look a listed file up without regard to case, and with a suffix: discs are mounted and copied in many ways.

    Args:
        folder: The folder of the DICOMDIR.
        parts: The components of the listed path.

    Returns:
        The file that exists, or the path as it is listed where none does.
    """
    path = folder
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        exact = path / part
        if exact.exists():
            path = exact
            continue
        try:
            names = sorted(entry.name for entry in path.iterdir())
        except OSError:
            return folder.joinpath(*parts)
        wanted = part.lower()
        same = [name for name in names if name.split(";")[0].lower() == wanted]
        same += [name for name in names if last and name.rsplit(".", 1)[0].lower() == wanted]
        if not same:
            return folder.joinpath(*parts)
        path = path / same[0]
    return path
