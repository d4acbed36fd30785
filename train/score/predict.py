"""Probabilities of trained runs, in Keras, at full precision."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from edge_ct.dataset import Dataset, load_images
from edge_ct.preprocess import Preprocess
from edge_ct.run import Run
from edge_ct.system import native_output
from edge_ct.system.progress import QUIET, Progress

with native_output.captured_native_stderr():
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
    return combine(run, member_probabilities(run, dataset, progress))


def member_probabilities(run: Run, dataset: Dataset, progress: Progress = QUIET) -> np.ndarray:
    """P(positive), float64 [m, n], of each member of an ensemble; m is 1 for a network."""
    members = []
    for member in run.members():
        model = member.load_model(partial(keras.saving.load_model, compile=False))
        with progress.bar("reading slices", len(dataset)) as on_done:
            images = load_images(dataset, member.info.preprocess, on_done)
        members.append(probabilities(model, member.info.preprocess, images.images, progress))
    return np.stack(members)


def combine(run: Run, members: np.ndarray) -> np.ndarray:
    """P(positive), float64 [n], of a run whose members gave these, float [m, n].

    The mean of their softmax outputs, weighted where the run has weights; or the share of those that say positive. Of
    an even number, half is enough: a missed case is worse than a false alarm.
    """
    if run.info.rule == "vote":
        return np.asarray((members >= 0.5).mean(axis=0))
    return np.asarray(np.average(members, axis=0, weights=run.info.weights or None))
