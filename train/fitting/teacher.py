"""A finished run, or an ensemble of runs, as the teacher in distillation.

The teacher is applied to the augmented slices that the student sees: a soft target belongs to a view, not to a file
(Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent"). A teacher with a larger input
is applied to the view before it is scaled down for the student.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from edge_ct.dataset import PARTS
from edge_ct.errors import DataRejected
from edge_ct.reporting.counts import count_of
from edge_ct.run import SplitTable, load_finished_run
from edge_ct.system import native_output

from ..score.predict import combine_members, predict_images

with native_output.captured_native_stderr():
    import keras


class Teacher:
    """Soft targets predicted by a finished run."""

    def __init__(self, folder: Path, classes: tuple[str, str], table: SplitTable) -> None:
        """Load the teacher.

        Args:
            folder: Run folder of the teacher.
            classes: Classes of the student.
            table: Split table of the student.

        Raises:
            DataRejected: The teacher has other classes, or was trained on slices that validate or test the student.
        """
        self._run = load_finished_run(folder)
        if self._run.info.classes != classes:
            raise DataRejected(
                f"{folder}: the teacher's classes are {' and '.join(self._run.info.classes)}, but those of the data "
                f"are {' and '.join(classes)}"
            )
        teacher_parts, student_parts = self._run.known(), table.part_of()
        # A slice must not serve the student later in the order train, validation, test than it served the teacher:
        # otherwise the teacher has learned it, or was selected on it, and the student's score is too good.
        leaked = [
            path
            for path, sha256 in zip(table.paths, table.sha256, strict=True)
            if PARTS.index(teacher_parts.get(sha256[:16], "test")) < PARTS.index(student_parts[sha256[:16]])
        ]
        if leaked:
            raise DataRejected(
                f"{folder}: the teacher was trained or selected on {count_of(len(leaked), 'slice')} of the "
                "parts that validate or test the "
                f"student ({leaked[0]}, ...); train both on the same split"
            )
        self._members = [
            (member.info.preprocess, member.load_model(partial(keras.saving.load_model, compile=False)))
            for member in self._run.members()
        ]

    @property
    def size(self) -> int:
        """Side of the teacher's input in pixels; the largest one of an ensemble's members."""
        return max(preprocess.size for preprocess, _ in self._members)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return P(positive), float64 [n], for slices uint8 [n, s, s, 1] of any size."""
        members = []
        for preprocess, model in self._members:
            resized = np.stack([preprocess.resized(image[:, :, 0]) for image in images])
            members.append(predict_images(model, preprocess, resized))
        return combine_members(self._run, np.stack(members))
