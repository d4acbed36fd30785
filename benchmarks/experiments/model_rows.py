"""Rows of `benchmarks/results/*.csv`, from what `evaluate --json` and `benchmark --json` printed.

python -m edge_ct.benchmarks.experiments.model_rows OUT.csv EVALUATION.json,BENCHMARK.json [...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edge_ct.errors import EdgeCTError
from edge_ct.system import csv_text
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text

_ESTIMATES = ("accuracy", "sensitivity", "specificity", "precision", "f1", "auc", "ece", "brier")
_AT = ("sensitivity", "specificity")


def model_row(evaluation: dict[str, Any], benchmark: dict[str, Any]) -> dict[str, object]:
    """Return one row: split, n, metrics with intervals, size, latency and machine.

    Raises:
        EdgeCTError: The two files belong to different models.
    """
    if evaluation["model"] != benchmark["model"]:
        raise EdgeCTError(
            f"scores of {evaluation['model']}, but latency of {benchmark['model']}; name files of one model"
        )
    row: dict[str, object] = {name: evaluation[name] for name in ("model", "split", "part", "n")}
    for name in _ESTIMATES:
        row |= csv_text.estimate_columns(name, evaluation[name])
    row["threshold"] = f"{evaluation['operating_point']['threshold']:.4f}"
    for name in _AT:
        row |= csv_text.estimate_columns(f"{name}_at_threshold", evaluation["operating_point"][name])
    row |= evaluation["decisions"]
    row["bytes"] = benchmark["bytes"]
    for part in ("model_only", "end_to_end"):
        row |= {f"{part}_{name}": f"{benchmark[part][name]:.3f}" for name in ("p50_ms", "p90_ms", "p99_ms")}
    row |= {"queries": benchmark["model_only"]["n"], "threads": benchmark["model_only"]["threads"]}
    row |= {name: f"{benchmark[name]:.1f}" for name in ("cold_start_ms", "peak_rss_mb", "slices_per_second")}
    machine = benchmark["machine"]
    return row | {name: machine[name] for name in ("cpu", "cores", "architecture", "python", "runtime")}


def main(out: str, *pairs: str) -> None:
    """Write the table to `out`."""
    rows = [model_row(*(json.loads(Path(name).read_text()) for name in pair.split(","))) for pair in pairs]
    write_text(Path(out), to_csv(tuple(rows[0]), (entry.values() for entry in rows)))


if __name__ == "__main__":
    main(*sys.argv[1:])
