"""Throughput of `edge-ct classify` on a folder, by number of workers, and whether its memory stays constant."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.system.progress import QUIET, Progress

from .processes import cold_run

FEW, MANY = 200, 2000


class Throughput(msgspec.Struct, frozen=True):
    """A folder of slices judged by several workers, each with an interpreter of one thread.

    Attributes:
        workers: Number of workers.
        slices: Number of files.
        seconds: Wall time of the whole process.
        slices_per_second: Rate over all files but the first 200, so that the start does not count.
        of_possible: The rate times the model-only time, divided by the cores in use (no more than the workers):
            1 would mean that reading and preprocessing slices cost nothing.
        peak_rss_mb: Peak resident memory of the process.
        growth_mb: Difference of the peak to that of a process that judges 200 files.
    """

    workers: int
    slices: int
    seconds: float
    slices_per_second: float
    of_possible: float
    peak_rss_mb: float
    growth_mb: float


def throughput(
    bundle: Path,
    contents: Sequence[bytes],
    workers: Sequence[int],
    cores: int,
    model_ms: float,
    engine: EngineName = DEFAULT_ENGINE,
    progress: Progress = QUIET,
) -> tuple[Throughput, ...]:
    """Judge folders of 200 and of 2,000 files with each number of workers.

    Args:
        bundle: The bundle to judge with.
        contents: Bytes of slice files; they are repeated under many names if there are fewer than 2,000.
        workers: Numbers of workers.
        cores: Processor cores that may be used.
        model_ms: Model-only time of one slice on one thread, in milliseconds.
        engine: The program that computes the network.
        progress: Where to show progress.
    """
    results = []
    with (
        tempfile.TemporaryDirectory() as work,
        progress.bar("folders", len(workers) * (FEW + MANY)) as on_done,
    ):
        few, many = (_write_folder(Path(work) / str(count), contents, count) for count in (FEW, MANY))
        for number in workers:
            command = [sys.executable, "-m", "edge_ct", "classify", "--model", str(bundle), "--json"]
            command += ["--workers", str(number), "--engine", engine]
            few_ms, few_mb = cold_run([*command, str(few)], lambda _: on_done(FEW))
            many_ms, many_mb = cold_run([*command, str(many)], lambda _: on_done(MANY))
            rate = 1000 * (MANY - FEW) / max(many_ms - few_ms, 1e-9)
            results.append(
                Throughput(
                    workers=number,
                    slices=MANY,
                    seconds=many_ms / 1000,
                    slices_per_second=rate,
                    of_possible=rate * model_ms / 1000 / min(number, cores),
                    peak_rss_mb=many_mb,
                    growth_mb=many_mb - few_mb,
                )
            )
    return tuple(results)


def _write_folder(folder: Path, contents: Sequence[bytes], count: int) -> Path:
    """Write `count` files; repetitions are hard links."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:04}.png"  # the file's content decides its format, not this suffix
        if number < len(contents):
            path.write_bytes(contents[number])
        else:
            os.link(folder / f"{number % len(contents):04}.png", path)
    return folder
