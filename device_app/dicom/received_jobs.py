"""What worker processes do with a received object: judge its frames, and decode one of them for a capture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_ct.classifier import Classifier
from edge_ct.imaging.frame_reader import FrameReader

from ..judging.judge import judge_source
from ..judging.series import JudgedFrame
from ..judging.sources import Source
from ..worklist.records import Entry, prepare_entry

ORIGIN = "listen"


def unreadable_key(instance: str) -> str:
    """Return what identifies, in a worklist, a received object that cannot be read."""
    return f" {instance}"


@dataclass(frozen=True)
class JudgeReceived:
    """The job of judging a received object.

    Attributes:
        path: Its file.
        instance: Its SOP instance UID.
        series: Its series instance UID.
    """

    path: Path
    instance: str
    series: str

    def __call__(self, classifier: Classifier) -> Iterator[tuple[JudgedFrame | None, Entry]]:
        """Yield each judged frame and its row; a row without a frame says why the object cannot be read."""
        for judgement in judge_source(classifier, Source(f"DICOM {self.instance}", path=self.path)):
            row = prepare_entry(
                judgement,
                classifier.bundle,
                origin=ORIGIN,
                patient=judgement.patient,
                key=judgement.key or unreadable_key(self.instance),
                series=self.series,
            )
            yield judgement.frame, row


@dataclass(frozen=True)
class ReadFrame:
    """The job of decoding one frame, from 1 in a multi-frame object: uint8 [h, w], lung window."""

    path: Path
    frame: int

    def __call__(self, classifier: Classifier) -> Iterator[np.ndarray]:
        with FrameReader(self.path, "answer") as frames:
            yield frames.read(max(self.frame - 1, 0))
