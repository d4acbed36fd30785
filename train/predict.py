"""Probabilities of trained runs, in Keras, at full precision."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from edge_ct import quiet
from edge_ct.dataset import Dataset, load_images
from edge_ct.preprocess import Preprocess
from edge_ct.progress import QUIET, Progress
from edge_ct.run import Run

with quiet.native_stderr():
    import keras

BATCH = 64


def probabilities(model: Any, preprocess: Preprocess, images: np.ndarray, progress: Progress = QUIET) -> np.ndarray:
    """Uncalibrated P(positive), float64 [n], of images uint8 [n, s, s, 1]: softmax of the two logits."""
    logits = []
    with progress.bar("scoring", len(images)) as on_done:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            logits.append(keras.ops.convert_to_numpy(model.predict_on_batch(preprocess.normalise(batch))))
            on_done(len(batch))
    difference = np.diff(np.concatenate(logits).astype(np.float64), axis=1)[:, 0]
    return 1 / (1 + np.exp(-difference))


def run_probabilities(run: Run, dataset: Dataset, progress: Progress = QUIET) -> np.ndarray:
    """P(positive), float64 [n], of a run; of an ensemble, its members' combined."""
    members = []
    for member in run.members():
        model = member.load_model(partial(keras.saving.load_model, compile=False))
        with progress.bar("reading slices", len(dataset)) as on_done:
            images = load_images(dataset, member.info.preprocess, on_done)
        members.append(probabilities(model, member.info.preprocess, images.images, progress))
    return combine(run, np.stack(members))


def combine(run: Run, members: np.ndarray) -> np.ndarray:
    """P(positive), float64 [n], of a run whose members gave these, float [m, n]: the mean of their softmax."""
    return np.asarray(members.mean(axis=0))
