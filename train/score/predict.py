"""Probabilities predicted by trained runs, in Keras at full precision."""

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


def predict_images(model: Any, preprocess: Preprocess, images: np.ndarray, progress: Progress = QUIET) -> np.ndarray:
    """Predict slices with a model.

    Args:
        model: Keras model with two logits.
        preprocess: Preprocessing of the network.
        images: Preprocessed slices, uint8 [n, s, s, 1].
        progress: Where to report progress.

    Returns:
        Uncalibrated P(positive), the softmax of the two logits, float64 [n].
    """
    logits = []
    with progress.bar("scoring", len(images)) as on_done:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            outputs = model.predict_on_batch(preprocess.normalise(batch))
            # A network with a lesion map has two outputs.
            logits.append(keras.ops.convert_to_numpy(outputs[0] if isinstance(outputs, list | tuple) else outputs))
            on_done(len(batch))
    difference = np.diff(np.concatenate(logits).astype(np.float64), axis=1)[:, 0]
    return 1 / (1 + np.exp(-difference))


def predict_run(run: Run, dataset: Dataset, progress: Progress = QUIET) -> np.ndarray:
    """Predict a data set with a run; return P(positive), float64 [n]. The members of an ensemble are combined."""
    return combine_members(run, predict_members(run, dataset, progress))


def predict_members(run: Run, dataset: Dataset, progress: Progress = QUIET) -> np.ndarray:
    """Predict a data set with each member of a run: P(positive), float64 [m, n], with m = 1 for a network."""
    members = []
    for member in run.members():
        model = member.load_model(partial(keras.saving.load_model, compile=False))
        with progress.bar("reading slices", len(dataset)) as on_done:
            images = load_images(dataset, member.info.preprocess, on_done)
        members.append(predict_images(model, member.info.preprocess, images.images, progress))
    return np.stack(members)


def combine_members(run: Run, members: np.ndarray) -> np.ndarray:
    """Combine the predictions of the members by the run's rule.

    "mean" is the mean of the softmax outputs, weighted if the run has weights. "vote" is the fraction of members that
    predict positive; with an even number, half of them are enough, because a missed case is worse than a false alarm.

    Args:
        run: The run that the members belong to.
        members: P(positive) of each member, float [m, n].

    Returns:
        P(positive), float64 [n].
    """
    if run.info.rule == "vote":
        return np.asarray((members >= 0.5).mean(axis=0))
    return np.asarray(np.average(members, axis=0, weights=run.info.weights or None))
