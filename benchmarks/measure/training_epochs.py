"""Time of the epochs of a Keras training, and the augmentation of the bare trainings that it is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any, NamedTuple

import cv2
import numpy as np


class EpochTime(NamedTuple):
    """What an epoch took, in seconds: by the clock, and of the processors."""

    wall: float
    cpu: float


@contextmanager
def timed_epochs() -> Iterator[list[EpochTime]]:
    """Yield a list to which every Keras `fit` in this context adds the times of its epochs, except the first.

    The first epoch builds the graph.
    """
    import keras

    times: list[EpochTime] = []
    fit = keras.Model.fit

    class Timer(keras.callbacks.Callback):  # type: ignore[misc]
        ended: EpochTime | None = None

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            now = EpochTime(perf_counter(), process_time())
            if self.ended is not None:
                times.append(EpochTime(now.wall - self.ended.wall, now.cpu - self.ended.cpu))
            self.ended = now

    def timed(self: Any, *arguments: Any, callbacks: Any = (), **options: Any) -> Any:
        return fit(self, *arguments, callbacks=[*callbacks, Timer()], **options)

    keras.Model.fit = timed
    try:
        yield times
    finally:
        keras.Model.fit = fit


def flip_and_rotate(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Flip an image, float32 [s, s, 1], at random and rotate it by up to 15 degrees; returns float32 [s, s]."""
    size = len(image)
    turn = cv2.getRotationMatrix2D((size / 2 - 0.5,) * 2, generator.uniform(-15, 15), 1)
    image = cv2.warpAffine(image[:, :, 0], turn, (size, size), borderMode=cv2.BORDER_REPLICATE)
    for axis in (0, 1):
        if generator.random() < 0.5:
            image = cv2.flip(image, axis)
    return image
