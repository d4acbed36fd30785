"""A study: networks x rounds x folds, each a job and an ordinary run folder, and the tables made of them.

study.json                     what is trained, how, on which slices
NETWORK/round-01/fold-1/       the run folder of one job
tables/results.csv             one row a job; table.md, table.csv, table.tex: one row a network
tables/times.csv               how long each job took: the one table that an unbroken run and a resumed one do not share
plots/FAMILY.png               box plots

The same call goes on with a study that was cut short, wherever that was, and ends as an unbroken one would have.
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
from ..fit import Prepared
from ..fitting.options import Options
from . import plan, results, tables
from .plan import Job, Plan

with native_output.captured_native_stderr():
    import keras


@dataclass(frozen=True, eq=False)
class Work:
    """A job that is still to be done. folder: of its run. keep_model: whether model.keras stays there."""

    job: Job
    name: str
    options: Options
    parts: tuple[str, ...]
    folder: Path
    keep_model: bool
    threads: int


# Does the work, in any order; yields each as soon as its run folder is finished.
Runner = Callable[[Sequence[Work], Prepared, Progress], Iterable[Work]]


def run(
    data: Path,
    out: Path,
    networks: Sequence[str],
    options: Options,
    folds: int = 0,
    rounds: int = 1,
    force: bool = False,
    keep_models: bool | None = None,
    threads: int | None = None,
    progress: Progress = QUIET,
    runner: Runner | None = None,
) -> results.Table:
    """Train what is not trained yet of a study at `out`, and write its tables.

    networks: names of the zoo. options: of all of them; its `network` counts for nothing. force: begin anew.
    keep_models: whether finished jobs keep model.keras, by default where there are no folds. threads: that a job
    computes with, by default as the study was begun with, or as many as this machine has processors. runner: by default
    the jobs are done one after the other, in this process. Raises `DataRejected` where the study at `out` is another.
    """
    wanted = plan.wanted(networks, options, folds, rounds, threads or 0)
    begun = plan.begun_at(out, wanted, force)
    shared = None
    if begun is None or not all(_finished(out / job.folder) for job in begun.jobs()):
        shared = _prepare(data, wanted.options, progress)
        found = plan.slices_of(data, shared.dataset, shared.images.fingerprint)
        if begun is None:
            wanted.parts(shared.dataset)  # data that cannot be dealt is found before anything is written
        elif found != msgspec.structs.replace(begun.slices, path=found.path):
            raise DataRejected(f"{out}: was begun with other slices; begin anew with --force")
    with exclusive_lock(out):
        if begun is None:
            _clear(out)
            begun = msgspec.structs.replace(
                wanted, cpus_per_job=threads or processors(), slices=found, versions=fit.versions()
            )
            plan.save(begun, out)
        keep = not folds if keep_models is None else keep_models
        _train(begun, shared, out, keep, progress, runner or in_turn)
        _sweep(out)
        return _report(begun, out)


def _prepare(data: Path, options: Options, progress: Progress) -> Prepared:
    """The slices in memory, once for all jobs, in no parts yet."""
    dataset, images = fit.read(data, options, progress)
    root = data if data.is_dir() else data.parent
    # The paths in the table are made here, and so is `root`: where a job is done may be another machine.
    return replace(fit.with_parts(dataset, images, root, ("train",) * len(dataset)), root=root.resolve())


def _train(
    study: Plan, shared: Prepared | None, out: Path, keep_models: bool, progress: Progress, runner: Runner
) -> None:
    jobs = study.jobs()
    done = [job for job in jobs if _finished(out / job.folder)]
    for job in done:
        tidy(out / job.folder, keep_model=True)  # whatever was asked for when it was trained
    if done:
        progress.say(f"{out}: {len(done)} of {len(jobs)} jobs have finished already")
    if shared is None:
        return
    if changed := plan.differing(study.versions, fit.versions()):
        progress.say(f"{out}: was begun with other versions of {', '.join(changed)}; its runs will not be quite alike")
    parts, clock = study.parts(shared.dataset), _Clock(out, jobs, done)
    works = []
    for job in jobs:
        if job not in clock:
            own = parts[job.round, job.fold]
            folder = out / job.folder
            options = study.options_of(job)
            works.append(Work(job, study.name(job), options, own, folder, keep_models, study.cpus_per_job))
    for work in runner(works, shared, progress):
        tidy(work.folder, keep_models)
        clock.stop(work.job)
        progress.say(f"{work.name}: done, {clock.done} of {len(jobs)} jobs; {clock.left()}")
        if all(job in clock for job in jobs if job.network == work.job.network):
            _report(study, out)


def in_turn(works: Sequence[Work], shared: Prepared, progress: Progress) -> Iterator[Work]:
    """Do the work here, one after the other; a job that was cut short is gone on with."""
    for work in works:
        progress.say(work.name)
        do(shared, work.parts, work.options, work.folder, work.threads, progress)
        yield work


def do(
    shared: Prepared,
    parts: tuple[str, ...],
    options: Options,
    folder: Path,
    threads: int,
    progress: Progress = QUIET,
    start: Callable[[], Any] | None = None,
) -> None:
    """Do one job: a finished run at `folder`. parts: one a slice of `shared`. start: as `fit.train_prepared` has it."""
    repeatable(threads)
    if not (folder / "run.json").exists():  # killed before there was anything to go on with
        shutil.rmtree(folder, ignore_errors=True)
    prepared = replace(shared, table=replace(shared.table, parts=parts))
    fit.train_prepared(prepared, folder, options, progress, start)
    keras.utils.clear_session()
    gc.collect()


def repeatable(threads: int) -> None:
    """Have TensorFlow compute the same sums in the same order each time: with that many threads, and no races.

    (How many threads JAX has, and whether a GPU's sums are the same each time, is beyond this.) Raises `EdgeCTError`
    where this process has computed with another number already.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow

    tensorflow.config.experimental.enable_op_determinism()
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:
        has = tensorflow.config.threading.get_intra_op_parallelism_threads() or processors()
        if has != threads:
            raise EdgeCTError(f"TensorFlow computes with {has} threads already, not {threads}") from error


def tidy(folder: Path, keep_model: bool) -> None:
    """Leave of a finished run what is needed."""
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    if not keep_model:
        (folder / MODEL).unlink(missing_ok=True)


def _finished(folder: Path) -> bool:
    return (folder / "run.json").exists() and load_run(folder).info.finished


def _clear(out: Path) -> None:
    """Empty the folder of a study, its plan last: until then it is one that may be overwritten."""
    for child in sorted(out.iterdir(), key=lambda child: child.name == plan.FILE):
        if child.is_dir():
            shutil.rmtree(child)
        elif child.name != ".lock":
            child.unlink()


def _sweep(out: Path) -> None:
    """Remove what writing left behind where it was killed."""
    for path in list(out.rglob(".tmp-*")):
        with suppress(OSError):
            path.unlink()


def _report(study: Plan, out: Path) -> results.Table:
    done = [job for job in study.jobs() if _finished(out / job.folder)]
    found = tuple(results.of_run(out / job.folder, job.network, job.round, job.fold) for job in done)
    slices = study.slices
    table = results.Table(
        slices.name, sum(slices.counts.values()), study.options.split, study.folds, study.rounds, found
    )
    tables.write(table, out)
    tables.write_times(((job.network, job.round, job.fold, *_time(out / job.folder)) for job in done), out)
    return table


def _time(folder: Path) -> tuple[int, float]:
    """Epochs that a run was trained for, and the seconds that took."""
    with suppress(OSError, KeyError, ValueError), (folder / "history.csv").open(newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
        return len(seconds), sum(seconds)
    return 0, 0.0


class _Clock:
    """Which jobs are done, and when the others will be."""

    def __init__(self, out: Path, jobs: Sequence[Job], done: Iterable[Job]) -> None:
        self._out, self._jobs = out, jobs
        self._took = {job: _time(out / job.folder)[1] for job in done}
        self._started, self._since = perf_counter(), 0.0

    def __contains__(self, job: Job) -> bool:
        return job in self._took

    @property
    def done(self) -> int:
        return len(self._took)

    def stop(self, job: Job) -> None:
        """The job is done."""
        self._took[job] = _time(self._out / job.folder)[1]
        self._since += self._took[job]

    def left(self) -> str:
        """An estimate, in words: other jobs of a network take what its finished ones took."""
        if self.done == len(self._jobs):
            return "none left"
        left = 0.0
        for job in self._jobs:
            if job not in self:
                same = [seconds for other, seconds in self._took.items() if other.network == job.network]
                same = same or list(self._took.values())
                left += sum(same) / len(same)
        # By as much as all has taken longer than the epochs did, or shorter where jobs are done side by side.
        return f"about {duration(left * (perf_counter() - self._started) / max(self._since, 1e-3))} left"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
