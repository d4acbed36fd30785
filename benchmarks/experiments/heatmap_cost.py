"""What heat maps add to judging slices: `python -m edge_ct.benchmarks.experiments.heatmap_cost model.tflite`.

The same folder of phantoms (PNG, 512 px) is judged by `edge-ct classify`, by the same with `--maps` (the maps as
numbers) and with `--heatmap` (pictures), in turns, in one process, on all processors. A ratio is of the medians over
the rounds.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import click
import msgspec
import numpy as np

from edge_ct import cli
from edge_ct.errors import EdgeCTError
from edge_ct.system.progress import print_json

from ..measure.bundle import phantom_files

WAYS = ("alone", "maps", "pictures")


class Cost(msgspec.Struct, frozen=True):
    """Seconds for all slices, medians over the rounds. times_*: of those of classification alone."""

    way: str
    wall_s: float
    cpu_s: float
    times_wall: float
    times_cpu: float


def measure(judge: Callable[[str], None], rounds: int) -> list[Cost]:
    """judge: does all slices one way. A round of each goes before, unmeasured."""
    for way in WAYS:
        judge(way)
    taken = []
    for _ in range(rounds):
        row = []
        for way in WAYS:
            wall, cpu = perf_counter(), process_time()
            judge(way)
            row.append((perf_counter() - wall, process_time() - cpu))
        taken.append(row)
    medians = np.median(np.array(taken), axis=0)
    return [
        Cost(way, *(float(value) for value in (*own, *(own / medians[0]))))
        for way, own in zip(WAYS, medians, strict=True)
    ]


def judging(bundle: Path, folder: Path, slices: int) -> Callable[[str], None]:
    """`edge-ct classify` of `slices` phantoms below `folder`. Raises `EdgeCTError` where it fails."""
    source = folder / "slices"
    source.mkdir()
    for number, content in enumerate(phantom_files(slices)):
        (source / f"{number:03d}.png").write_bytes(content)
    more: dict[str, Sequence[str]] = {
        "alone": (),
        "maps": ("--maps", str(folder / "maps.npz")),
        "pictures": ("--heatmap", str(folder / "pictures")),
    }

    def judge(way: str) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = cli.run(["classify", str(source), "--model", str(bundle), "--json", *more[way]])
        if code:
            raise EdgeCTError(f"edge-ct classify ended with {code}: {printed.getvalue().strip()[-300:]}")

    return judge


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--slices", type=click.IntRange(1), default=100, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(bundle: Path, slices: int, rounds: int, as_json: bool) -> None:
    """What heat maps add to judging slices."""
    with TemporaryDirectory() as folder:
        found = measure(judging(bundle, Path(folder), slices), rounds)
    for own in found:
        if as_json:
            print_json(own)
        else:
            click.echo(
                f"{own.way:<9} {own.wall_s:7.2f} s  {own.cpu_s:7.2f} s of processors  "
                f"{own.times_wall:5.2f} and {own.times_cpu:5.2f} times alone"
            )


if __name__ == "__main__":
    try:
        main()
    except EdgeCTError as error:
        sys.exit(str(error))
