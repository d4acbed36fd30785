"""A cold `edge-ct classify one.png` against a bare script that does one inference, as ratios.

    python -m edge_ct.benchmarks.experiments.cold_start BUNDLE [SLICE] [--out cold-start.json]

Run it in an environment with the base dependencies only (`make bench-cold`). The two programs take turns, so that a
busy machine slows both; processor time, of the program and of the system for it, is disturbed less than wall time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import msgspec
import numpy as np

from edge_ct.cli import run_program
from edge_ct.system.files import write_bytes

from ..measure.bundle import phantom_files
from ..measure.machine import Machine, condition, describe
from ..measure.processes import ProcessCost, process_cost

WARM_UP = 2  # turns that fill the file cache


class ColdStart(msgspec.Struct, frozen=True):
    """Medians over all processes of each program, and the ratios of the two.

    Attributes:
        rounds: Number of processes of each program.
        bare: What the bare script took.
        edge_ct: What `edge-ct classify` took.
        wall_ratio: Wall time of `edge-ct classify` over that of the bare script.
        cpu_ratio: The same for processor time.
        memory_ratio: The same for peak memory.
        machine: The machine.
        load_before: Mean number of runnable processes in the minute before; None if unknown.
    """

    rounds: int
    bare: ProcessCost
    edge_ct: ProcessCost
    wall_ratio: float
    cpu_ratio: float
    memory_ratio: float
    machine: Machine
    load_before: float | None


def compare_starts(bundle: Path, slice_path: Path, rounds: int) -> ColdStart:
    """Start both programs in turns.

    Args:
        bundle: The bundle to classify with.
        slice_path: A slice file.
        rounds: Number of processes of each program.
    """
    script = Path(__file__).with_name("bare_inference.py")
    program = Path(sys.executable).with_name("edge-ct")
    commands = {
        "bare": [sys.executable, str(script), str(bundle), str(slice_path)],
        "edge_ct": [str(program), "classify", str(slice_path), "--model", str(bundle)],
    }
    load = condition().load
    runs: dict[str, list[ProcessCost]] = {name: [] for name in commands}
    for turn in range(rounds + WARM_UP):
        for name, words in commands.items():
            cost = process_cost(words)
            if turn >= WARM_UP:
                runs[name].append(cost)
    medians = {name: np.median(costs, axis=0) for name, costs in runs.items()}
    wall, memory, cpu = (float(ratio) for ratio in medians["edge_ct"] / medians["bare"])
    bare, edge_ct = (ProcessCost(*(round(float(value), 2) for value in medians[name])) for name in ("bare", "edge_ct"))
    return ColdStart(rounds, bare, edge_ct, round(wall, 3), round(cpu, 3), round(memory, 3), describe(), load)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("slice_path", required=False, metavar="[SLICE]", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON file to write the result to.")
@click.option("--rounds", type=click.IntRange(1), default=21, show_default=True, help="Processes of each program.")
def command(bundle: Path, slice_path: Path | None, out: Path | None, rounds: int) -> None:
    """Compare a cold `edge-ct classify` with a bare script: BUNDLE on SLICE, or on a phantom of 512 px."""
    with tempfile.TemporaryDirectory() as folder:
        if slice_path is None:
            slice_path = Path(folder) / "slice.png"
            slice_path.write_bytes(phantom_files(1)[0])
        result = compare_starts(bundle, slice_path, rounds)
    for name, cost in (("bare", result.bare), ("edge-ct", result.edge_ct)):
        click.echo(f"{name:<8} {cost.wall_ms:7.1f} ms {cost.cpu_ms:7.1f} ms of processor time {cost.peak_mb:6.1f} MB")
    click.echo(f"ratio    {result.wall_ratio:7.2f}    {result.cpu_ratio:7.2f} {result.memory_ratio:27.2f}")
    if out:
        write_bytes(out, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


if __name__ == "__main__":
    run_program(command)
