"""What the jobs of a study found, and what follows for a network: means with intervals, and pooled decisions.

Intervals of means are those of Garg et al. 2020: Student's t over the runs (rounds x folds) of a network. Runs share
most of their slices, so these are narrower than what new data would show. Pooled out-of-fold decisions have Wilson
intervals, n being the number of slices, however often each was tested.
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
from edge_ct.run import load_run

from ..published_results import METRICS
from ..score.run_scores import RunScores
from ..zoo import build

POOLED = ("accuracy", "sensitivity", "precision", "specificity")


class Result(msgspec.Struct, frozen=True):
    """One job: a row of results.csv. Metrics are of the test part at probability 0.5; loss is the cross-entropy."""

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


class Mean(msgspec.Struct, frozen=True):
    """A mean over runs and the half width of its 95 % interval, None for a single run. runs: in which it is defined."""

    value: float | None
    half: float | None
    runs: int


class Row(msgspec.Struct, frozen=True):
    """One network. n: slices that a pooled figure rests on (of precision: those called positive)."""

    network: str
    family: str
    modified: bool
    parameters: int
    runs: int
    n: int
    means: dict[str, Mean]
    pooled: dict[str, Estimate]


@dataclass(frozen=True)
class Table:
    """All results of a study. slices: the dataset's name and size; split: random or grouped; folds: 0 for none."""

    name: str
    n: int
    split: str
    folds: int
    rounds: int
    results: tuple[Result, ...]

    def rows(self) -> tuple[Row, ...]:
        """One a network that has results, in the order of the study."""
        names = dict.fromkeys(result.network for result in self.results)
        return tuple(_row(name, [result for result in self.results if result.network == name]) for name in names)

    @property
    def design(self) -> str:
        """`5 folds, 10 rounds, random split, 1985 slices of sars-cov-2-ct`."""
        folds = f"{self.folds} folds" if self.folds else "a single split"
        rounds = f", {self.rounds} rounds" if self.rounds > 1 else ""
        return f"{folds}{rounds}, {self.split} split, {self.n} slices of {self.name}"


def of_run(folder: Path, network: str, number: int, fold: int) -> Result:
    """The row of a finished run."""
    scores = msgspec.json.decode((folder / "metrics.json").read_bytes(), type=RunScores)
    tested, counts = scores.parts["test"], scores.parts["test"].confusion
    return Result(
        network,
        number,
        fold,
        scores.seed,
        load_run(folder).info.network.parameters,
        scores.parts["train"].n,
        scores.parts["validation"].n,
        tested.n,
        counts.tp,
        counts.fp,
        counts.tn,
        counts.fn,
        *(getattr(tested, name).value for name in METRICS),
        tested.auc.value,
        tested.loss.value,
        scores.parts["train"].accuracy.value,
        scores.parts["validation"].accuracy.value,
    )


def mean(values: Iterable[float | None]) -> Mean:
    """Mean of the defined values and its 95 % t-interval; of equal values the interval has no width."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return Mean(None, None, 0)
    value = float(known.mean())
    if len(known) < 2:
        return Mean(value, None, 1)
    if np.ptp(known) == 0:
        return Mean(value, 0.0, len(known))
    low, high = DescrStatsW(known).tconfint_mean(0.05)
    return Mean(value, float(high - low) / 2, len(known))


def _row(network: str, results: Sequence[Result]) -> Row:
    architecture = build.find(network)
    names = (*METRICS, "auc", "loss", "train_accuracy", "validation_accuracy")
    rounds: dict[int, np.ndarray] = {}
    for one in results:
        rounds.setdefault(one.round, np.zeros(4))
        rounds[one.round] += (one.tp, one.fp, one.tn, one.fn)
    # A slice that ten rounds test is one slice: counts are averaged over rounds, not added up.
    tp, fp, tn, fn = np.mean(list(rounds.values()), axis=0).tolist()
    pooled = ((tp + tn, tp + fp + tn + fn), (tp, tp + fn), (tp, tp + fp), (tn, tn + fp))
    return Row(
        network,
        architecture.family,
        architecture.modified,
        results[0].parameters,
        len(results),
        round(tp + fp + tn + fn),
        {name: mean(getattr(one, name) for one in results) for name in names},
        {name: wilson(*counts) for name, counts in zip(POOLED, pooled, strict=True)},
    )
