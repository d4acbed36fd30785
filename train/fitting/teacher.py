"""A trained run, or an ensemble of them, as the teacher of another network.

The teacher sees each slice as the student does, augmented: a soft target belongs to a view, not to a file
(Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent"). A teacher of larger slices sees
the view before it is made smaller for the student.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from edge_ct.dataset import PARTS
from edge_ct.errors import DataRejected
from edge_ct.run import SplitTable, load_finished_run
from edge_ct.system import native_output

from ..score import predict

with native_output.captured_native_stderr():
    import keras


class Teacher:
    """Soft targets of a finished run."""

    def __init__(self, folder: Path, classes: tuple[str, str], table: SplitTable) -> None:
        """classes, table: the student's.

        Raises `DataRejected` for a teacher of other classes, or one that was made with slices which the student is to
        be validated or tested with.
        """
        self._run = load_finished_run(folder)
        if self._run.info.classes != classes:
            raise DataRejected(
                f"{folder}: its classes are {_named(self._run.info.classes)}, the slices' {_named(classes)}"
            )
        known, own = self._run.known(), table.part_of()
        # What a slice was for the teacher leaks to what comes after it: what it learned from, then what chose its epoch
        # (and an ensemble's weights), then what neither has seen.
        leaked = [
            path for path, sha256 in zip(table.paths, table.sha256, strict=True)
            if PARTS.index(known.get(sha256[:16], "test")) < PARTS.index(own[sha256[:16]])
        ]  # fmt: skip
        if leaked:
            raise DataRejected(
                f"{folder}: was trained or chosen with {len(leaked)} slices that are to judge its student "
                f"({leaked[0]}, ...); train both on the same split"
            )
        self._members = [
            (member.info.preprocess, member.load_model(partial(keras.saving.load_model, compile=False)))
            for member in self._run.members()
        ]

    @property
    def size(self) -> int:
        """Side, in pixels, of the largest slices that a member of it takes."""
        return max(preprocess.size for preprocess, _ in self._members)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """P(positive), float64 [n], of slices uint8 [n, s, s, 1] of any size."""
        members = []
        for preprocess, model in self._members:
            resized = np.stack([preprocess(image[:, :, 0]) for image in images])
            members.append(predict.probabilities(model, preprocess, resized))
        return predict.combine(self._run, np.stack(members))


def _named(classes: tuple[str, str]) -> str:
    return " and ".join(classes)
