"""A flatbuffer run on the slices that calibrate, gate and describe it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_ct.decision import probability
from edge_ct.manifest import Calibration, Tensors
from edge_ct.runtime import Runtime, read_tensors
from edge_ct.system.host import processors

from . import calibrate
from .run_slices import Material

# What calibrates is not what is reported: metrics are those of `test`.
CALIBRATION_SPLIT = "validation"
SCORED = (CALIBRATION_SPLIT, "test")


@dataclass(frozen=True, eq=False)
class Scored:
    """A flatbuffer and what it says of the validation and test slices, by part.

    logits: float32 [n, 2]. embeddings: float32 [n, e]. probabilities: calibrated P(positive), float [n].
    """

    name: str
    flatbuffer: bytes
    tensors: Tensors
    logits: dict[str, np.ndarray]
    embeddings: dict[str, np.ndarray]
    calibration: Calibration
    probabilities: dict[str, np.ndarray]


def run_file(flatbuffer: bytes, material: Material, name: str) -> Scored:
    """Run a file on both parts and calibrate it on its own outputs. name: for progress and tables."""
    tensors = read_tensors(flatbuffer, material.preprocess)
    runtime = Runtime(flatbuffer, tensors, processors())
    logits, embeddings = {}, {}
    for part in SCORED:
        images, outputs = material.images(part), []
        with material.progress.bar(f"scoring {name}, {part}", len(images)) as on_done:
            for image in images:
                runtime.invoke(image)
                outputs.append(runtime.outputs())
                on_done(1)
        width = tensors.embedding.shape[-1]
        logits[part] = np.stack([one.logits for one in outputs]) if outputs else np.zeros((0, 2), np.float32)
        embeddings[part] = np.stack([one.embedding for one in outputs]) if outputs else np.zeros((0, width), np.float32)
    differences = logits[CALIBRATION_SPLIT][:, 1] - logits[CALIBRATION_SPLIT][:, 0]
    calibration = calibrate.fit_calibration(differences, material.labels(CALIBRATION_SPLIT), CALIBRATION_SPLIT)
    probabilities = {
        part: np.array([probability(one, calibration) for one in logits[part]], np.float64) for part in SCORED
    }
    return Scored(name, flatbuffer, tensors, logits, embeddings, calibration, probabilities)


def embeddings_of(scored: Scored, images: np.ndarray) -> np.ndarray:
    """The file's embeddings of slices, uint8 [n, s, s, 1] -> float32 [n, e]."""
    runtime = Runtime(scored.flatbuffer, scored.tensors, processors())
    found = []
    for image in images:
        runtime.invoke(image)
        found.append(runtime.outputs().embedding)
    return np.stack(found)
