"""A TFLite file, run on the slices that calibrate, gate and describe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_ct.decision import probability
from edge_ct.lesions import strongest_lesion
from edge_ct.manifest import Calibration, Tensors
from edge_ct.runtime import Outputs, Runtime, read_tensors
from edge_ct.system.host import processors
from edge_ct.system.progress import QUIET, Progress

from .calibrate import fit_calibration, fuse_lesions
from .run_slices import RunSlices


@dataclass(frozen=True, eq=False)
class CalibrationCases:
    """The slices that calibrate a file: those of the calibration split, or those that the folds were tested on.

    Attributes:
        labels: 0 or 1, int [m].
        probabilities: Calibrated P(positive), float64 [m].
        trusted: Whether the label of a slice has the full weight of 1, bool [m]. Calibration and decision rule are
            fitted on these slices alone.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    trusted: np.ndarray


@dataclass(frozen=True, eq=False)
class ScoredFile:
    """A TFLite file with its outputs on the calibration and test slices.

    Calibration and gate use the calibration split; the metrics of a bundle are those of `test`, which they never see. A
    network that was trained on every slice is calibrated and measured on the outputs of the folds' bundles instead.

    Attributes:
        name: Name for progress lines and tables.
        flatbuffer: Content of the file.
        tensors: Its input and outputs.
        runtime: The one interpreter that runs it.
        logits: Split -> float32 [n, 2].
        embeddings: Split -> float32 [n, e].
        calibration: Calibration fitted on the file's own logits of the calibration split.
        probabilities: Split -> calibrated P(positive), float64 [n].
        lesion_maps: Split -> logits of the lesion map, float32 [n, h, w]; empty for a network without one.
        cases: The slices that the calibration was fitted on.
    """

    name: str
    flatbuffer: bytes
    tensors: Tensors
    runtime: Runtime
    logits: dict[str, np.ndarray]
    embeddings: dict[str, np.ndarray]
    calibration: Calibration
    probabilities: dict[str, np.ndarray]
    lesion_maps: dict[str, np.ndarray]
    cases: CalibrationCases

    def run(self, images: np.ndarray) -> list[Outputs]:
        """Run the file on images, uint8 [n, s, s, 1]; returns one set of outputs per image."""
        return _run(self.runtime, images, "", QUIET)


def score_file(flatbuffer: bytes, slices: RunSlices, name: str) -> ScoredFile:
    """Run a file on the calibration and test slices and calibrate it.

    Args:
        flatbuffer: Content of the file.
        slices: The slices of the run.
        name: Name for progress lines and tables.

    Raises:
        DataRejected: The calibration split cannot calibrate the file.
    """
    tensors = read_tensors(flatbuffer, slices.preprocess)
    runtime = Runtime(flatbuffer, tensors, processors())
    splits = (slices.calibration_split, "test")
    logits, embeddings, lesion_maps = {}, {}, {}
    for split in splits:
        outputs = _run(runtime, slices.images(split), f"scoring {name} on {split}", slices.progress)
        width = tensors.embedding.shape[-1]
        logits[split] = np.array([output.logits for output in outputs], np.float32).reshape(-1, 2)
        embeddings[split] = np.array([output.embedding for output in outputs], np.float32).reshape(-1, width)
        if tensors.lesion_map is not None:
            shape = tensors.lesion_map.shape[1:3]
            maps = [output.lesion_map for output in outputs]
            lesion_maps[split] = np.array(maps, np.float32).reshape(-1, *shape)
    lesions = {split: [strongest_lesion(one) for one in maps] for split, maps in lesion_maps.items()}
    calibration, cases = _calibrate(slices, logits, lesions)
    probabilities = {split: _probabilities(logits[split], lesions.get(split), calibration) for split in splits}
    return ScoredFile(
        name,
        flatbuffer,
        tensors,
        runtime,
        logits,
        embeddings,
        calibration,
        probabilities,
        lesion_maps,
        cases,
    )


def _calibrate(
    slices: RunSlices, logits: dict[str, np.ndarray], lesions: dict[str, list[float]]
) -> tuple[Calibration, CalibrationCases]:
    folds, split = slices.out_of_fold, slices.calibration_split
    if folds is None:
        name, values, labels, trusted = split, logits[split], slices.labels(split), slices.trusted(split)
        lesion = np.asarray(lesions[split]) if lesions else None
    else:
        name, values, labels, trusted = f"{folds.split} folds", folds.logits, folds.labels, folds.trusted
        lesion = folds.lesions if lesions else None
    differences = values[:, 1] - values[:, 0]
    calibration = fit_calibration(differences[trusted], labels[trusted], name)
    if slices.fuse_lesions and lesion is not None:
        calibration = fuse_lesions(calibration, differences[trusted], lesion[trusted], labels[trusted])
    return calibration, CalibrationCases(labels, _probabilities(values, lesion, calibration), trusted)


def _probabilities(
    logits: np.ndarray, lesions: Sequence[float] | np.ndarray | None, calibration: Calibration
) -> np.ndarray:
    lesions = [0.0] * len(logits) if lesions is None else lesions
    return np.array(
        [probability(values, calibration, lesion) for values, lesion in zip(logits, lesions, strict=True)], np.float64
    )


def _run(runtime: Runtime, images: np.ndarray, label: str, progress: Progress) -> list[Outputs]:
    outputs = []
    with progress.bar(label, len(images)) as on_done:
        for image in images:
            runtime.invoke(image)
            outputs.append(runtime.outputs())
            on_done(1)
    return outputs
