"""Training throughput of `edge-ct train` against a bare Keras `fit`: the same network, slices and kind of augmentation.

    pytest benchmarks/suites/bench_training.py -s

Both train in one process and take turns. The time of an epoch covers batches, steps and validation, and with `edge-ct
train` the checkpoint too. First epochs, which build the graph, do not count.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from edge_ct import cli
from edge_ct.dataset import Images, load, load_images
from edge_ct.preprocess import Preprocess
from edge_ct.run import SplitTable, read_split

from ..measure.training_epochs import flip_and_rotate, timed_epochs

SIZE, BATCH, EPOCHS, ROUNDS = 96, 32, 5, 3
# MobileNetV2 at a third of its width: the faster the network, the more everything else weighs.
TRAINING = ("--alpha", "0.35", "--size", str(SIZE), "--batch", str(BATCH), "--augment", "flips", "--patience", "99")
TARGET = 0.95


def bare_fit(model: Any, images: np.ndarray, labels: np.ndarray, table: SplitTable) -> None:
    """Train a model as one would without edge-ct; `images` are grey levels, float32 [n, s, s, 1]."""
    import keras

    generator = np.random.default_rng(0)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self, chosen: np.ndarray) -> None:
            super().__init__()
            self.chosen = chosen

        def __len__(self) -> int:
            return len(self.chosen) // BATCH

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            batch = self.chosen[index * BATCH : (index + 1) * BATCH]
            views = np.stack([flip_and_rotate(images[i], generator) for i in batch])
            return views[..., None] / 127.5 - 1, labels[batch]

    validation = table.where("validation")
    model.compile(
        keras.optimizers.Adam(5e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    model.fit(
        Batches(table.where("train")),
        validation_data=(images[validation] / 127.5 - 1, labels[validation]),
        epochs=EPOCHS,
        verbose=0,
    )


def load_slices(data: Path) -> tuple[Images, np.ndarray]:
    """Return every slice in memory, and its label."""
    dataset = load(data)
    return load_images(dataset, Preprocess(SIZE)), dataset.labels.astype(np.int32)


def compare(folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each epoch of `edge-ct train` and of the bare `fit`; runs are written to `folder`."""
    import keras

    data = folder / "phantoms"
    shape = ("--patients", "300", "--slices", "2", "--size", str(SIZE))
    assert cli.run(["data", "synth", str(data), *shape]) == 0
    images, labels = load_slices(data / "slices.csv")
    floats = images.images.astype(np.float32)
    seconds: dict[str, list[float]] = {"edge-ct train": [], "bare fit": []}
    for number in range(ROUNDS):
        run = folder / f"run-{number}"
        command = ["train", "mobilenetv2", "--data", str(data / "slices.csv"), *TRAINING, "--out", str(run)]
        with timed_epochs() as found:
            assert cli.run([*command, "--epochs", str(EPOCHS)]) == 0
        seconds["edge-ct train"] += [epoch.wall for epoch in found]
        model = keras.saving.load_model(run / "model.keras", compile=False)
        with timed_epochs() as found:
            bare_fit(keras.Model.from_config(model.get_config()), floats, labels, read_split(run / "split.csv"))
        seconds["bare fit"] += [epoch.wall for epoch in found]
    return seconds


@pytest.mark.slow
def test_training_keeps_up_with_a_bare_fit(tmp_path: Path) -> None:
    """Compare throughputs by medians, because both took turns under the same disturbances."""
    seconds = compare(tmp_path)
    n = len(read_split(tmp_path / "run-0" / "split.csv").where("train")) // BATCH * BATCH
    for name, found in seconds.items():
        print(f"{name:<14}{n / median(found):8.1f} slices/s (best {n / min(found):.1f}; {len(found)} epochs of {n})")
    ratio = median(seconds["bare fit"]) / median(seconds["edge-ct train"])
    print(
        json.dumps(
            {
                "ratio": round(ratio, 3),
                "ratio_of_best": round(min(seconds["bare fit"]) / min(seconds["edge-ct train"]), 3),
            }
        )
    )
    assert ratio >= TARGET
