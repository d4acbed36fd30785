"""`edge-ct train` for a study of many trainings: its options, how it is run, and what it prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_ct.errors import EdgeCTError
from edge_ct.reporting.counts import count_of
from edge_ct.system.cluster_command_options import cluster_address
from edge_ct.system.progress import Progress, print_json

from ..zoo.architectures import expand_networks

if TYPE_CHECKING:
    from ..fitting.options import TrainingOptions
    from .runner import Runner


class NetworkNames(click.ParamType[tuple[str, ...]]):
    """Name of a network or of a group of networks; for an unknown name, the error suggests the nearest ones."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[str, ...]:
        """Return the names of the networks (called by click)."""
        try:
            return value if isinstance(value, tuple) else expand_networks(value.lower())
        except EdgeCTError as error:
            self.fail(str(error), param, context)


_OPTIONS = {
    "folds": click.option(
        "--folds",
        type=click.IntRange(2, 100),
        help="Number of folds in cross-validation; each fold is the test split of one training. Makes --out a study.",
    ),
    "fold": click.option(
        "--fold",
        type=click.IntRange(1, 100),
        help="Train only this fold of the --folds, counted from 1, as an ordinary run at --out that keeps its model.",
    ),
    "rounds": click.option(
        "--rounds",
        type=click.IntRange(1, 1000),
        default=1,
        show_default=True,
        help="Number of times that all slices are split anew. More than one makes --out a study.",
    ),
    "keep_models": click.option(
        "--keep-models/--no-keep-models",
        default=None,
        help="Keep model.keras of each training in a study, so that it can be converted or combined; scores, "
        "predictions and histories are always kept. By default models are kept if there are no folds.",
    ),
    "cpus_per_job": click.option(
        "--cpus-per-job",
        type=click.IntRange(1),
        help="Number of processors for each training of a study; by default all of this machine.",
    ),
    "cluster": click.option(
        "--cluster",
        metavar="auto|HOST:PORT",
        help="Distribute a study with Ray over the cluster at this address; auto: the cluster in RAY_ADDRESS, or if "
        "that is not set, this machine.",
    ),
    "gpus_per_job": click.option(
        "--gpus-per-job",
        type=click.FloatRange(0),
        help="With --cluster: number of GPUs for each training, which may be a fraction; by default 1 if the cluster "
        "has GPUs.",
    ),
    "memory_per_job": click.option(
        "--memory-per-job",
        type=click.FloatRange(0, min_open=True),
        help="With --cluster: memory to reserve for each training, in GiB.",
    ),
    "dry_run": click.option(
        "--dry-run",
        is_flag=True,
        help="Do not train: list the trainings of a study and estimate the hours they take on this machine, from a "
        "few measured steps of each network.",
    ),
}


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a study to a command."""
    for option in reversed(_OPTIONS.values()):
        command = option(command)
    return command


def take_study_options(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the options of a study from the values of a command's options and return them."""
    return {name: options.pop(name) for name in _OPTIONS}


def single_fold_options(networks: Iterable[str], values: dict[str, Any]) -> dict[str, int]:
    """Return --folds and --fold as options of a single training; {} without --fold.

    Raises:
        click.UsageError: The fold does not exist, or the other options ask for more than one training.
    """
    folds, fold = values["folds"], values["fold"]
    if fold is None:
        return {}
    if folds is None or fold > folds:
        raise click.UsageError(f"--fold {fold} needs --folds of at least {fold}")
    if len(set(networks)) != 1 or is_study(networks, {**values, "folds": None}):
        raise click.UsageError("--fold trains one network; it does not go with other networks, rounds or clusters")
    return {"folds": folds, "fold": fold}


def is_study(networks: Iterable[str], values: dict[str, Any]) -> bool:
    """Return True if the options ask for more than a single training.

    Raises:
        click.UsageError: An option has no effect without another one.
    """
    if values["cluster"] is None and (values["gpus_per_job"] is not None or values["memory_per_job"] is not None):
        raise click.UsageError("--gpus-per-job and --memory-per-job need --cluster")
    study = len(set(networks)) > 1 or values["rounds"] > 1 or any(values[n] for n in ("folds", "cluster", "dry_run"))
    if not study and (values["keep_models"] is not None or values["cpus_per_job"] is not None):
        raise click.UsageError(
            "--keep-models and --cpus-per-job are for a study: name several networks, --folds or --rounds"
        )
    return study


def run_study(
    networks: tuple[str, ...],
    data: Path,
    out: Path,
    options: TrainingOptions,
    force: bool,
    as_json: bool,
    values: dict[str, Any],
) -> None:
    """Run a study and print its table.

    Args:
        networks: Networks to train.
        data: Folder or CSV of slices.
        out: Folder of the study.
        options: Options of every training; network, seed and fold are replaced.
        force: True to replace another study at `out`.
        as_json: True to print JSON.
        values: Values of the study's own options, from `take_study_options`.
    """
    from . import runner, tables

    folds, rounds, cpus = values["folds"] or 0, values["rounds"], values["cpus_per_job"]
    if values["dry_run"]:
        _print_estimate(networks, data, options, folds, rounds, cpus, as_json)
        return
    table = runner.run_study(
        data,
        out,
        networks,
        options,
        folds,
        rounds,
        force,
        values["keep_models"],
        cpus,
        Progress(),
        _cluster_runner(values) if values["cluster"] else None,
    )
    if as_json:
        print_json({"study": str(out), **tables.to_builtins(table)})
        return
    click.echo(tables.format_plain(table))
    click.echo(f"{out / 'tables'}: table.md, table.csv and table.tex with the papers' figures; results.csv, times.csv")


def _cluster_runner(values: dict[str, Any]) -> Runner:
    address = cluster_address(values["cluster"])
    from .cluster import cluster_runner

    return cluster_runner(address, values["gpus_per_job"], values["memory_per_job"])


def _print_estimate(
    networks: tuple[str, ...],
    data: Path,
    options: TrainingOptions,
    folds: int,
    rounds: int,
    cpus: int | None,
    as_json: bool,
) -> None:
    from .estimate import estimate_study

    estimate = estimate_study(data, networks, options, folds, rounds, cpus, Progress())
    if as_json:
        print_json(estimate)
        return
    click.echo(f"{'network':<28}{'jobs':>6}{'ms/step':>11}{'slices/s':>10}{'h/job':>10}{'hours':>10}")
    for row in estimate.networks:
        click.echo(
            f"{row.network:<28}{row.jobs:>6}{row.step_ms:>11.0f}{row.slices_per_second:>10.1f}{row.job_hours:>10.3f}"
            f"{row.job_hours * row.jobs:>10.2f}"
        )
    click.echo(
        f"{count_of(estimate.jobs, 'job')} of at most {count_of(estimate.epochs, 'epoch')} on "
        f"{count_of(estimate.n, 'slice')} of {estimate.size} px: "
        f"{estimate.hours:.1f} hours one after the other on this machine ({estimate.device}); a Modified network is "
        "assumed to take as long as its base network"
    )
