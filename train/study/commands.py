"""What makes `edge-ct train` a study of many trainings: its options, how it is run, and how it is printed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from edge_ct.errors import EdgeCTError
from edge_ct.system.progress import Progress, print_json

from ..zoo import build

_LOOPBACK = ("127.", "localhost:", "[::1]:")


class NetworkNames(click.ParamType[tuple[str, ...]]):
    """A network of the zoo, or a group of them; an unknown name is answered with the nearest ones."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[str, ...]:
        """Called by click."""
        try:
            return value if isinstance(value, tuple) else build.expand(value.lower())
        except EdgeCTError as error:
            self.fail(str(error), param, context)


_OPTIONS = {
    "folds": click.option(
        "--folds",
        type=click.IntRange(2, 100),
        help="Cross-validation: each fold is the test part of one training. Makes --out a study.",
    ),
    "fold": click.option(
        "--fold",
        type=click.IntRange(1, 100),
        help="Train the one of these --folds, from 1, as an ordinary run at --out, whose model is kept.",
    ),
    "rounds": click.option(
        "--rounds",
        type=click.IntRange(1, 1000),
        default=1,
        show_default=True,
        help="How often all is split anew. More than one makes --out a study.",
    ),
    "keep_models": click.option(
        "--keep-models/--no-keep-models",
        default=None,
        help="Whether finished trainings of a study keep model.keras; without it they cannot be converted or combined, "
        "and scores, predictions and histories are what is left. By default kept where there are no folds.",
    ),
    "cpus_per_job": click.option(
        "--cpus-per-job",
        type=click.IntRange(1),
        help="Processors that each training of a study computes with; by default all of this machine.",
    ),
    "cluster": click.option(
        "--cluster",
        metavar="auto|HOST:PORT",
        help="Spread a study with Ray: over the cluster at that address, or (auto) the one that RAY_ADDRESS names, or "
        "else over this machine.",
    ),
    "gpus_per_job": click.option(
        "--gpus-per-job",
        type=click.FloatRange(0),
        help="With --cluster; may be a fraction. By default 1 where the cluster has GPUs.",
    ),
    "memory_per_job": click.option(
        "--memory-per-job", type=click.FloatRange(0, min_open=True), help="With --cluster; GiB to reserve."
    ),
    "dry_run": click.option(
        "--dry-run",
        is_flag=True,
        help="Train nothing: list a study's trainings and the hours they would take on this machine, from a few "
        "measured steps of each network.",
    ),
}


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add a study's options to `train`."""
    for option in reversed(_OPTIONS.values()):
        command = option(command)
    return command


def take(options: dict[str, Any]) -> dict[str, Any]:
    """Take the values of a study's options out of those of `train`."""
    return {name: options.pop(name) for name in _OPTIONS}


def one_fold(networks: Iterable[str], asked: dict[str, Any]) -> dict[str, int]:
    """--folds and --fold as options of a single training; {} without --fold. Raises `click.UsageError`."""
    folds, fold = asked["folds"], asked["fold"]
    if fold is None:
        return {}
    if folds is None or fold > folds:
        raise click.UsageError(f"--fold {fold} is one of --folds, and needs at least so many")
    if len(set(networks)) != 1 or is_study(networks, {**asked, "folds": None}):
        raise click.UsageError("--fold trains one network; several, rounds and clusters are a study's")
    return {"folds": folds, "fold": fold}


def is_study(networks: Iterable[str], asked: dict[str, Any]) -> bool:
    """Whether more than a plain training is asked for. Raises `click.UsageError` for options that have no meaning."""
    if asked["cluster"] is None and (asked["gpus_per_job"] is not None or asked["memory_per_job"] is not None):
        raise click.UsageError("--gpus-per-job and --memory-per-job go with --cluster")
    study = len(set(networks)) > 1 or asked["rounds"] > 1 or any(asked[n] for n in ("folds", "cluster", "dry_run"))
    if not study and (asked["keep_models"] is not None or asked["cpus_per_job"] is not None):
        raise click.UsageError(
            "--keep-models and --cpus-per-job are a study's: of several networks, --folds or --rounds"
        )
    return study


def run_study(
    networks: tuple[str, ...], data: Path, out: Path, options: Any, force: bool, as_json: bool, asked: dict[str, Any]
) -> None:
    """Run a study and print its table. options: `train.options.Options`; asked: what `take` took."""
    from . import runner, tables

    folds, rounds, cpus = asked["folds"] or 0, asked["rounds"], asked["cpus_per_job"]
    if asked["dry_run"]:
        _estimate(networks, data, options, folds, rounds, cpus, as_json)
        return
    table = runner.run(
        data,
        out,
        networks,
        options,
        folds,
        rounds,
        force,
        asked["keep_models"],
        cpus,
        Progress(),
        _runner(asked) if asked["cluster"] else None,
    )
    if as_json:
        print_json({"study": str(out), **tables.to_builtins(table)})
        return
    click.echo(tables.plain(table))
    click.echo(f"{out / 'tables'}: table.md, table.csv, table.tex with the papers' figures; results.csv; times.csv")


def _runner(asked: dict[str, Any]) -> Any:
    address = os.environ.get("RAY_ADDRESS") or None if asked["cluster"] == "auto" else asked["cluster"]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None or address.startswith(_LOOPBACK):
        # By this Ray takes the loopback interface for this machine's address, and listens on no other.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    from . import cluster

    return cluster.spread(address, asked["gpus_per_job"], asked["memory_per_job"])


def _estimate(
    networks: tuple[str, ...], data: Path, options: Any, folds: int, rounds: int, cpus: int | None, as_json: bool
) -> None:
    from . import estimate

    found = estimate.estimate(data, networks, options, folds, rounds, cpus, Progress())
    if as_json:
        print_json(found)
        return
    click.echo(f"{'network':<28}{'jobs':>6}{'ms a step':>11}{'slices/s':>10}{'h a job':>10}{'hours':>10}")
    for one in found.networks:
        click.echo(
            f"{one.network:<28}{one.jobs:>6}{one.step_ms:>11.0f}{one.slices_per_second:>10.1f}{one.job_hours:>10.3f}"
            f"{one.job_hours * one.jobs:>10.2f}"
        )
    click.echo(
        f"{found.jobs} jobs of at most {found.epochs} epochs, {found.n} slices of {found.size} px: {found.hours:.1f} "
        f"hours, one after the other, on this machine ({found.device}); a Modified network is taken to need what its "
        "base does"
    )
