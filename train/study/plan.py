"""The plan of a study: study.json, its jobs, and the seeds and splits of each job.

Two seeds follow from the seed of the study: round r is split with seed + r - 1, and fold f of round r draws weights,
batches and augmentation with seed + 1000 (r - 1) + f - 1. All networks are therefore trained on the same splits, and
the only job of a study without folds or rounds is the run that `edge-ct train` makes with that seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_ct.dataset import Dataset
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.splits import folds, split
from edge_ct.system.files import refuse_existing, write_bytes

from ..fitting.options import TrainingOptions
from ..zoo.architectures import MODIFIED_PREFIX, find

PLAN_FILE = "study.json"


class StudySlices(msgspec.Struct, frozen=True):
    """The data set of a study.

    Attributes:
        name: Name of the data set.
        path: Folder or CSV that it was read from.
        fingerprint: Fingerprint of images and labels.
        groups: SHA-256 of the groups; "" if the data set has no groups.
        counts: Number of slices by class.
    """

    name: str
    path: str
    fingerprint: str
    groups: str
    counts: dict[str, int]


class StudyPlan(msgspec.Struct, frozen=True):
    """Content of study.json.

    Attributes:
        schema: Version of the file format.
        networks: Networks to train.
        folds: Number of folds; 0 for a single split.
        rounds: Number of times that the slices are split anew.
        cpus_per_job: Threads that a job computes with; the rounding of sums depends on their number.
        options: Options of every job, except for those that `options_of` replaces.
        slices: The data set.
        versions: Versions of the packages that the results depend on.
    """

    schema: Literal[1]
    networks: tuple[str, ...]
    folds: int
    rounds: int
    cpus_per_job: int
    options: TrainingOptions
    slices: StudySlices
    versions: dict[str, str]

    def jobs(self) -> tuple[Job, ...]:
        """Return all jobs, ordered by network, round and fold."""
        return tuple(
            Job(network, number, fold)
            for network in self.networks
            for number in range(1, self.rounds + 1)
            for fold in range(1, max(1, self.folds) + 1)
        )

    def name(self, job: Job) -> str:
        """Return the name of a job for progress and error messages."""
        number = f", round {job.round} of {self.rounds}" if self.rounds > 1 else ""
        return f"{job.network}{number}{f', fold {job.fold} of {self.folds}' if self.folds else ''}"

    def options_of(self, job: Job) -> TrainingOptions:
        """Return the options of a job."""
        return msgspec.structs.replace(
            self.options,
            network=job.network,
            seed=self.options.seed + 1000 * (job.round - 1) + job.fold - 1,
            test=1 / self.folds if self.folds else self.options.test,
            weights=weights_for(job.network, self.options.weights),
        )

    def parts(self, dataset: Dataset) -> dict[tuple[int, int], tuple[str, ...]]:
        """Return the part of each slice for every (round, fold); raise `DataRejected` if the data cannot be split."""
        options, parts = self.options, dict[tuple[int, int], tuple[str, ...]]()
        for number in range(1, self.rounds + 1):
            seed = options.seed + number - 1
            splits = (
                folds(dataset, options.split, self.folds, seed, options.validation)
                if self.folds
                else (split(dataset, options.split, seed, options.validation, options.test),)
            )
            parts |= {(number, fold): tuple(split_parts) for fold, split_parts in enumerate(splits, 1)}
        return parts


class Job(msgspec.Struct, frozen=True):
    """One training. Rounds and folds count from 1; a study without folds has a single fold."""

    network: str
    round: int
    fold: int

    @property
    def folder(self) -> Path:
        """Run folder of the job, relative to the folder of the study."""
        return Path(self.network, f"round-{self.round:02d}", f"fold-{self.fold}")


def weights_for(network: str, weights: str) -> str:
    """Return the initial weights of a network.

    `{network}` in `weights` is replaced by the name of the base network. CustomCNN has no pretrained weights and always
    starts from random ones.
    """
    if not find(network).application:
        return "none"
    return weights.replace("{network}", network.removeprefix(MODIFIED_PREFIX))


def make_plan(networks: Sequence[str], options: TrainingOptions, folds: int, rounds: int, threads: int) -> StudyPlan:
    """Make the plan of a study, still without a data set.

    Args:
        networks: Networks to train.
        options: Options of every job.
        folds: Number of folds; 0 for a single split.
        rounds: Number of rounds.
        threads: Threads that a job computes with.

    Raises:
        EdgeCTError: The options of a job are invalid or its weights file does not exist.
    """
    if not networks:
        raise EdgeCTError("a study needs at least one network")
    blank = StudySlices("", "", "", "", {})
    options = msgspec.structs.replace(options, network="")
    plan = StudyPlan(1, tuple(dict.fromkeys(networks)), folds, rounds, threads, options, blank, {})
    for network in plan.networks:
        job_options = plan.options_of(Job(network, 1, 1))
        job_options.check()
        if job_options.weights not in ("none", "imagenet") and not Path(job_options.weights).is_file():
            raise DataRejected(f"{job_options.weights}: weights file of {network} does not exist")
    return plan


def read_plan(out: Path, wanted: StudyPlan, force: bool) -> StudyPlan | None:
    """Read the plan of the study at `out`, to continue it.

    Args:
        out: Folder of the study.
        wanted: The plan that is asked for now.
        force: True to start the study again.

    Returns:
        The plan at `out`; None if there is none yet or if `force` is set.

    Raises:
        DataRejected: The plan at `out` is damaged or differs from `wanted`.
        EdgeCTError: `out` exists and is not a study.
    """
    path = out / PLAN_FILE
    if not path.exists():
        killed = out.is_dir() and all(child.name.startswith(".") for child in out.iterdir())
        if force and out.exists() and not killed:
            raise EdgeCTError(f"{out}: is not a study (it has no {PLAN_FILE}), so --force does not delete it")
        if not killed:  # a killed study may not have written its plan yet
            refuse_existing(out, force=False)
        return None
    if force:
        return None
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=StudyPlan)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataRejected(f"{path}: cannot be read: {error}; start the study again with --force") from error
    cpus = wanted.cpus_per_job or plan.cpus_per_job
    same = msgspec.structs.replace(wanted, cpus_per_job=cpus, slices=plan.slices, versions=plan.versions)
    if plan != same:
        ours, theirs = (_flat(values) for values in (same, plan))
        what = ", ".join(f"{name.replace('_', '-')} {theirs[name]!r}" for name in differing_names(theirs, ours))
        raise DataRejected(f"{out}: was started with {what}; continue with the same, or start again with --force")
    return plan


def save_plan(plan: StudyPlan, out: Path) -> None:
    """Write study.json atomically."""
    write_bytes(out / PLAN_FILE, msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")


def describe_slices(data: Path, dataset: Dataset, fingerprint: str) -> StudySlices:
    """Describe a data set for study.json; `fingerprint` is that of its images and labels."""
    groups = "\n".join(dataset.groups or ())
    return StudySlices(
        dataset.name,
        str(data.resolve()),
        fingerprint,
        hashlib.sha256(groups.encode()).hexdigest() if groups else "",
        {name: int((dataset.labels == label).sum()) for label, name in enumerate(dataset.classes)},
    )


def differing_names(values: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Return the names of the values that differ."""
    return [name for name in values if values[name] != others.get(name)]


def _flat(plan: StudyPlan) -> dict[str, Any]:
    options: dict[str, Any] = msgspec.to_builtins(plan.options)
    # The folds of the study replace the options `folds` and `fold` of a single training.
    study = {"networks": " ".join(plan.networks), "folds": plan.folds, "rounds": plan.rounds}
    return options | study | {"cpus_per_job": plan.cpus_per_job}
