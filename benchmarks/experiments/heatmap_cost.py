"""The time that heat maps add to classification: `python -m edge_ct.benchmarks.experiments.heatmap_cost model.tflite`.

`edge-ct classify` judges the same folder of phantoms (PNG, 512 px) alone, with `--maps` (maps as numbers) and with
`--heatmap` (pictures), in turns, in one process, on all processors. A ratio is one of medians over the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import click
import msgspec
import numpy as np

from edge_ct.cli import run_program
from edge_ct.system.child_command import run_command
from edge_ct.system.progress import print_json

from ..measure.bundle import phantom_files

WAYS = ("alone", "maps", "pictures")


class HeatmapCost(msgspec.Struct, frozen=True):
    """Median seconds for all slices.

    Attributes:
        way: `alone`, `maps` or `pictures`.
        wall_s: Wall time.
        cpu_s: Processor time.
        times_wall: Wall time divided by that of classification alone.
        times_cpu: Processor time divided by that of classification alone.
    """

    way: str
    wall_s: float
    cpu_s: float
    times_wall: float
    times_cpu: float


def measure(judge: Callable[[str], None], rounds: int) -> list[HeatmapCost]:
    """Time each way of judging all slices, after one round that is not timed.

    Args:
        judge: Judges all slices in the way that is named.
        rounds: Number of rounds.
    """
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
        HeatmapCost(way, *(float(value) for value in (*median, *(median / medians[0]))))
        for way, median in zip(WAYS, medians, strict=True)
    ]


def phantom_judge(bundle: Path, folder: Path, slices: int) -> Callable[[str], None]:
    """Return a function that runs `edge-ct classify` on phantoms; it raises `CommandFailed` if the command fails.

    Args:
        bundle: The bundle to judge with.
        folder: Folder for slices, maps and pictures.
        slices: Number of phantoms.
    """
    source = folder / "slices"
    source.mkdir()
    for number, content in enumerate(phantom_files(slices)):
        (source / f"{number:03d}.png").write_bytes(content)
    options: dict[str, Sequence[str]] = {
        "alone": (),
        "maps": ("--maps", str(folder / "maps.npz")),
        "pictures": ("--heatmap", str(folder / "pictures")),
    }

    def judge(way: str) -> None:
        words = ["classify", source, "--model", bundle, "--json", *options[way]]
        run_command(words, show_progress=False, same_process=True)

    return judge


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--slices", type=click.IntRange(1), default=100, show_default=True, help="Number of phantom slices to judge."
)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Number of rounds to measure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def command(bundle: Path, slices: int, rounds: int, as_json: bool) -> None:
    """Measure the time that heat maps add to classification with BUNDLE."""
    with TemporaryDirectory() as folder:
        costs = measure(phantom_judge(bundle, Path(folder), slices), rounds)
    for cost in costs:
        if as_json:
            print_json(cost)
        else:
            click.echo(
                f"{cost.way:<9} {cost.wall_s:7.2f} s  {cost.cpu_s:7.2f} s of processor time  "
                f"{cost.times_wall:5.2f} and {cost.times_cpu:5.2f} times classification alone"
            )


if __name__ == "__main__":
    run_program(command)
