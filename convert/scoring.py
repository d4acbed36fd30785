"""A TFLite file, run on the slices that calibrate, gate and describe it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_ct.decision import probability
from edge_ct.manifest import Calibration, Tensors
from edge_ct.runtime import Outputs, Runtime, read_tensors
from edge_ct.system.host import processors
from edge_ct.system.progress import QUIET, Progress

from .calibrate import fit_calibration
from .run_slices import RunSlices

# Calibration and gate use this split; the metrics of a bundle are those of `test`, which they never see.
CALIBRATION_SPLIT = "validation"
SCORED_SPLITS = (CALIBRATION_SPLIT, "test")


@dataclass(frozen=True, eq=False)
class ScoredFile:
    """A TFLite file with its outputs on the validation and test slices.

    Attributes:
        name: Name for progress lines and tables.
        flatbuffer: Content of the file.
        tensors: Its input and outputs.
        runtime: The one interpreter that runs it.
        logits: Split -> float32 [n, 2].
        embeddings: Split -> float32 [n, e].
        calibration: Calibration fitted on the file's own logits of the validation split.
        probabilities: Split -> calibrated P(positive), float64 [n].
    """

    name: str
    flatbuffer: bytes
    tensors: Tensors
    runtime: Runtime
    logits: dict[str, np.ndarray]
    embeddings: dict[str, np.ndarray]
    calibration: Calibration
    probabilities: dict[str, np.ndarray]

    def run(self, images: np.ndarray) -> list[Outputs]:
        """Run the file on images, uint8 [n, s, s, 1]; returns one set of outputs per image."""
        return _run(self.runtime, images, "", QUIET)


def score_file(flatbuffer: bytes, slices: RunSlices, name: str) -> ScoredFile:
    """Run a file on the validation and test slices and calibrate it on its own outputs.

    Args:
        flatbuffer: Content of the file.
        slices: The slices of the run.
        name: Name for progress lines and tables.

    Raises:
        DataRejected: The validation split cannot calibrate the file.
    """
    tensors = read_tensors(flatbuffer, slices.preprocess)
    runtime = Runtime(flatbuffer, tensors, processors())
    logits, embeddings = {}, {}
    for split in SCORED_SPLITS:
        outputs = _run(runtime, slices.images(split), f"scoring {name} on {split}", slices.progress)
        width = tensors.embedding.shape[-1]
        logits[split] = np.array([output.logits for output in outputs], np.float32).reshape(-1, 2)
        embeddings[split] = np.array([output.embedding for output in outputs], np.float32).reshape(-1, width)
    differences = logits[CALIBRATION_SPLIT][:, 1] - logits[CALIBRATION_SPLIT][:, 0]
    calibration = fit_calibration(differences, slices.labels(CALIBRATION_SPLIT), CALIBRATION_SPLIT)
    probabilities = {
        split: np.array([probability(values, calibration) for values in logits[split]], np.float64)
        for split in SCORED_SPLITS
    }
    return ScoredFile(name, flatbuffer, tensors, runtime, logits, embeddings, calibration, probabilities)


def _run(runtime: Runtime, images: np.ndarray, label: str, progress: Progress) -> list[Outputs]:
    outputs = []
    with progress.bar(label, len(images)) as on_done:
        for image in images:
            runtime.invoke(image)
            outputs.append(runtime.outputs())
            on_done(1)
    return outputs
