"""A study: networks x rounds x folds, each a job with its own run folder, and the tables made from them.

study.json                     what is trained, how, on which slices
NETWORK/round-01/fold-1/       the run folder of one job
tables/results.csv             one row per job; table.md, table.csv, table.tex: one row per network
tables/times.csv               duration of each job; the only table that differs after an interruption
plots/FAMILY.png               box plots

Calling `run_study` again continues a study that was interrupted, with the same results as without the interruption.
"""

from __future__ import annotations

import csv
import gc
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.run import MODEL, load_run
from edge_ct.system import native_output
from edge_ct.system.files import exclusive_lock
from edge_ct.system.host import processors
from edge_ct.system.progress import QUIET, Progress

from .. import fit
from ..fit import PreparedData
from ..fitting.options import TrainingOptions
from . import tables
from .plan import PLAN_FILE, Job, StudyPlan, describe_slices, differing_names, make_plan, read_plan, save_plan
from .results import StudyTable, read_result

with native_output.captured_native_stderr():
    import keras


@dataclass(frozen=True, eq=False)
class PendingJob:
    """A job that is not finished.

    Attributes:
        job: Network, round and fold.
        name: Name for progress and error messages.
        options: Options of the training.
        parts: Part of each slice.
        folder: Run folder.
        keep_model: True to keep model.keras in the run folder.
        threads: Threads to compute with.
    """

    job: Job
    name: str
    options: TrainingOptions
    parts: tuple[str, ...]
    folder: Path
    keep_model: bool
    threads: int


# Runs the jobs in any order and yields each as soon as its run folder is finished.
Runner = Callable[[Sequence[PendingJob], PreparedData, Progress], Iterable[PendingJob]]


def run_study(
    data: Path,
    out: Path,
    networks: Sequence[str],
    options: TrainingOptions,
    folds: int = 0,
    rounds: int = 1,
    force: bool = False,
    keep_models: bool | None = None,
    threads: int | None = None,
    progress: Progress = QUIET,
    runner: Runner | None = None,
) -> StudyTable:
    """Run the unfinished jobs of a study and write its tables.

    Args:
        data: Folder or CSV of slices.
        out: Folder of the study.
        networks: Networks to train.
        options: Options of every job; its `network` is ignored.
        folds: Number of folds; 0 for a single split.
        rounds: Number of times that the slices are split anew.
        force: True to start again.
        keep_models: True to keep model.keras of finished jobs; None to keep it if there are no folds.
        threads: Threads that a job computes with; None for the number that the study was started with or else for the
            processors of this machine.
        progress: Where to report progress.
        runner: Runs the jobs; by default one after the other in this process.

    Raises:
        DataRejected: The study at `out` was started with other options or slices, or the data cannot be split.
    """
    wanted = make_plan(networks, options, folds, rounds, threads or 0)
    plan = read_plan(out, wanted, force)
    shared = None
    if plan is None or not all(_finished(out / job.folder) for job in plan.jobs()):
        shared = _prepare(data, wanted.options, progress)
        slices = describe_slices(data, shared.dataset, shared.images.fingerprint)
        if plan is None:
            wanted.parts(shared.dataset)  # to reject data that cannot be split before anything is written
        elif slices != msgspec.structs.replace(plan.slices, path=slices.path):
            raise DataRejected(f"{out}: was started with other slices; start again with --force")
    with exclusive_lock(out):
        if plan is None:
            _clear(out)
            plan = msgspec.structs.replace(
                wanted, cpus_per_job=threads or processors(), slices=slices, versions=fit.package_versions()
            )
            save_plan(plan, out)
        keep = not folds if keep_models is None else keep_models
        _train(plan, shared, out, keep, progress, runner or run_in_sequence)
        _remove_temporary_files(out)
        return _report(plan, out)


def _prepare(data: Path, options: TrainingOptions, progress: Progress) -> PreparedData:
    """Read the slices once for all jobs; the split of each job is added later."""
    dataset, images = fit.read_slices(data, options, progress)
    root = data if data.is_dir() else data.parent
    # Paths are resolved here because a job may run on another machine.
    return replace(fit.assign_parts(dataset, images, root, ("train",) * len(dataset)), root=root.resolve())


def _train(
    study: StudyPlan, shared: PreparedData | None, out: Path, keep_models: bool, progress: Progress, runner: Runner
) -> None:
    jobs = study.jobs()
    done = [job for job in jobs if _finished(out / job.folder)]
    for job in done:
        remove_leftovers(out / job.folder, keep_model=True)  # keeps what was asked for when the job was run
    if done:
        progress.say(f"{out}: {len(done)} of {len(jobs)} jobs are already finished")
    if shared is None:
        return
    if changed := differing_names(study.versions, fit.package_versions()):
        progress.say(f"{out}: was started with other versions of {', '.join(changed)}; its runs may differ slightly")
    parts, clock = study.parts(shared.dataset), _Clock(out, jobs, done)
    pending = []
    for job in jobs:
        if job not in clock:
            folder = out / job.folder
            options = study.options_of(job)
            pending.append(
                PendingJob(
                    job, study.name(job), options, parts[job.round, job.fold], folder, keep_models, study.cpus_per_job
                )
            )
    for pending_job in runner(pending, shared, progress):
        remove_leftovers(pending_job.folder, keep_models)
        clock.finish(pending_job.job)
        progress.say(f"{pending_job.name}: done, {clock.done} of {len(jobs)} jobs; {clock.left()}")
        if all(job in clock for job in jobs if job.network == pending_job.job.network):
            _report(study, out)


def run_in_sequence(pending: Sequence[PendingJob], shared: PreparedData, progress: Progress) -> Iterator[PendingJob]:
    """Run the jobs one after the other in this process; an interrupted job is resumed."""
    for pending_job in pending:
        progress.say(pending_job.name)
        run_job(shared, pending_job.parts, pending_job.options, pending_job.folder, pending_job.threads, progress)
        yield pending_job


def run_job(
    shared: PreparedData,
    parts: tuple[str, ...],
    options: TrainingOptions,
    folder: Path,
    threads: int,
    progress: Progress = QUIET,
    start: Callable[[], Any] | None = None,
) -> None:
    """Run one job and leave a finished run folder.

    Args:
        shared: The slices.
        parts: Part of each slice.
        options: Options of the training.
        folder: Run folder.
        threads: Threads to compute with.
        progress: Where to report progress.
        start: Returns the network to start from; by default it is built from the options.
    """
    make_repeatable(threads)
    if not (folder / "run.json").exists():  # killed before there was anything to resume
        shutil.rmtree(folder, ignore_errors=True)
    prepared = replace(shared, table=replace(shared.table, parts=parts))
    fit.train_prepared(prepared, folder, options, progress, start)
    keras.utils.clear_session()
    gc.collect()


def make_repeatable(threads: int) -> None:
    """Make TensorFlow's results repeatable: a fixed number of threads and deterministic operations.

    The threads of JAX, and the determinism of sums on a GPU, are not under our control.

    Raises:
        EdgeCTError: This process already computes with another number of threads.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow

    tensorflow.config.experimental.enable_op_determinism()
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:
        current = tensorflow.config.threading.get_intra_op_parallelism_threads() or processors()
        if current != threads:
            raise EdgeCTError(
                f"TensorFlow already computes with {current} threads, not with {threads}; start a new process"
            ) from error


def remove_leftovers(folder: Path, keep_model: bool) -> None:
    """Delete the checkpoint of a finished run, and its model unless it is kept."""
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    if not keep_model:
        (folder / MODEL).unlink(missing_ok=True)


def _finished(folder: Path) -> bool:
    return (folder / "run.json").exists() and load_run(folder).info.finished


def _clear(out: Path) -> None:
    """Empty the folder of a study; the plan goes last, because it marks the folder as one that may be overwritten."""
    for child in sorted(out.iterdir(), key=lambda child: child.name == PLAN_FILE):
        if child.is_dir():
            shutil.rmtree(child)
        elif child.name != ".lock":
            child.unlink()


def _remove_temporary_files(out: Path) -> None:
    """Remove temporary files that a killed process left behind."""
    for path in list(out.rglob(".tmp-*")):
        with suppress(OSError):
            path.unlink()


def _report(study: StudyPlan, out: Path) -> StudyTable:
    done = [job for job in study.jobs() if _finished(out / job.folder)]
    rows = tuple(read_result(out / job.folder, job.network, job.round, job.fold) for job in done)
    slices = study.slices
    table = StudyTable(slices.name, sum(slices.counts.values()), study.options.split, study.folds, study.rounds, rows)
    tables.write_tables(table, out)
    tables.write_times(((job.network, job.round, job.fold, *_training_time(out / job.folder)) for job in done), out)
    return table


def _training_time(folder: Path) -> tuple[int, float]:
    """Return the number of epochs of a run and their total duration in seconds."""
    with suppress(OSError, KeyError, ValueError), (folder / "history.csv").open(newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
        return len(seconds), sum(seconds)
    return 0, 0.0


class _Clock:
    """Keeps track of finished jobs and estimates the time left for the others."""

    def __init__(self, out: Path, jobs: Sequence[Job], done: Iterable[Job]) -> None:
        self._out, self._jobs = out, jobs
        self._seconds = {job: _training_time(out / job.folder)[1] for job in done}
        self._started, self._trained = perf_counter(), 0.0

    def __contains__(self, job: Job) -> bool:
        return job in self._seconds

    @property
    def done(self) -> int:
        return len(self._seconds)

    def finish(self, job: Job) -> None:
        """Record that a job is finished."""
        self._seconds[job] = _training_time(self._out / job.folder)[1]
        self._trained += self._seconds[job]

    def left(self) -> str:
        """Return the estimated time left, assuming that a job takes as long as finished jobs of the same network."""
        if self.done == len(self._jobs):
            return "no jobs left"
        left = 0.0
        for job in self._jobs:
            if job not in self:
                same = [seconds for other, seconds in self._seconds.items() if other.network == job.network]
                same = same or list(self._seconds.values())
                left += sum(same) / len(same)
        # Scaled by elapsed time over time spent in epochs: more with overhead, less when jobs run in parallel.
        return f"about {format_duration(left * (perf_counter() - self._started) / max(self._trained, 1e-3))} left"


def format_duration(seconds: float) -> str:
    """Return a duration as `40 s`, `12 min` or `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
