"""A folder of slices through `edge-ct classify`: throughput by workers, and whether memory stays flat."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_ct.system.progress import QUIET, Progress

from .processes import cold_run

FEW, MANY = 200, 2000


class Throughput(msgspec.Struct, frozen=True):
    """Of `slices` files judged by `workers` workers with an interpreter each, of one thread.

    seconds: from the start of the process to its end. slices_per_second: of all but the first 200 files, so without the
    start. of_possible: that rate over cores (no more than there are workers) divided by the model-only time: 1 where
    reading and preparing slices cost nothing. peak_rss_mb: the most memory the process held; growth_mb: more than one
    that judges 200.
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
    progress: Progress = QUIET,
) -> tuple[Throughput, ...]:
    """Judge folders of 200 and 2,000 files; where there are fewer slices, the same ones under many names."""
    found = []
    with (
        tempfile.TemporaryDirectory() as work,
        progress.bar("folders", len(workers) * (FEW + MANY)) as on_done,
    ):
        few, many = (_folder(Path(work) / str(count), contents, count) for count in (FEW, MANY))
        for number in workers:
            command = [sys.executable, "-m", "edge_ct", "classify", "--model", str(bundle), "--json"]
            command += ["--workers", str(number)]
            before, small = cold_run([*command, str(few)], lambda _: on_done(FEW))
            wall, large = cold_run([*command, str(many)], lambda _: on_done(MANY))
            rate = 1000 * (MANY - FEW) / max(wall - before, 1e-9)
            found.append(
                Throughput(
                    workers=number,
                    slices=MANY,
                    seconds=wall / 1000,
                    slices_per_second=rate,
                    of_possible=rate * model_ms / 1000 / min(number, cores),
                    peak_rss_mb=large,
                    growth_mb=large - small,
                )
            )
    return tuple(found)


def _folder(folder: Path, contents: Sequence[bytes], count: int) -> Path:
    """`count` files; contents beyond the first time are links."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:04}.png"  # the header, not the ending, says what it is
        if number < len(contents):
            path.write_bytes(contents[number])
        else:
            os.link(folder / f"{number % len(contents):04}.png", path)
    return folder
