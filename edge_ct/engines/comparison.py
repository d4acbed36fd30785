"""Timing the installed engines against each other with one bundle."""

from __future__ import annotations

from time import perf_counter

import msgspec
import numpy as np

from ..bundle import Bundle
from ..classifier import Classifier
from ..errors import EdgeCTError
from .names import DEFAULT_ENGINE, EngineName, describe_engine, installed_engines

_ROUNDS, _QUERIES, _WARM_UP = 9, 12, 10


class EngineTime(msgspec.Struct, frozen=True):
    """What one engine takes for one slice.

    Attributes:
        engine: Name of the engine.
        version: Its package and version.
        model_only_ms: Median of the rounds, time from a preprocessed image to outputs and probability; None for an
            engine that must not be used.
        of_litert: Median ratio of its time to that of LiteRT in the same round; None as above.
        refused: Why the engine must not be used with this bundle; None if it may be.
    """

    engine: EngineName
    version: str
    model_only_ms: float | None
    of_litert: float | None
    refused: str | None = None


def compare_engines(bundle: Bundle, threads: int = 1) -> tuple[EngineTime, ...]:
    """Time the installed engines in turns, so that other load on the machine meets all of them.

    Args:
        bundle: The bundle, which LiteRT can load.
        threads: Number of threads of one inference.

    Returns:
        One entry for each engine, LiteRT first; () if only LiteRT is installed.
    """
    names = installed_engines()
    if len(names) < 2:
        return ()
    classifiers: dict[EngineName, Classifier] = {}
    refused: dict[EngineName, str] = {}
    for name in names:
        try:
            classifiers[name] = Classifier(bundle, threads, name)
        except EdgeCTError as error:
            if name == DEFAULT_ENGINE:
                raise
            refused[name] = str(error)
    times = _measure(classifiers)
    litert = times[DEFAULT_ENGINE]
    return tuple(
        EngineTime(name, describe_engine(name), None, None, refused[name])
        if name in refused
        else EngineTime(
            name, describe_engine(name), float(np.median(times[name])), float(np.median(times[name] / litert))
        )
        for name in names
    )


def fastest_engine(times: tuple[EngineTime, ...]) -> EngineTime:
    """Return the fastest of the engines that may be used."""
    return min((time for time in times if time.of_litert is not None), key=lambda time: time.of_litert or 0.0)


def _measure(classifiers: dict[EngineName, Classifier]) -> dict[EngineName, np.ndarray]:
    """Return the median milliseconds of each round, [rounds], by engine."""
    size = next(iter(classifiers.values())).manifest.preprocess.size
    # The time does not depend on the content of the slice.
    image = np.arange(size * size, dtype=np.uint32).astype(np.uint8).reshape(size, size, 1)
    for classifier in classifiers.values():
        for _ in range(_WARM_UP):
            classifier.infer(image)
    times: dict[EngineName, list[float]] = {name: [] for name in classifiers}
    for _ in range(_ROUNDS):
        for name, classifier in classifiers.items():
            times[name].append(_median_ms(classifier, image))
    return {name: np.array(values) for name, values in times.items()}


def _median_ms(classifier: Classifier, image: np.ndarray) -> float:
    milliseconds = []
    for _ in range(_QUERIES):
        start = perf_counter()
        classifier.infer(image)
        milliseconds.append(1000 * (perf_counter() - start))
    return float(np.median(milliseconds))
