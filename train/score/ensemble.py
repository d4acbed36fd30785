"""Several runs as one: the mean of their softmax outputs, or their majority vote, as in the seed study."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.errors import DataRejected
from edge_ct.manifest import Network
from edge_ct.metrics import SMALLEST, Scores
from edge_ct.run import Rule, Run, RunInfo, SplitTable, load_finished_run, save_run_info, write_seen_slices, write_split
from edge_ct.system.files import fresh_folder, refuse_existing
from edge_ct.system.progress import QUIET, Progress

from . import predict, run_scores, seed_study_table
from .seed_study_table import Row

# How many slices' worth of evidence the belief in equal weights is. Of simulated members of equal merit, weights fitted
# on 100 to 300 slices without it cost about a point of accuracy; with it, at most 0.06. Where one member is far better
# than the others, nine tenths of what fitting gains is left.
PRIOR = 10.0


def create(
    members: Sequence[Path],
    out: Path,
    rule: Rule = "mean",
    fit: bool = False,
    data: Path | None = None,
    force: bool = False,
    progress: Progress = QUIET,
) -> Run:
    """Combine finished runs of one split of one dataset into an ensemble run at `out`.

    fit: find the weights of the mean on the validation part. data: where the runs' slices are, if they have moved.
    Raises `DataRejected` where the members were not trained on the same split of the same slices.
    """
    refuse_existing(out, force)
    opened = _open(members, out)
    if fit and rule == "vote":
        raise DataRejected("weights belong to a mean; a vote has none")
    first, table = opened[0], opened[0].split()
    dataset = first.dataset(data)
    probabilities = np.concatenate([predict.member_probabilities(run, dataset, progress) for run in opened])
    weights = fit_weights(*_validation(table, probabilities)) if fit else ()
    info = msgspec.structs.replace(
        first.info,
        kind="ensemble",
        network=Network("ensemble", None, sum(run.info.network.parameters for run in opened)),
        options={"members": [run.name for run in opened]},
        members=tuple(os.path.relpath(run.folder.resolve(), out.resolve()) for run in opened),
        rule=rule,
        weights=weights,
        finished=True,
    )
    run = Run(out, info)
    combined = predict.combine(run, probabilities)
    fresh_folder(out, "run.json")
    write_split(out / "split.csv", table)
    write_seen_slices(out, first.seen())
    scores = run_scores.write(out, table, combined, info)
    rows = [
        _row(member, weight, run_scores.score_parts(table, own))
        for member, weight, own in zip(opened, weights or (None,) * len(opened), probabilities, strict=True)
    ]
    seed_study_table.write(out, [*rows, _row(run, None, scores.parts)], _caption(info, scores.parts))
    save_run_info(out, info)
    return run


def _open(members: Sequence[Path], out: Path) -> list[Run]:
    if len(members) < 2:
        raise DataRejected("an ensemble needs at least two runs")
    opened = [load_finished_run(folder) for folder in members]
    first, known, named = opened[0], opened[0].known(), set[Path]()
    for run in opened:
        if run.info.kind == "ensemble":
            raise DataRejected(f"{run.folder}: is an ensemble itself; name its members")
        if run.folder.resolve() in named:
            raise DataRejected(f"{run.folder}: is named twice")
        if run.folder.resolve() == out.resolve():
            raise DataRejected(f"{out}: is one of the members; give the ensemble another --out")
        if run.info.classes != first.info.classes:
            raise DataRejected(f"{run.folder}: classes {run.info.classes}, not {first.info.classes}")
        if run.known() != known:
            raise DataRejected(f"{run.folder}: another split than {first.folder}; train both with the same seed")
        named.add(run.folder.resolve())
    return opened


def _validation(table: SplitTable, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    part = table.where("validation")
    return table.labels[part], probabilities[:, part]


def fit_weights(labels: np.ndarray, members: np.ndarray, prior: float = PRIOR) -> tuple[float, ...]:
    """Weights of a mean of P(positive), float [m, n], under which labels, 0 or 1 [n], are likeliest; they sum to 1.

    The mean is a mixture of the members: its weights are found by expectation maximisation (Dempster et al. 1977),
    under a Dirichlet prior that is worth `prior` slices shared equally, so that few slices do not carry them away.
    """
    likelihoods = np.maximum(np.where(labels == 1, members, 1 - members), SMALLEST)
    count, n = likelihoods.shape
    weights = np.full(count, 1 / count)
    for _ in range(10_000):
        shares = weights[:, np.newaxis] * likelihoods
        before, weights = weights, ((shares / shares.sum(axis=0)).sum(axis=1) + prior / count) / (n + prior)
        if np.abs(weights - before).max() < 1e-9:
            break
    return tuple(weights.tolist())


def _row(run: Run, weight: float | None, parts: dict[str, Scores]) -> Row:
    network = run.info.network
    return Row(run.name, network.architecture, run.info.preprocess.size, network.parameters, weight, parts)


def _caption(info: RunInfo, parts: dict[str, Scores]) -> str:
    rule = "majority vote" if info.rule == "vote" else "mean of softmax"
    if info.weights:
        rule += f", weights {', '.join(f'{weight:.3f}' for weight in info.weights)} fitted on the validation part"
    return (
        f"{info.data.name}, {info.data.split} split, seed {info.data.seed}; n = {parts['train'].n} training, "
        f"{parts['test'].n} test slices; at probability 0.5, 95 % intervals in brackets. Ensemble: {rule}. "
        "Published: the seed study's figures, random split."
    )
