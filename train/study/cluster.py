"""Jobs of a study on a Ray cluster.

The slices are put into Ray's object store once, and so copied to each node once. A job trains in a temporary folder of
its node and returns the files of its run folder through the object store: nodes need no shared file system, and only
one process writes the folder of the study. Ray restarts a job on another node if its worker is lost. Seeds and the
number of threads are fixed, so the restarted job gives the same run. Every node needs the same versions of edge-ct and
its dependencies; a job fails if they differ.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_ct.errors import EdgeCTError
from edge_ct.system import native_output
from edge_ct.system.files import write_bytes
from edge_ct.system.progress import Progress
from edge_ct.system.ray_cluster import connected, count_places, import_ray

from .. import fit
from ..fit import PreparedData
from ..fitting.options import TrainingOptions
from ..zoo.builder import build
from . import runner
from .runner import PendingJob, Runner

with native_output.captured_native_stderr():
    import keras

# How often Ray restarts a job whose worker is lost; after that, the job itself is probably the cause.
RETRIES = 8


@dataclass(frozen=True)
class JobOrder:
    """What a node needs to run a job, besides the slices; `versions` are the package versions that it must have."""

    name: str
    options: TrainingOptions
    parts: tuple[str, ...]
    keep_model: bool
    threads: int
    versions: dict[str, str]


def cluster_runner(address: str | None, gpus: float | None = None, memory: float | None = None) -> Runner:
    """Return a runner that distributes the jobs of a study with Ray.

    Args:
        address: HOST:PORT of a Ray cluster; None to start Ray on this machine.
        gpus: Number of GPUs for each job; None for 1 if the cluster has GPUs.
        memory: Memory to reserve for each job in GiB.

    Raises:
        MissingExtra: Ray is not installed.
        EdgeCTError: No cluster answers, no node is large enough, or a job fails (raised when the runner is called).
    """
    ray = import_ray()

    def run_jobs(works: Sequence[PendingJob], shared: PreparedData, progress: Progress) -> Iterator[PendingJob]:
        if not works:
            return
        threads = works[0].threads
        with connected(ray, address, 2 * shared.images.images.nbytes + 2**28, _environment()):
            has_gpus = ray.cluster_resources().get("GPU", 0) > 0
            resources = {"CPU": threads, "GPU": float(has_gpus) if gpus is None else gpus}
            resources["memory"] = int((memory or 0) * 2**30)
            places = count_places(ray, resources, "lower --cpus-per-job, --gpus-per-job or --memory-per-job")
            progress.say(
                f"{len(works)} jobs on {len(ray.nodes())} nodes, {places} in parallel, each with {threads} processors"
                + (f" and {resources['GPU']:g} GPUs" if resources["GPU"] else "")
            )
            yield from _distribute(ray, works, shared, resources)

    return run_jobs


def _environment() -> dict[str, str]:
    # The last two variables keep a worker from reserving all the memory of a GPU that it shares.
    return {
        "KERAS_BACKEND": keras.backend.backend(),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


def _distribute(
    ray: Any, works: Sequence[PendingJob], shared: PreparedData, resources: dict[str, float]
) -> Iterator[PendingJob]:
    remote = ray.remote(
        num_cpus=resources["CPU"], num_gpus=resources["GPU"], memory=resources["memory"] or None, max_retries=RETRIES
    )(_run_on_node)
    slices = ray.put(shared)
    files = {path: ray.put(Path(path).read_bytes()) for path in {w.options.weights for w in works} if _is_file(path)}
    versions = fit.package_versions()
    waiting = {
        remote.options(name=work.name).remote(
            JobOrder(work.name, work.options, work.parts, work.keep_model, work.threads, versions),
            slices,
            files.get(work.options.weights),
        ): work
        for work in works
    }
    while waiting:
        (done, *_), _ = ray.wait(list(waiting), num_returns=1)
        work = waiting.pop(done)
        _write_run(work.folder, _result(ray, done, work.name))
        yield work


def _result(ray: Any, done: Any, name: str) -> dict[str, bytes]:
    try:
        files: dict[str, bytes] = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EdgeCTError):
            raise type(error.cause)(f"{name}: {error.cause}") from error
        raise EdgeCTError(f"{name}: {type(error.cause).__name__}: {error.cause}") from error
    except ray.exceptions.RayError as error:
        raise EdgeCTError(f"{name}: its worker was lost {RETRIES + 1} times; the last error was: {error}") from error
    return files


def _is_file(weights: str) -> bool:
    return weights not in ("none", "imagenet")


def _write_run(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files that a node returned; run.json last, because it marks a run folder as complete."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in sorted(files, key=lambda name: name == "run.json"):
        write_bytes(folder / name, files[name])


def _run_on_node(order: JobOrder, shared: PreparedData, weights: bytes | None) -> dict[str, bytes]:
    """Run a job on a node and return the files of its run folder."""
    _check_versions(order.versions)
    with tempfile.TemporaryDirectory(prefix=f"edge-ct-job-{os.getpid()}-") as scratch:
        folder = Path(scratch, "run")
        runner.run_job(
            shared, order.parts, order.options, folder, order.threads, start=_start(order, weights, Path(scratch))
        )
        runner.remove_leftovers(folder, order.keep_model)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _start(order: JobOrder, weights: bytes | None, scratch: Path) -> Callable[[], Any] | None:
    """Return a function that builds the network from weights sent along: their path is one of another machine."""
    if weights is None:
        return None
    options = order.options
    path = scratch / Path(options.weights).name
    path.write_bytes(weights)
    return lambda: build(keras, options.network, options.size, options.alpha, path, options.dropout)


def _check_versions(expected: dict[str, str]) -> None:
    here = fit.package_versions()
    if here != expected:
        listed = ", ".join(
            f"{name} {here.get(name, 'missing')} instead of {version}"
            for name, version in expected.items()
            if here.get(name) != version
        )
        raise EdgeCTError(f"the node {socket.gethostname()} has {listed}; install the same versions on all nodes")
