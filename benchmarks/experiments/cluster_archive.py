"""An archive judged on two local Ray workers, one of which is killed: rows, memory, and equality with a local run.

    python -m edge_ct.benchmarks.experiments.cluster_archive BUNDLE OUT.json

The archive holds phantoms (PNG, 512 px) under many names in folders of 500, each file a hard link to one of a few
hundred slices. `edge-ct classify --cluster auto` judges it. After a third of the rows, the process with which one
worker judges is killed with SIGKILL. Meanwhile the memory of the command and of all its processes, Ray's included, is
read from /proc. At the end, rows spread over the archive are compared with those of `edge-ct classify` without Ray.

Ray gives its workers the niceness 15: on a machine that has other work they get next to no processor time unless
RAY_worker_niceness=0 is set.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from edge_ct.cli import run_program
from edge_ct.errors import EdgeCTError
from edge_ct.system.child_command import run_command
from edge_ct.system.files import write_bytes
from edge_ct.system.host import resident_memory
from edge_ct.system.progress import print_json

from ..measure.bundle import phantom_files
from ..measure.machine import Machine, describe

FOLDER = 500  # files in a folder of the archive
SAMPLE = 500  # files judged again without Ray
# What the two runs must agree on; their times differ.
COMPARED = ("source", "decision", "probability", "reason", "series", "model", "lesion_share")
_JUDGE = b"block_judge import main"
_INTERVAL_S = 0.5


class Memory(msgspec.Struct, frozen=True):
    """Resident memory at one moment, in MB, and the rows that were written by then."""

    rows: int
    command_mb: float
    all_processes_mb: float


class ClusterTrial(msgspec.Struct, frozen=True):
    """What the trial found.

    Attributes:
        files: Number of files of the archive.
        workers: Number of Ray workers.
        rows: Number of rows in the Parquet files.
        names: Number of different files among the rows.
        seconds: Wall time of the command.
        slices_per_second: Rows divided by that time; Ray's start is included.
        counts: Number of rows by decision.
        killed_at_row: Rows that were written when a worker was killed.
        memory: Memory at a quarter, a half, three quarters of the rows and at the end.
        growth_mb: Growth of the command's memory from a quarter of the rows to the end.
        sample: Number of files that were judged again without Ray.
        unequal: Number of those whose row differs.
        machine: The machine.
        slices: Number of different slices in the archive.
    """

    files: int
    workers: int
    rows: int
    names: int
    seconds: float
    slices_per_second: float
    counts: dict[str, int]
    killed_at_row: int
    memory: tuple[Memory, ...]
    growth_mb: float
    sample: int
    unequal: int
    machine: Machine
    slices: int


def write_archive(folder: Path, contents: Sequence[bytes], files: int) -> list[Path]:
    """Write an archive of hard links to a few slices, and return its paths in the order of the archive."""
    originals = folder.with_name("slices")
    originals.mkdir()
    for number, content in enumerate(contents):
        (originals / f"{number}.png").write_bytes(content)
    paths = [folder / f"{number // FOLDER:04}" / f"{number:06}.png" for number in range(files)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Every 13th slice from a start that moves, so that the blocks of the archive hold different slices.
        os.link(originals / f"{(13 * number + number // FOLDER) % len(contents)}.png", path)
    return paths


def run_trial(bundle: Path, files: int, workers: int, contents: Sequence[bytes]) -> ClusterTrial:
    """Judge an archive on Ray workers, kill one, and compare a sample of the rows with a local run.

    Raises:
        EdgeCTError: The command failed, or ended before a worker could be killed.
    """
    with tempfile.TemporaryDirectory() as work:
        archive, out = Path(work) / "archive", Path(work) / "results.parquet"
        paths = write_archive(archive, contents, files)
        command = [sys.executable, "-m", "edge_ct", "classify", str(archive), "--model", str(bundle.absolute())]
        command += ["--cluster", "auto", "--workers", str(workers), "--out", str(out), "--json"]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                measured, killed_at = _observe(process, out, files)
            except BaseException:
                process.terminate()
                raise
        seconds = time.perf_counter() - started
        if process.returncode or killed_at is None:
            reason = "it ended before a worker was killed" if killed_at is None else f"exit code {process.returncode}"
            raise EdgeCTError(f"classify --cluster: {reason}; judge more files, or see its message above")
        rows = list(_read_rows(out))
        sample = [str(path) for path in paths[:: max(1, files // SAMPLE)]]
        unequal = _count_unequal(rows, bundle, sample)
    quarters = _at_quarters(measured, files)
    return ClusterTrial(
        files=files,
        workers=workers,
        rows=len(rows),
        names=len({row["source"] for row in rows}),
        seconds=round(seconds, 1),
        slices_per_second=round(len(rows) / seconds, 1),
        counts=dict(Counter(row["decision"] for row in rows)),
        killed_at_row=killed_at,
        memory=quarters,
        growth_mb=round(quarters[-1].command_mb - quarters[0].command_mb, 1),
        sample=len(sample),
        unequal=unequal,
        machine=describe(),
        slices=len(contents),
    )


def _observe(process: subprocess.Popen[bytes], out: Path, files: int) -> tuple[list[Memory], int | None]:
    """Read memory until the command ends, and kill one worker after a third of the rows."""
    measured: list[Memory] = []
    counted: dict[str, int] = {}
    killed_at = None
    while process.poll() is None:
        rows = _written_rows(out, counted)
        tree = descendants(process.pid)
        memory = [resident_memory(process=str(pid)) or 0 for pid in (process.pid, *tree)]
        if memory[0]:  # 0 once the command has ended
            measured.append(Memory(rows, round(memory[0] / 2**20, 1), round(sum(memory) / 2**20, 1)))
        if killed_at is None and rows * 3 >= files:
            judges = [pid for pid in tree if _JUDGE in _command_line(pid)]
            if judges:
                os.kill(judges[0], signal.SIGKILL)
                killed_at = rows
        time.sleep(_INTERVAL_S)
    return measured, killed_at


def _written_rows(out: Path, counted: dict[str, int]) -> int:
    """Return the number of rows in the parts that exist; `counted` remembers those that were read already."""
    import pyarrow.parquet as pq

    for path in out.glob("part-*.parquet"):
        if path.name not in counted:
            with contextlib.suppress(OSError):
                counted[path.name] = pq.read_metadata(path).num_rows
    return sum(counted.values())


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they started, from /proc."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of the program stands in brackets and may hold blanks; state and parent follow it.
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = list[int](), [pid]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            found.append(child)
            waiting.append(child)
    return sorted(found)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _read_rows(out: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for path in sorted(out.glob("part-*.parquet")):
        yield from pq.read_table(path).select(COMPARED).to_pylist()


def _count_unequal(rows: Iterable[dict[str, Any]], bundle: Path, sample: Sequence[str]) -> int:
    """Judge the sample without Ray, and return how many rows differ."""
    by_source = {row["source"]: row for row in rows}
    text = run_command(["classify", *sample, "--model", bundle, "--csv"], show_progress=False).text
    local = {row["source"]: row for row in csv.DictReader(io.StringIO(text))}
    return sum(
        source not in by_source or source not in local or not _same(by_source[source], local[source])
        for source in sample
    )


def _same(row: dict[str, Any], text: dict[str, str]) -> bool:
    return all(
        (text[name] == "" if row[name] is None else type(row[name])(text[name]) == row[name]) for name in COMPARED
    )


def _at_quarters(measured: Sequence[Memory], files: int) -> tuple[Memory, ...]:
    """Return the memory at a quarter, a half and three quarters of the rows, and at the end."""
    rows = np.array([memory.rows for memory in measured])
    places = [int(np.argmax(rows >= share * files)) for share in (0.25, 0.5, 0.75)]
    return tuple(measured[place] for place in (*places, len(measured) - 1))


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--files", type=click.IntRange(100), default=20_000, show_default=True, help="Files in the archive.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Number of local Ray workers.")
@click.option(
    "--slices", type=click.IntRange(1), default=200, show_default=True, help="Number of different phantom slices."
)
def command(bundle: Path, out: Path, files: int, workers: int, slices: int) -> None:
    """Judge an archive of phantoms with BUNDLE on local Ray workers, kill one of them, and write OUT."""
    trial = run_trial(bundle, files, workers, phantom_files(slices))
    write_bytes(out, msgspec.json.format(msgspec.json.encode(trial), indent=1) + b"\n")
    print_json(trial)


if __name__ == "__main__":
    run_program(command)
