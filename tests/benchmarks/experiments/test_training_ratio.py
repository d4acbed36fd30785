"""The training ratio: its arithmetic, its targets, and the times of epochs by an invented clock."""

import numpy as np
import pytest

from edge_ct.benchmarks.experiments import training_ratio
from edge_ct.benchmarks.measure import training_epochs


def test_the_ratio_is_the_median_over_rounds_of_the_ratio_of_medians() -> None:
    """A slow epoch, or load that meets one whole round, changes nothing."""
    bare = [[1.0, 1.0, 9.0], [6.0, 6.0, 6.0], [0.9, 0.9, 0.9]]
    trained = [[1.25, 1.25, 1.25], [7.5, 70.0, 7.5], [9.0, 9.0, 9.0]]
    assert training_ratio.ratio_of_rounds(bare, trained) == 0.8


def test_masks_of_the_bare_training_are_those_of_the_phantoms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_ratio, "LESION_PATIENTS", 4)
    images, targets = training_ratio.lesion_phantoms()
    assert images.shape == (4, 96, 96, 1)
    assert targets.shape == (4, 12, 12, 2)
    assert (targets[..., 1] == 1).all()
    lesion = targets[..., 0].sum((1, 2))
    assert lesion[[0, 2]].tolist() == [0, 0]
    assert (lesion[[1, 3]] > 0.5).all()


def test_the_first_epoch_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = pytest.importorskip("keras")
    clocks = {"wall": iter([10.0, 12.0, 15.0]), "cpu": iter([100.0, 103.0, 107.0])}
    monkeypatch.setattr(training_epochs, "perf_counter", lambda: next(clocks["wall"]))
    monkeypatch.setattr(training_epochs, "process_time", lambda: next(clocks["cpu"]))

    def fit(self: object, epochs: int, callbacks: list[object]) -> None:
        for epoch in range(epochs):
            for callback in callbacks:
                callback.on_epoch_end(epoch)  # type: ignore[attr-defined]

    monkeypatch.setattr(keras.Model, "fit", fit)
    with training_epochs.timed_epochs() as times:
        keras.Model().fit(epochs=3)
    assert times == [(2.0, 3.0), (3.0, 4.0)]
    assert keras.Model.fit is fit


def test_bare_augmentation_keeps_the_greys_of_a_flat_slice() -> None:
    flat = np.full((96, 96, 1), 77, np.float32)
    assert (training_epochs.flip_and_rotate(flat, np.random.default_rng(0)) == 77).all()
