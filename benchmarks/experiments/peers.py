"""The same network in other inference engines: LiteRT, tflite-runtime, ONNX Runtime, OpenVINO, Keras.

    python -m edge_ct.benchmarks.experiments.peers BUNDLE OUT.csv [--run RUN] [--tflite-python PYTHON]

(`make bench-peers`) runs each engine and number of threads in a process of its own. They take turns, so that other work
of the machine disturbs all of them. A ratio is the median over the rounds of the Classifier's median time divided by
the engine's in that round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from edge_ct.bundle import Bundle, read_bundle
from edge_ct.cli import run_program
from edge_ct.errors import EdgeCTError
from edge_ct.slices import decode
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text
from edge_ct.system.progress import Progress

from ..measure.bundle import phantom_files
from ..measure.machine import condition, describe

ROUNDS, SECONDS, QUERIES = 20, 0.5, 60
OURS = "edge-ct"
KINDS = {"model": "model only", "end": "end to end"}
COLUMNS = (
    "engine",
    "version",
    "precision",
    "threads",
    "query",
    "p50_ms",
    "p90_ms",
    "mean_ms",
    "min_ms",
    "n",
    "ours_to_theirs",
    "ours_to_theirs_low",
    "ours_to_theirs_high",
    "same_logits",
    "model",
    "cpu",
    "cores",
    "vectors",
    "load",
)


@dataclass(eq=False)
class Peer:
    """One engine at one number of threads.

    Attributes:
        engine: Name of the engine.
        threads: Number of threads.
        process: The running worker.
        version: Name and version of the engine's package.
        logits: Stored logits for the phantom.
        times: Kind of query -> for each round, the milliseconds of every query.
    """

    engine: str
    threads: int
    process: Any
    version: str = ""
    logits: tuple[float, ...] = ()
    times: dict[str, list[list[float]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def run_turn(self, kind: str, seconds: float, queries: int) -> None:
        """Let the engine answer queries for at most `seconds`; raises `EdgeCTError` if its process has ended."""
        with suppress(BrokenPipeError):  # it has ended, which reading its answer reports; nothing stays in a buffer
            os.write(self.process.stdin.fileno(), f"{kind} {seconds} {queries}\n".encode())
        self.times[kind].append(self.read_answer())

    def read_answer(self) -> Any:
        """Read one line of JSON from the worker."""
        line = self.process.stdout.readline()
        if not line:
            raise EdgeCTError(
                f"{self.engine}, {self.threads} threads: the worker ended with exit code {self.process.wait()}"
            )
        return json.loads(line)


def write_slice_and_input(bundle: Bundle, folder: Path) -> tuple[Path, Path]:
    """Write a phantom of 512 px, and what the network of a bundle sees of it, as PNG files to a folder."""
    content = phantom_files(1)[0]
    image = bundle.manifest.preprocess(decode(content, "phantom").pixels)
    path, network_input = folder / "slice.png", folder / "input.png"
    path.write_bytes(content)
    network_input.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return path, network_input


def start_peer(
    engine: str, python: str, model: Path, path: Path, network_input: Path, threads: int, stack: ExitStack
) -> Peer:
    """Start a worker, which warms up; raises `EdgeCTError` if the engine is not installed.

    Args:
        engine: Name of the engine.
        python: Python of the environment that has the engine.
        model: Model file in the engine's format.
        path: The slice to judge.
        network_input: What the network sees of it, as PNG.
        threads: Number of threads.
        stack: Ends the process on exit.
    """
    command = [python, str(Path(__file__).with_name("peer_worker.py")), engine, str(model), str(path)]
    process = stack.enter_context(
        subprocess.Popen(
            [*command, str(network_input), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    stack.callback(process.kill)
    peer = Peer(engine, threads, process)
    first = peer.read_answer()
    peer.version, peer.logits = first["version"], tuple(first["logits"])
    return peer


def ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Return median, lower and upper quartile over the rounds of our median divided by theirs."""
    ratios = [np.median(mine) / np.median(other) for mine, other in zip(ours, theirs, strict=True)]
    middle, low, high = np.percentile(ratios, [50, 25, 75])
    return float(middle), float(low), float(high)


def peer_rows(peers: Sequence[Peer], model: str) -> list[dict[str, object]]:
    """Return the rows of the table, after all rounds."""
    machine, load = describe(), condition().load
    ours = {peer.threads: peer for peer in peers if peer.engine == OURS}
    rows: list[dict[str, object]] = []
    for peer in peers:
        shipped = ours[peer.threads]
        for kind, title in KINDS.items():
            times = [ms for turn in peer.times[kind] for ms in turn]
            p50, p90 = np.percentile(times, [50, 90])
            middle, low, high = ratio(shipped.times[kind], peer.times[kind])
            values = (
                peer.engine,
                peer.version,
                "float32" if peer.engine == "keras" else "as the file",
                peer.threads,
                title,
                f"{p50:.3f}",
                f"{p90:.3f}",
                f"{np.mean(times):.3f}",
                f"{min(times):.3f}",
                len(times),
                f"{middle:.3f}",
                f"{low:.3f}",
                f"{high:.3f}",
                _has_same_logits(peer, shipped),
                model,
                machine.cpu,
                machine.cores,
                " ".join(machine.vectors),
                "" if load is None else load,
            )
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _has_same_logits(peer: Peer, ours: Peer) -> str:
    """Return whether the stored logits of the same input are within two steps of ours; engines round differently."""
    if peer.engine == "keras":
        return "not comparable"
    return "yes" if np.abs(np.subtract(peer.logits, ours.logits)).max() <= 2 else "no"


def to_onnx(bundle: Path, out: Path) -> None:
    """Convert a TFLite file to ONNX with its quantised operators; raises `EdgeCTError` if tf2onnx cannot."""
    command = [sys.executable, "-m", "tf2onnx.convert", "--tflite", str(bundle), "--output", str(out), "--opset", "13"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not out.exists():
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise EdgeCTError(f"tf2onnx cannot convert {bundle}: {lines[-1]}")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--run",
    "run_folder",
    type=click.Path(path_type=Path),
    help="Run that the bundle was made from, to measure in Keras.",
)
@click.option("--tflite-python", help="Python of an environment that has tflite-runtime.")
@click.option(
    "--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True, help="Number of rounds to measure."
)
def command(bundle: Path, out: Path, run_folder: Path | None, tflite_python: str | None, rounds: int) -> None:
    """Measure BUNDLE in all engines that are installed, in turns, and write the table OUT."""
    progress = Progress()
    opened = read_bundle(bundle)
    with tempfile.TemporaryDirectory() as work, ExitStack() as stack:
        path, network_input = write_slice_and_input(opened, Path(work))
        flatbuffer, onnx = Path(work) / "model.tflite", Path(work) / "model.onnx"
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
                    peers.append(start_peer(engine, python, model, path, network_input, threads, stack))
                except EdgeCTError as error:
                    progress.say(f"not measured: {error}")
        if {peer.threads for peer in peers if peer.engine == OURS} != {1, 2}:
            raise EdgeCTError("edge-ct itself did not start, so there is nothing to compare with")
        with progress.bar("rounds", rounds) as on_done:
            for _ in range(rounds):
                for peer in peers:
                    for kind in KINDS:
                        peer.run_turn(kind, SECONDS, QUERIES)
                on_done(1)
    table = peer_rows(peers, opened.identity)
    write_text(out, to_csv(COLUMNS, (row.values() for row in table)))
    for row in table:
        click.echo(
            f"{row['engine']:<15} {row['threads']} threads  {row['query']:<11} p50 {row['p50_ms']:>9} ms   "
            f"ours / theirs {row['ours_to_theirs']} [{row['ours_to_theirs_low']}, {row['ours_to_theirs_high']}]"
        )


if __name__ == "__main__":
    run_program(command)
