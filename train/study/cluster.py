"""Jobs of a study on a Ray cluster.

The slices go into Ray's object store once, and so to each node once; a job trains in a folder of its own node and
gives its finished run folder back through the object store. So nodes need no common file system, and the study's folder
is written by one process alone. A job whose worker is lost is begun again by Ray, elsewhere: what it draws follows from
its seeds, and it computes with as many threads as it would have here, so the run is the same. Nodes need edge-ct
itself, in the same versions: a job says so where they differ.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_ct.errors import EdgeCTError, MissingExtra
from edge_ct.system import native_output
from edge_ct.system.files import write_bytes
from edge_ct.system.progress import Progress

from .. import fit
from ..fit import Prepared
from ..fitting.options import Options
from ..zoo import build
from . import runner
from .runner import Runner, Work

with native_output.captured_native_stderr():
    import keras

# How often a job is begun again when its worker is lost; after that something is wrong with the job.
RETRIES = 8


@dataclass(frozen=True)
class Order:
    """What a node needs to know of a job, besides the slices. versions: those of the packages here."""

    name: str
    options: Options
    parts: tuple[str, ...]
    keep_model: bool
    threads: int
    versions: dict[str, str]


def spread(address: str | None, gpus: float | None = None, memory: float | None = None) -> Runner:
    """Do the jobs of a study on the Ray cluster at HOST:PORT, or, where there is no address, on this machine.

    gpus: of a job, by default 1 where the cluster has GPUs. memory: GiB that a job reserves. Raises `EdgeCTError` where
    no cluster answers, no node is large enough, or a job fails; `MissingExtra` without Ray.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("--cluster needs Ray: pip install 'edge-ct[cluster]'") from error

    def work(works: Sequence[Work], shared: Prepared, progress: Progress) -> Iterator[Work]:
        if not works:
            return
        threads = works[0].threads
        with _connected(ray, address, shared.images.images.nbytes):
            has_gpus = ray.cluster_resources().get("GPU", 0) > 0
            wanted = {"CPU": threads, "GPU": float(has_gpus) if gpus is None else gpus}
            wanted["memory"] = int((memory or 0) * 2**30)
            places = _places(ray, wanted)
            progress.say(
                f"{len(works)} jobs on {len(ray.nodes())} nodes, {places} at a time, each with {threads} processors"
                + (f" and {wanted['GPU']:g} GPUs" if wanted["GPU"] else "")
            )
            yield from _spread(ray, works, shared, wanted)

    return work


@contextmanager
def _connected(ray: Any, address: str | None, size: int) -> Iterator[None]:
    """Inside, there is a cluster. size: bytes of the slices."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": 2 * size + 2**28}
    else:
        _check_address(address)
        options["address"] = address
    # A worker must not take the whole of a GPU that it shares.
    options["runtime_env"] = {
        "env_vars": {
            "KERAS_BACKEND": keras.backend.backend(),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
    }
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EdgeCTError(f"Ray cannot be {'joined' if address else 'started'}: {error}") from error
    try:
        with redirect_stdout(sys.stderr):  # Ray prints what it hears of lost nodes
            yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise `EdgeCTError` where nothing answers: Ray itself would go on trying for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise EdgeCTError(
            f"--cluster takes auto or HOST:PORT, the address that `ray start --head` prints, not {address!r}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise EdgeCTError(f"{address}: no Ray cluster answers: {error}") from error


def _places(ray: Any, wanted: dict[str, float]) -> int:
    """How many jobs there can be at a time. Raises `EdgeCTError` where there is no room for any."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {name: amount for name, amount in wanted.items() if amount}
    places = sum(min(int(node.get(name, 0) / amount) for name, amount in wanted.items()) for node in nodes)
    if not places:
        largest = {name: max(node.get(name, 0) for node in nodes) for name in wanted}
        shown = ", ".join(f"{_amount(name, wanted[name])} (largest: {_amount(name, largest[name])})" for name in wanted)
        raise EdgeCTError(f"no node has room for a job of {shown}; ask for less by --cpus-per-job and its like")
    return places


def _amount(name: str, amount: float) -> str:
    return f"{amount / 2**30:.1f} GiB" if name == "memory" else f"{amount:g} {name}"


def _spread(ray: Any, works: Sequence[Work], shared: Prepared, wanted: dict[str, float]) -> Iterator[Work]:
    remote = ray.remote(
        num_cpus=wanted["CPU"], num_gpus=wanted["GPU"], memory=wanted["memory"] or None, max_retries=RETRIES
    )(_do)
    slices = ray.put(shared)
    files = {path: ray.put(Path(path).read_bytes()) for path in {w.options.weights for w in works} if _is_file(path)}
    versions = fit.versions()
    waiting = {
        remote.options(name=work.name).remote(
            Order(work.name, work.options, work.parts, work.keep_model, work.threads, versions),
            slices,
            files.get(work.options.weights),
        ): work
        for work in works
    }
    while waiting:
        (done, *_), _ = ray.wait(list(waiting), num_returns=1)
        work = waiting.pop(done)
        _write(work.folder, _result(ray, done, work.name))
        yield work


def _result(ray: Any, done: Any, name: str) -> dict[str, bytes]:
    try:
        found: dict[str, bytes] = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EdgeCTError):
            raise type(error.cause)(f"{name}: {error.cause}") from error
        raise EdgeCTError(f"{name}: {type(error.cause).__name__}: {error.cause}") from error
    except ray.exceptions.RayError as error:
        raise EdgeCTError(f"{name}: its worker was lost {RETRIES + 1} times, at last: {error}") from error
    return found


def _is_file(weights: str) -> bool:
    return weights not in ("none", "imagenet")


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """A run folder from what a node gave back; run.json last, as it says that the folder is whole."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in sorted(files, key=lambda name: name == "run.json"):
        write_bytes(folder / name, files[name])


def _do(order: Order, shared: Prepared, weights: bytes | None) -> dict[str, bytes]:
    """On a node: do a job, and give the files of its run folder back."""
    _check_versions(order.versions)
    with tempfile.TemporaryDirectory(prefix=f"edge-ct-job-{os.getpid()}-") as scratch:
        folder = Path(scratch, "run")
        runner.do(
            shared, order.parts, order.options, folder, order.threads, start=_start(order, weights, Path(scratch))
        )
        runner.tidy(folder, order.keep_model)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _start(order: Order, weights: bytes | None, scratch: Path) -> Callable[[], Any] | None:
    """Builds the network from weights that came along: the path in the options is one of the machine they came from."""
    if weights is None:
        return None
    options = order.options
    path = scratch / Path(options.weights).name
    path.write_bytes(weights)
    return lambda: build.build(keras, options.network, options.size, options.alpha, path, options.dropout)


def _check_versions(expected: dict[str, str]) -> None:
    here = fit.versions()
    if here != expected:
        listed = ", ".join(
            f"{name} {here.get(name, 'missing')} instead of {version}"
            for name, version in expected.items()
            if here.get(name) != version
        )
        raise EdgeCTError(f"the node {socket.gethostname()} has {listed}; install the same on all nodes")
