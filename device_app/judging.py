"""Paths, folders and standard input -> judgements, one a slice, in input order. A bad file is a rejected one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_ct import slices
from edge_ct.classifier import Classifier, Judgement, Milliseconds, Result

STANDARD_INPUT = "-"


def judge_all(classifier: Classifier, sources: Iterable[str]) -> Iterator[Judgement]:
    """Judge files, the slice files below folders, and `-`, the bytes of one image on standard input."""
    for source in sources:
        if source == STANDARD_INPUT:
            yield classifier.judge(sys.stdin.buffer.read(slices.MAX_BYTES + 1), "<stdin>")
        elif _is_folder(source):
            yield from _judge_folder(classifier, Path(source))
        else:
            yield classifier.judge(source)


def _is_folder(source: str) -> bool:
    try:
        return Path(source).is_dir()
    except OSError:  # a name that is too long, say: a rejected row, from `judge`
        return False


def _judge_folder(classifier: Classifier, folder: Path) -> Iterator[Judgement]:
    found = slices.find(folder)
    for path in found:
        yield classifier.judge(path)
    if not found:
        reason = "no PNG, JPEG, TIFF or DICOM file in this folder"
        yield Judgement(Result(str(folder), "rejected", None, reason, None, classifier.identity, Milliseconds()))
