"""One table of every bundle made of one run: what each shrinking cost, and what it brought.

python -m edge_ct.benchmarks.experiments.conversions OUT.csv STEM [STEM ...]

STEM.tflite is a bundle; STEM.evaluate.json and STEM.predictions.csv what `evaluate STEM.tflite --data DIR --json
--predictions FILE` gave of it; STEM.benchmark.json what `benchmark` gave. The first bundle is what others are compared
with, slice by slice, at a calibrated probability of 0.5, on the slices that neither rejects.
"""

from __future__ import annotations

import csv
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_ct.bundle import Bundle, read_bundle
from edge_ct.errors import EdgeCTError
from edge_ct.metrics import mcnemar_p
from edge_ct.system.csv_text import estimate_columns, to_csv
from edge_ct.system.files import write_text

_ESTIMATES = ("accuracy", "sensitivity", "specificity", "auc", "ece")
# Tensors of fewer numbers than this are biases and ranges, not kernels.
_KERNEL = 1024


@dataclass(frozen=True, eq=False)
class Judged:
    """The slices of a bundle, in order of their paths. labels: 0 or 1, [n]; probabilities: calibrated, [n], NaN of a
    slice that was rejected."""

    paths: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def accepted(self) -> np.ndarray:
        """bool [n]"""
        return ~np.isnan(self.probabilities)

    def only(self, kept: np.ndarray) -> Judged:
        """The slices that a mask [n] keeps."""
        paths = tuple(path for path, keep in zip(self.paths, kept, strict=True) if keep)
        return Judged(paths, self.labels[kept], self.probabilities[kept])


def read(path: Path) -> Judged:
    """Read what `evaluate --predictions` wrote. Raises `EdgeCTError` where it is not that."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["path"])
        labels = np.array([int(row["label"]) for row in rows])
        probabilities = np.array([float(row["probability"] or "nan") for row in rows])
    except (OSError, KeyError, ValueError) as error:
        raise EdgeCTError(f"{path}: not predictions: {error}") from error
    return Judged(tuple(row["path"] for row in rows), labels, probabilities)


def row(stem: str, reference: str) -> dict[str, object]:
    """One row. Raises `EdgeCTError` for files that are not of one bundle, or bundles that judged other slices."""
    opened = read_bundle(Path(f"{stem}.tflite"))
    evaluation, benchmark = (json.loads(Path(f"{stem}.{kind}.json").read_text()) for kind in ("evaluate", "benchmark"))
    for kind, found in (("scores", evaluation), ("latency", benchmark)):
        if found["model"] != opened.identity:
            raise EdgeCTError(f"{stem}: {kind} of {found['model']}, not of {opened.identity}")
    judged, before = (read(Path(f"{name}.predictions.csv")) for name in (stem, reference))
    if judged.paths != before.paths:
        raise EdgeCTError(f"{stem}: judged other slices than {reference}")
    manifest = opened.manifest
    found: dict[str, object] = {
        "model": manifest.name,
        "done": manifest.shrinking or "nothing",
        "variant": manifest.variant,
        **{name: evaluation[name] for name in ("split", "part", "n")},
        "rejected": int((~judged.accepted).sum()),
    }
    for name in _ESTIMATES:
        found |= estimate_columns(name, evaluation[name])
    found["sensitivity_at_threshold"] = estimate_columns("s", evaluation["operating_point"]["sensitivity"])["s"]
    both = judged.accepted & before.accepted
    found |= _against(judged.only(both), before.only(both))
    found |= _size(opened)
    latency, machine = benchmark["model_only"], benchmark["machine"]
    found |= {name: f"{latency[name]:.3f}" for name in ("p50_ms", "p90_ms")}
    found |= {"queries": latency["n"], "threads": latency["threads"], "peak_rss_mb": f"{benchmark['peak_rss_mb']:.1f}"}
    return found | {name: machine[name] for name in ("cpu", "architecture", "runtime")}


def _against(judged: Judged, before: Judged) -> dict[str, object]:
    """Exact McNemar, overall and on the positives; agreement; lost and found positives."""
    calls, other = judged.probabilities >= 0.5, before.probabilities >= 0.5
    labels, positive = judged.labels, judged.labels == 1
    return {
        "mcnemar_p": f"{mcnemar_p(labels, other, calls):.4f}",
        "mcnemar_p_positives": f"{mcnemar_p(labels[positive], other[positive], calls[positive]):.4f}",
        "agreement": f"{(calls == other).mean():.5f}",
        "positives_lost": int((other & ~calls & positive).sum()),
        "positives_found": int((~other & calls & positive).sum()),
        "largest_change": f"{np.abs(judged.probabilities - before.probabilities).max():.4f}",
    }


def _size(opened: Bundle) -> dict[str, object]:
    """Bytes of the bundle, of the model in it, and of the model deflated; share of kernel weights that are zero."""
    return {
        "parameters": opened.manifest.network.parameters,
        "bundle_bytes": len(opened.content),
        "raw_bytes": len(opened.model),
        "compressed_bytes": len(zlib.compress(opened.model, 9)),
        "zeros": f"{zeros(opened.model):.4f}",
    }


def zeros(model: bytes) -> float:
    """Share of the kernels' weights that are zero; those of a sparsely stored kernel are not counted, nor stored."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=model)
    # Constants alone can be read before tensors are allocated.
    found = total = 0
    for tensor in interpreter.get_tensor_details():
        if int(np.prod(tensor["shape"])) < _KERNEL or tensor["dtype"] not in (np.int8, np.float32, np.float16):
            continue
        try:
            values = interpreter.get_tensor(tensor["index"])
        except ValueError:
            continue
        found += int((values == 0).sum())
        total += values.size
    return found / total if total else 0.0


def main(out: str, *stems: str) -> None:
    """Write the table."""
    rows = [row(stem, stems[0]) for stem in stems]
    write_text(Path(out), to_csv(tuple(rows[0]), (entry.values() for entry in rows)))


if __name__ == "__main__":
    main(*sys.argv[1:])
