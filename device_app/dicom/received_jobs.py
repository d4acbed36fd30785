"""What worker processes do with a received object: judge its frames, and decode one of them for a capture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_ct.classifier import Classifier
from edge_ct.frame_reader import FrameReader

from ..judging import dicom_objects
from ..judging.series import JudgedFrame
from ..worklist.records import Entry, prepare_entry

ORIGIN = "listen"


@dataclass(frozen=True)
class JudgeReceived:
    """The job of judging a received object. source: the name under which it is reported."""

    path: Path
    source: str

    def __call__(self, classifier: Classifier) -> Iterator[tuple[JudgedFrame, Entry | None]]:
        """Yield each judged frame and its row; skipped frames have no row."""
        for judged in dicom_objects.judge_object(classifier, self.path, self.source):
            row = None
            if not judged.skipped and judged.judgement is not None:
                attributes = judged.attributes
                row = prepare_entry(
                    judged.judgement,
                    classifier.bundle,
                    origin=ORIGIN,
                    patient=attributes.patient,
                    key=f"dicom {attributes.key}",
                    series=attributes.series,
                )
            yield replace(judged, judgement=None), row


@dataclass(frozen=True)
class ReadFrame:
    """The job of decoding one frame, from 1 in a multi-frame object: uint8 [h, w], lung window."""

    path: Path
    frame: int

    def __call__(self, classifier: Classifier) -> Iterator[np.ndarray]:
        with FrameReader(self.path, "answer") as frames:
            yield frames.read(max(self.frame - 1, 0))
