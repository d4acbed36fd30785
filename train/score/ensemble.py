"""Several runs combined into one: the mean of their softmax outputs, or their majority vote, as in the seed study."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.errors import DataRejected
from edge_ct.manifest import Network
from edge_ct.metrics import SMALLEST, Scores
from edge_ct.run import Rule, Run, RunInfo, load_finished_run, save_run_info, write_seen_slices, write_split
from edge_ct.system.files import fresh_folder, refuse_existing
from edge_ct.system.progress import QUIET, Progress

from .predict import combine_members, predict_members
from .run_scores import score_parts, write_run_scores
from .seed_study_table import SeedStudyRow, write_table

# The weight of the prior, in slices. With simulated members of equal merit, weights fitted on 100 to 300 slices without
# a prior cost about one percentage point of accuracy; with it, at most 0.06. Where one member is far better than the
# others, the prior keeps nine tenths of what fitting gains.
PRIOR = 10.0


def create_ensemble(
    members: Sequence[Path],
    out: Path,
    rule: Rule = "mean",
    fit: bool = False,
    data: Path | None = None,
    force: bool = False,
    progress: Progress = QUIET,
) -> Run:
    """Combine finished runs that share one split of one data set into an ensemble.

    Args:
        members: Run folders.
        out: Run folder of the ensemble.
        rule: "mean" of the softmax outputs, or majority "vote".
        fit: True to fit the weights of the mean on the validation slices.
        data: Where the slices of the runs are, if they have moved.
        force: True to replace what is at `out`.
        progress: Where to report progress.

    Raises:
        DataRejected: The members were not trained on the same split of the same slices.
    """
    refuse_existing(out, force)
    runs = _open_members(members, out)
    if fit and rule == "vote":
        raise DataRejected("a vote has no weights to fit; use the rule 'mean'")
    first, table = runs[0], runs[0].split()
    dataset = first.dataset(data)
    probabilities = np.concatenate([predict_members(run, dataset, progress) for run in runs])
    validation = table.where("validation")
    weights = fit_weights(table.labels[validation], probabilities[:, validation]) if fit else ()
    info = msgspec.structs.replace(
        first.info,
        kind="ensemble",
        network=Network("ensemble", None, sum(run.info.network.parameters for run in runs)),
        options={"members": [run.name for run in runs]},
        members=tuple(os.path.relpath(run.folder.resolve(), out.resolve()) for run in runs),
        rule=rule,
        weights=weights,
        finished=True,
    )
    combined_run = Run(out, info)
    combined = combine_members(combined_run, probabilities)
    fresh_folder(out, "run.json")
    write_split(out / "split.csv", table)
    write_seen_slices(out, first.seen())
    scores = write_run_scores(out, table, combined, info)
    rows = [
        _row(member, weight, score_parts(table, predicted))
        for member, weight, predicted in zip(runs, weights or (None,) * len(runs), probabilities, strict=True)
    ]
    write_table(out, [*rows, _row(combined_run, None, scores.parts)], _caption(info, scores.parts))
    save_run_info(out, info)
    return combined_run


def _open_members(members: Sequence[Path], out: Path) -> list[Run]:
    if len(members) < 2:
        raise DataRejected("an ensemble needs at least two runs")
    runs = [load_finished_run(folder) for folder in members]
    first, known, folders = runs[0], runs[0].known(), set[Path]()
    for run in runs:
        folder = run.folder.resolve()
        if run.info.kind == "ensemble":
            raise DataRejected(f"{run.folder}: is an ensemble itself; name its members instead")
        if folder in folders:
            raise DataRejected(f"{run.folder}: is named twice")
        if folder == out.resolve():
            raise DataRejected(f"{out}: is one of the members; choose another --out for the ensemble")
        if run.info.classes != first.info.classes:
            raise DataRejected(
                f"{run.folder}: its classes are {' and '.join(run.info.classes)}, those of {first.folder} are "
                f"{' and '.join(first.info.classes)}"
            )
        if run.known() != known:
            raise DataRejected(
                f"{run.folder}: was trained on another split than {first.folder}; train both with the same --seed"
            )
        folders.add(folder)
    return runs


def fit_weights(labels: np.ndarray, members: np.ndarray, prior: float = PRIOR) -> tuple[float, ...]:
    """Fit the weights of a mean of probabilities by maximum likelihood.

    The mean is a mixture of the members, so its weights are found by expectation maximisation (Dempster et al. 1977).
    A Dirichlet prior that counts as `prior` slices, shared equally, keeps a few slices from deciding the weights.

    Args:
        labels: 0 or 1 [n].
        members: P(positive) of each member, float [m, n].
        prior: Weight of the prior, in slices.

    Returns:
        m weights that sum to 1.
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


def _row(run: Run, weight: float | None, parts: dict[str, Scores]) -> SeedStudyRow:
    network = run.info.network
    return SeedStudyRow(run.name, network.architecture, run.info.preprocess.size, network.parameters, weight, parts)


def _caption(info: RunInfo, parts: dict[str, Scores]) -> str:
    rule = "majority vote" if info.rule == "vote" else "mean of softmax"
    if info.weights:
        rule += f", weights {', '.join(f'{weight:.3f}' for weight in info.weights)} fitted on the validation slices"
    return (
        f"{info.data.name}, {info.data.split} split, seed {info.data.seed}; n = {parts['train'].n} training, "
        f"{parts['test'].n} test slices; decisions at probability 0.5, 95 % intervals in brackets. Ensemble: {rule}. "
        "Published: figures of the seed study, which used a random split."
    )
