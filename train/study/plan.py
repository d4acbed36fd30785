"""What a study consists of: study.json, its jobs, and the seeds and splits of each.

Two seeds follow from the study's: round r is split with seed + r - 1, and fold f of it draws its weights, its batches
and its augmentation with seed + 1000 (r - 1) + f - 1. So all networks are trained on the same splits, and the one job
of a study without folds or rounds is what `edge-ct train` makes with that seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_ct.dataset import Dataset
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.splits import folds, split
from edge_ct.system.files import refuse_existing, write_bytes

from ..fitting.options import Options
from ..zoo import build

FILE = "study.json"


class Slices(msgspec.Struct, frozen=True):
    """What a study is made with. groups: SHA-256 over the groups, "" without; counts: class -> slices."""

    name: str
    path: str
    fingerprint: str
    groups: str
    counts: dict[str, int]


class Plan(msgspec.Struct, frozen=True):
    """The content of study.json.

    folds: 0 is the ordinary split. cpus_per_job: threads that a job computes with; the last bits of sums depend on it.
    options: of every job, but for what `options_of` says.
    """

    schema: Literal[1]
    networks: tuple[str, ...]
    folds: int
    rounds: int
    cpus_per_job: int
    options: Options
    slices: Slices
    versions: dict[str, str]

    def jobs(self) -> tuple[Job, ...]:
        """All of them, network by network."""
        return tuple(
            Job(network, number, fold)
            for network in self.networks
            for number in range(1, self.rounds + 1)
            for fold in range(1, max(1, self.folds) + 1)
        )

    def name(self, job: Job) -> str:
        """For progress and errors."""
        number = f", round {job.round} of {self.rounds}" if self.rounds > 1 else ""
        return f"{job.network}{number}{f', fold {job.fold} of {self.folds}' if self.folds else ''}"

    def options_of(self, job: Job) -> Options:
        """The options of the job's run."""
        return msgspec.structs.replace(
            self.options,
            network=job.network,
            seed=self.options.seed + 1000 * (job.round - 1) + job.fold - 1,
            test=1 / self.folds if self.folds else self.options.test,
            weights=weights_of(job.network, self.options.weights),
        )

    def parts(self, dataset: Dataset) -> dict[tuple[int, int], tuple[str, ...]]:
        """(round, fold) -> the part that each slice is in. Raises `DataRejected`."""
        options, found = self.options, {}
        for number in range(1, self.rounds + 1):
            seed = options.seed + number - 1
            dealt = (
                folds(dataset, options.split, self.folds, seed, options.validation)
                if self.folds
                else (split(dataset, options.split, seed, options.validation, options.test),)
            )
            found |= {(number, fold): parts for fold, parts in enumerate(dealt, 1)}
        return found


class Job(msgspec.Struct, frozen=True):
    """One training. round, fold: from 1; a study without folds has one fold."""

    network: str
    round: int
    fold: int

    @property
    def folder(self) -> Path:
        """Where its run is, relative to the study."""
        return Path(self.network, f"round-{self.round:02d}", f"fold-{self.fold}")


def weights_of(network: str, weights: str) -> str:
    """The weights that `network` starts from: `{network}` stands for its name without `modified-`.

    CustomCNN, for which there are none, starts from random ones.
    """
    if not build.find(network).application:
        return "none"
    return weights.replace("{network}", network.removeprefix(build.MODIFIED))


def wanted(networks: Sequence[str], options: Options, folds: int, rounds: int, threads: int) -> Plan:
    """What is asked for, without slices. Raises `EdgeCTError` for what no job could begin with."""
    if not networks:
        raise EdgeCTError("a study needs at least one network")
    blank = Slices("", "", "", "", {})
    options = msgspec.structs.replace(options, network="")
    plan = Plan(1, tuple(dict.fromkeys(networks)), folds, rounds, threads, options, blank, {})
    for network in plan.networks:
        own = plan.options_of(Job(network, 1, 1))
        own.check()
        if own.weights not in ("none", "imagenet") and not Path(own.weights).is_file():
            raise DataRejected(f"{own.weights}: no such weights file, for {network}")
    return plan


def begun_at(out: Path, wanted: Plan, force: bool) -> Plan | None:
    """The plan of the study at `out`; None where there is none yet, or it is to be begun anew."""
    path = out / FILE
    if not path.exists():
        killed = out.is_dir() and all(child.name.startswith(".") for child in out.iterdir())
        if force and out.exists() and not killed:
            raise EdgeCTError(f"{out}: holds something else (no {FILE}); --force does not delete that")
        if not killed:  # before the plan was written
            refuse_existing(out, force=False)
        return None
    if force:
        return None
    try:
        begun = msgspec.json.decode(path.read_bytes(), type=Plan)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataRejected(f"{path}: damaged: {error}; begin anew with --force") from error
    cpus = wanted.cpus_per_job or begun.cpus_per_job
    same = msgspec.structs.replace(wanted, cpus_per_job=cpus, slices=begun.slices, versions=begun.versions)
    if begun != same:
        ours, theirs = (_flat(plan) for plan in (same, begun))
        what = ", ".join(f"{name.replace('_', '-')} {theirs[name]!r}" for name in differing(theirs, ours))
        raise DataRejected(f"{out}: was begun with {what}; go on with the same, or begin anew with --force")
    return begun


def save(plan: Plan, out: Path) -> None:
    """Write study.json, whole or not at all."""
    write_bytes(out / FILE, msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")


def slices_of(data: Path, dataset: Dataset, fingerprint: str) -> Slices:
    """What study.json says of a dataset whose images have that fingerprint."""
    groups = "\n".join(dataset.groups or ())
    return Slices(
        dataset.name,
        str(data.resolve()),
        fingerprint,
        hashlib.sha256(groups.encode()).hexdigest() if groups else "",
        {name: int((dataset.labels == label).sum()) for label, name in enumerate(dataset.classes)},
    )


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names whose values are not the same."""
    return [name for name in one if one[name] != other.get(name)]


def _flat(plan: Plan) -> dict[str, Any]:
    found = msgspec.to_builtins(plan)
    own = {"networks": " ".join(plan.networks), "folds": plan.folds, "rounds": plan.rounds}
    # A study's own folds, not those of an option that single trainings have.
    return found["options"] | own | {"cpus_per_job": plan.cpus_per_job}
