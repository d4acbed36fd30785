"""Studies on a Ray cluster: the same tables as here, with a node lost in the middle; and what is refused."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_ct.errors import DataRejected, EdgeCTError, MissingExtra
from edge_ct.system import ray_cluster
from edge_ct.system.host import processors
from edge_ct.train import fit
from edge_ct.train.fitting.options import TrainingOptions
from edge_ct.train.study import cluster, runner
from edge_ct.train.study.cluster import JobOrder
from edge_ct.train.zoo.builder import build

from ..conftest import THREADS, SmallStudy, tables_of


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """See two_nodes.py; each node has as many processors as a job takes, and `tmp_path` for scratch."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'edge-ct[cluster]')")
    (tmp_path / "scratch").mkdir()
    script = Path(__file__).with_name("two_nodes.py")
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as sockets:  # whose paths must be short
        process = subprocess.Popen(
            [sys.executable, str(script), str(THREADS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path / "scratch"), "RAY_TMPDIR": sockets},
        )
        yield process
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def children(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(stat.parent.name))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds a node's workers in /proc")
def test_a_node_lost_in_the_middle_changes_nothing(
    small_study: SmallStudy, two_nodes: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert two_nodes.stdout is not None
    assert two_nodes.stdin is not None
    address, _, raylet = two_nodes.stdout.readline().split()
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "edge_ct", *small_study.arguments, "--out", str(out), "--cluster", address, "--json",
    ]  # fmt: skip
    begun = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lost, deadline = None, time.monotonic() + 900
    while lost is None and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
        workers = children(int(raylet))
        for state in (tmp_path / "scratch").glob("edge-ct-job-*/run/checkpoint/state.json"):
            if int(state.parents[2].name.split("-")[3]) in workers:
                lost = state
    two_nodes.stdin.write("now\n")
    two_nodes.stdin.flush()
    assert two_nodes.stdout.readline() == "killed\n"
    printed, said = begun.communicate(timeout=900)
    assert begun.returncode == 0, said
    assert lost is not None, said
    assert lost.exists()  # the job never came to its end there: a finished one leaves no checkpoint, nor its scratch
    assert tables_of(out) == tables_of(small_study.out)
    for folder in ("round-01/fold-1", "round-02/fold-2"):
        for name in ("split.csv", "predictions.csv", "metrics.json", "run.json"):
            paths = [made / "customcnn" / folder / name for made in (out, small_study.out)]
            assert paths[0].read_bytes() == paths[1].read_bytes()
    (row,) = json.loads(printed)["networks"]
    assert row["runs"] == 4


def test_nodes_and_resources() -> None:
    class Ray:
        """Two nodes, one of them dead, and a smaller one."""

        @staticmethod
        def nodes() -> list[dict[str, Any]]:
            alive = {"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30}
            return [
                {"Alive": True, "Resources": alive},
                {"Alive": False, "Resources": {**alive, "CPU": 64.0}},
                {"Alive": True, "Resources": {"CPU": 4.0, "memory": 8.0 * 2**30}},
            ]

    def places(cpus: float, gpus: float = 0, memory: float = 0) -> int:
        return ray_cluster.count_places(Ray, {"CPU": cpus, "GPU": gpus, "memory": memory * 2**30}, "lower it")

    assert places(4) == 5
    assert places(4, 0.5) == 4
    assert places(4, 1) == 2
    assert places(1, 0, 8) == 9
    with pytest.raises(EdgeCTError, match=r"no node has room for a job of 32 CPU \(largest: 16 CPU\)"):
        places(32)
    with pytest.raises(EdgeCTError, match=r"4 CPU .*100\.0 GiB \(largest: 64\.0 GiB\)"):
        places(4, 0, 100)


@pytest.mark.parametrize("address", ["nonsense", "ray://x:1", "host:", ":1", "127.0.0.1:99999"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(EdgeCTError, match=r"HOST:PORT|no Ray cluster answers"):
        ray_cluster.check_address(address)


def test_a_cluster_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EdgeCTError, match=f"127.0.0.1:{port}: no Ray cluster answers"):
        ray_cluster.check_address(f"127.0.0.1:{port}")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edge-ct\[cluster\]'"):
        cluster.cluster_runner(None)


def order(**changes: object) -> JobOrder:
    made = JobOrder("a job", TrainingOptions("vgg16", size=32), ("train",), False, processors(), fit.package_versions())
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_node_with_other_packages_says_so() -> None:
    cluster._check_versions(fit.package_versions())
    with pytest.raises(
        EdgeCTError, match=r"has keras \S+ instead of 0\.1, gone missing instead of 2; install the same versions"
    ):
        cluster._check_versions(fit.package_versions() | {"keras": "0.1", "gone": "2"})


def test_a_job_gives_its_finished_run_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def do(shared: object, parts: object, options: object, folder: Path, threads: int, start: object) -> None:
        for name in ("run.json", "checkpoint/state.json", "model.keras", "tensorboard/events"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)

    monkeypatch.setattr(runner, "run_job", do)
    shared: Any = None
    assert sorted(cluster._run_on_node(order(), shared, None)) == ["run.json", "tensorboard/events"]
    files = cluster._run_on_node(order(keep_model=True), shared, None)
    assert files["model.keras"] == b"model.keras"
    (tmp_path / "out" / "old").mkdir(parents=True)
    written = []
    monkeypatch.setattr(cluster, "write_bytes", lambda path, content: written.append(path.relative_to(tmp_path)))
    cluster._write_run(tmp_path / "out", files)
    assert not (tmp_path / "out").exists()
    assert [str(path) for path in written] == ["out/model.keras", "out/tensorboard/events", "out/run.json"]


@pytest.mark.slow
def test_weights_come_along(tmp_path: Path) -> None:
    """A job's network starts from the bytes of the file, though no such file is on its node."""
    import keras

    colour = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    colour.save_weights(tmp_path / "vgg.weights.h5")
    content = (tmp_path / "vgg.weights.h5").read_bytes()
    options = TrainingOptions("vgg16", size=32, weights="/nowhere/vgg.weights.h5")
    (tmp_path / "scratch").mkdir()
    start = cluster._start(order(options=options), content, tmp_path / "scratch")
    assert cluster._start(order(), None, tmp_path) is None
    assert start is not None
    expected = build(keras, "vgg16", 32, weights=tmp_path / "vgg.weights.h5")
    for first, second in zip(start().get_weights()[:4], expected.get_weights()[:4], strict=True):
        assert np.array_equal(first, second)


class Lost(Exception):
    """Stands for Ray's own errors."""


class Failed(Exception):
    """Stands for what Ray raises in the place of a job's exception."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a traceback\nof many lines")
        self.cause = cause


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (Failed(DataRejected("no weights")), DataRejected, "^vgg16, fold 2: no weights$"),
        (Failed(ValueError("broken")), EdgeCTError, "^vgg16, fold 2: ValueError: broken$"),
        (
            Lost("out of memory"),
            EdgeCTError,
            "its worker was lost 9 times; the last error was: out of memory$",
        ),
    ],
)
def test_what_went_wrong_on_a_node_is_one_line(raised: Exception, kind: type[Exception], message: str) -> None:
    class Ray:
        """Gives nothing but errors."""

        class exceptions:
            RayTaskError, RayError = Failed, Lost

        @staticmethod
        def get(reference: object) -> None:
            raise raised

    with pytest.raises(kind, match=message):
        cluster._result(Ray, None, "vgg16, fold 2")
