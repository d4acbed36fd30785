"""A cold `edge-ct classify one.png` against a bare script that does one inference: wall time and memory, as ratios.

    python -m edge_ct.benchmarks.experiments.cold_start BUNDLE [SLICE]

Run it in an environment with the base dependencies only (`make bench-cold`). The two programs take turns, so that a
busy machine slows both.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from ..measure.bundle import phantom_files
from ..measure.processes import cold_run

ROUNDS = 21


def main(bundle: str, slice_path: str | None = None) -> None:
    """Print the medians of both programs and their ratios.

    Args:
        bundle: The bundle to classify with.
        slice_path: A slice file; a 512 px phantom by default.
    """
    with tempfile.TemporaryDirectory() as folder:
        if slice_path is None:
            slice_path = str(Path(folder) / "slice.png")
            Path(slice_path).write_bytes(phantom_files(1)[0])
        commands = {
            "bare": [sys.executable, str(Path(__file__).with_name("bare_inference.py")), bundle, slice_path],
            "edge-ct": [str(Path(sys.executable).with_name("edge-ct")), "classify", slice_path, "--model", bundle],
        }
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(ROUNDS + 2):
            for name, command in commands.items():
                measured = cold_run(command)
                if turn >= 2:  # the first two turns fill the file cache
                    runs[name].append(measured)
    medians = {name: np.median(measured, axis=0) for name, measured in runs.items()}
    for name, (wall, memory) in medians.items():
        print(f"{name:<8} {wall:7.1f} ms  {memory:6.1f} MB  (median of {ROUNDS} processes)")
    wall, memory = medians["edge-ct"] / medians["bare"]
    print(f"ratio    {wall:7.2f}     {memory:6.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
