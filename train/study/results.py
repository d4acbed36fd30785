"""Results of the jobs of a study and what follows for each network: means with intervals, and pooled decisions.

Intervals of means are those of Garg et al. 2020: Student's t over the runs (rounds x folds) of a network. Runs share
most of their slices, so these intervals are narrower than the variation on new data. Pooled out-of-fold decisions have
Wilson intervals, where n is the number of slices, however often each was tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from statsmodels.stats.weightstats import DescrStatsW

from edge_ct.manifest import Estimate
from edge_ct.metrics import wilson
from edge_ct.reporting.counts import count_of
from edge_ct.run import load_run

from ..published_results import METRICS
from ..score.run_scores import RunScores
from ..zoo.architectures import find

POOLED = ("accuracy", "sensitivity", "precision", "specificity")


class JobResult(msgspec.Struct, frozen=True):
    """Result of one job, a row of results.csv. Metrics are of the test split, at probability 0.5."""

    network: str
    round: int
    fold: int
    seed: int
    parameters: int
    train: int
    validation: int
    test: int
    tp: int
    fp: int
    tn: int
    fn: int
    accuracy: float | None
    f1: float | None
    sensitivity: float | None
    precision: float | None
    specificity: float | None
    auc: float | None
    loss: float | None
    train_accuracy: float | None
    validation_accuracy: float | None


class MeanEstimate(msgspec.Struct, frozen=True):
    """Mean of a metric over runs.

    Attributes:
        value: The mean; None if no run defines the metric.
        half: Half the width of the 95 % interval; None for a single run.
        runs: Number of runs in which the metric is defined.
    """

    value: float | None
    half: float | None
    runs: int


class NetworkResult(msgspec.Struct, frozen=True):
    """Results of one network.

    Attributes:
        network: Name of the network.
        family: Family of networks.
        modified: True for the Modified head.
        parameters: Number of weights.
        runs: Number of finished jobs.
        n: Number of slices with a pooled decision.
        means: Mean of each metric over the runs.
        pooled: Metrics of the pooled decisions; precision rests on the slices predicted positive only.
    """

    network: str
    family: str
    modified: bool
    parameters: int
    runs: int
    n: int
    means: dict[str, MeanEstimate]
    pooled: dict[str, Estimate]


@dataclass(frozen=True)
class StudyTable:
    """All results of a study.

    Attributes:
        name: Name of the data set.
        n: Number of slices.
        split: "random" or "grouped".
        folds: Number of folds; 0 for a single split.
        rounds: Number of rounds.
        results: One result per finished job.
    """

    name: str
    n: int
    split: str
    folds: int
    rounds: int
    results: tuple[JobResult, ...]

    def rows(self) -> tuple[NetworkResult, ...]:
        """Return a row for each network that has results, in the order of the study."""
        names = dict.fromkeys(result.network for result in self.results)
        return tuple(_row(name, [result for result in self.results if result.network == name]) for name in names)

    @property
    def design(self) -> str:
        """Design of the study, such as `5 folds, 10 rounds, random split, 1985 slices of sars-cov-2-ct`."""
        folds = f"{self.folds} folds" if self.folds else "a single split"
        rounds = f", {self.rounds} rounds" if self.rounds > 1 else ""
        return f"{folds}{rounds}, {self.split} split, {count_of(self.n, 'slice')} of {self.name}"


def read_result(folder: Path, network: str, number: int, fold: int) -> JobResult:
    """Read the result of a finished run."""
    scores = msgspec.json.decode((folder / "metrics.json").read_bytes(), type=RunScores)
    train, validation, test = (scores.parts[part] for part in ("train", "validation", "test"))
    counts = test.confusion
    return JobResult(
        network=network,
        round=number,
        fold=fold,
        seed=scores.seed,
        parameters=load_run(folder).info.network.parameters,
        train=train.n,
        validation=validation.n,
        test=test.n,
        tp=counts.tp,
        fp=counts.fp,
        tn=counts.tn,
        fn=counts.fn,
        accuracy=test.accuracy.value,
        f1=test.f1.value,
        sensitivity=test.sensitivity.value,
        precision=test.precision.value,
        specificity=test.specificity.value,
        auc=test.auc.value,
        loss=test.loss.value,
        train_accuracy=train.accuracy.value,
        validation_accuracy=validation.accuracy.value,
    )


def estimate_mean(values: Iterable[float | None]) -> MeanEstimate:
    """Return the mean of the defined values with its 95 % t-interval, whose width is 0 for equal values."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return MeanEstimate(None, None, 0)
    value = float(known.mean())
    if len(known) < 2:
        return MeanEstimate(value, None, 1)
    if np.ptp(known) == 0:
        return MeanEstimate(value, 0.0, len(known))
    low, high = DescrStatsW(known).tconfint_mean(0.05)
    return MeanEstimate(value, float(high - low) / 2, len(known))


def _row(network: str, results: Sequence[JobResult]) -> NetworkResult:
    architecture = find(network)
    names = (*METRICS, "auc", "loss", "train_accuracy", "validation_accuracy")
    rounds: dict[int, np.ndarray] = {}
    for result in results:
        rounds.setdefault(result.round, np.zeros(4))
        rounds[result.round] += (result.tp, result.fp, result.tn, result.fn)
    # A slice that is tested in ten rounds is still one slice: counts are averaged over rounds, not summed.
    tp, fp, tn, fn = np.mean(list(rounds.values()), axis=0).tolist()
    pooled = ((tp + tn, tp + fp + tn + fn), (tp, tp + fn), (tp, tp + fp), (tn, tn + fp))
    return NetworkResult(
        network,
        architecture.family,
        architecture.modified,
        results[0].parameters,
        len(results),
        round(tp + fp + tn + fn),
        {name: estimate_mean(getattr(result, name) for result in results) for name in names},
        {name: wilson(*counts) for name, counts in zip(POOLED, pooled, strict=True)},
    )
