"""The same network in other engines: LiteRT, tflite-runtime, ONNX Runtime, OpenVINO, Keras; `make bench-peers`.

    python -m edge_ct.benchmarks.experiments.peers BUNDLE OUT.csv [--run RUN] [--tflite-python PYTHON]

Every engine and number of threads is a process of its own, and they take turns, so that whatever else the machine does
meets all of them. A ratio is the median over the rounds of the Classifier's median time to the engine's in that round.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from edge_ct.bundle import read_bundle
from edge_ct.errors import EdgeCTError
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text
from edge_ct.system.progress import Progress

from ..measure.bundle import phantom_files
from ..measure.machine import condition, describe

ROUNDS, SECONDS, QUERIES = 20, 0.5, 60
OURS = "edge-ct"
KINDS = {"model": "model only", "end": "end to end"}
COLUMNS = ("engine", "version", "precision", "threads", "query", "p50_ms", "p90_ms", "mean_ms", "min_ms", "n",
           "ours_to_theirs", "ours_to_theirs_low", "ours_to_theirs_high", "same_logits", "model", "cpu", "cores",
           "vectors", "load")  # fmt: skip


@dataclass(eq=False)
class Peer:
    """One engine at one number of threads. times: kind of query -> a list of milliseconds for each round."""

    engine: str
    threads: int
    process: Any
    version: str = ""
    logits: tuple[float, ...] = ()
    times: dict[str, list[list[float]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def turn(self, kind: str, seconds: float, queries: int) -> None:
        """Let it answer queries for a while. Raises `EdgeCTError` where the process is gone."""
        self.process.stdin.write(f"{kind} {seconds} {queries}\n")
        self.process.stdin.flush()
        self.times[kind].append(self.answer())

    def answer(self) -> Any:
        """One line of it."""
        line = self.process.stdout.readline()
        if not line:
            raise EdgeCTError(f"{self.engine}, {self.threads} threads: ended with exit code {self.process.wait()}")
        return json.loads(line)


def start(engine: str, python: str, model: Path, path: Path, size: int, threads: int, stack: ExitStack) -> Peer:
    """Start a process, which warms itself up. Raises `EdgeCTError` where the engine is not there."""
    command = [python, str(Path(__file__).with_name("peer_worker.py")), engine, str(model), str(path), str(size)]
    process = stack.enter_context(
        subprocess.Popen(
            [*command, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    stack.callback(process.kill)
    peer = Peer(engine, threads, process)
    told = peer.answer()
    peer.version, peer.logits = told["version"], tuple(told["logits"])
    return peer


def ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Median, lower and upper quartile over the rounds of our median to theirs."""
    found = [np.median(own) / np.median(other) for own, other in zip(ours, theirs, strict=True)]
    middle, low, high = np.percentile(found, [50, 25, 75])
    return float(middle), float(low), float(high)


def rows(peers: Sequence[Peer], model: str) -> list[dict[str, object]]:
    """What the table holds, of processes that have had their turns."""
    machine, busy = describe(), condition().load
    ours = {peer.threads: peer for peer in peers if peer.engine == OURS}
    found = []
    for peer in peers:
        own = ours[peer.threads]
        for kind, said in KINDS.items():
            times = [ms for turn in peer.times[kind] for ms in turn]
            p50, p90 = np.percentile(times, [50, 90])
            middle, low, high = ratio(own.times[kind], peer.times[kind])
            values = (peer.engine, peer.version, "float32" if peer.engine == "keras" else "as the file", peer.threads,
                      said, f"{p50:.3f}", f"{p90:.3f}", f"{np.mean(times):.3f}", f"{min(times):.3f}", len(times),
                      f"{middle:.3f}", f"{low:.3f}", f"{high:.3f}", _same(peer, own), model, machine.cpu, machine.cores,
                      " ".join(machine.vectors), "" if busy is None else busy)  # fmt: skip
            found.append(dict(zip(COLUMNS, values, strict=True)))
    return found


def _same(peer: Peer, ours: Peer) -> str:
    """Whether the stored logits are within two steps of ours: other engines round otherwise, and resize otherwise."""
    if peer.engine == "keras":
        return "not comparable"
    return "yes" if np.abs(np.subtract(peer.logits, ours.logits)).max() <= 2 else "no"


def to_onnx(bundle: Path, out: Path) -> None:
    """Convert a TFLite file as it is, quantised operators and all. Raises `EdgeCTError` where tf2onnx cannot."""
    command = [sys.executable, "-m", "tf2onnx.convert", "--tflite", str(bundle), "--output", str(out), "--opset", "13"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not out.exists():
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise EdgeCTError(f"tf2onnx does not convert {bundle}: {lines[-1]}")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--run", "run_folder", type=click.Path(path_type=Path), help="The run that the bundle was made of.")
@click.option("--tflite-python", help="The Python of an environment with tflite-runtime.")
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True)
def main(bundle: Path, out: Path, run_folder: Path | None, tflite_python: str | None, rounds: int) -> None:
    """Measure all engines that are there, in turns, and write a table."""
    progress = Progress()
    opened = read_bundle(bundle)
    size = opened.manifest.preprocess.size
    with tempfile.TemporaryDirectory() as work, ExitStack() as stack:
        path, flatbuffer, onnx = (Path(work) / name for name in ("slice.png", "model.tflite", "model.onnx"))
        path.write_bytes(phantom_files(1)[0])
        flatbuffer.write_bytes(opened.model)
        wanted = [(OURS, sys.executable, bundle), ("litert", sys.executable, flatbuffer)]
        try:
            to_onnx(flatbuffer, onnx)
            wanted.append(("onnxruntime", sys.executable, onnx))
        except EdgeCTError as error:
            progress.say(str(error))
        wanted.append(("openvino", sys.executable, flatbuffer))
        if tflite_python:
            wanted.append(("tflite-runtime", tflite_python, flatbuffer))
        if run_folder:
            wanted.append(("keras", sys.executable, run_folder / "model.keras"))
        peers = []
        for engine, python, model in wanted:
            for threads in (1, 2):
                try:
                    peers.append(start(engine, python, model, path, size, threads, stack))
                except EdgeCTError as error:
                    progress.say(f"left out: {error}")
        if {peer.threads for peer in peers if peer.engine == OURS} != {1, 2}:
            raise SystemExit("edge-ct itself did not start: nothing to compare with")
        with progress.bar("rounds", rounds) as on_done:
            for _ in range(rounds):
                for peer in peers:
                    for kind in KINDS:
                        peer.turn(kind, SECONDS, QUERIES)
                on_done(1)
    found = rows(peers, opened.identity)
    write_text(out, to_csv(COLUMNS, (row.values() for row in found)))
    for row in found:
        click.echo(
            f"{row['engine']:<15} {row['threads']} threads  {row['query']:<11} p50 {row['p50_ms']:>9} ms   "
            f"ours / theirs {row['ours_to_theirs']} [{row['ours_to_theirs_low']}, {row['ours_to_theirs_high']}]"
        )


if __name__ == "__main__":
    main()
