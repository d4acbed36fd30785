"""One table of all bundles that were made from one run: accuracy, size and latency of each.

python -m edge_ct.benchmarks.experiments.conversions OUT.csv STEM [STEM ...]

STEM.tflite is a bundle. STEM.evaluate.json and STEM.predictions.csv are written by `evaluate STEM.tflite --data DIR
--json --predictions FILE`, STEM.benchmark.json by `benchmark`. The other bundles are compared with the first one slice
by slice, at a calibrated probability of 0.5, on the slices that neither rejects.
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
# Tensors with fewer elements than this are biases and ranges, and not kernels.
_KERNEL_SIZE = 1024


@dataclass(frozen=True, eq=False)
class BundlePredictions:
    """The predictions of a bundle, in the order of the slices' paths.

    Attributes:
        paths: Paths of the slices.
        labels: 0 or 1, [n].
        probabilities: Calibrated P(positive), float [n]; NaN for a rejected slice.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def accepted(self) -> np.ndarray:
        """Whether each slice was accepted, bool [n]."""
        return np.asarray(~np.isnan(self.probabilities))

    def select(self, kept: np.ndarray) -> BundlePredictions:
        """Return the slices for which the mask, bool [n], is true."""
        paths = tuple(path for path, keep in zip(self.paths, kept, strict=True) if keep)
        return BundlePredictions(paths, self.labels[kept], self.probabilities[kept])


def read_predictions(path: Path) -> BundlePredictions:
    """Read a file of `evaluate --predictions`; raises `EdgeCTError` if it is not one."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["path"])
        labels = np.array([int(row["label"]) for row in rows])
        probabilities = np.array([float(row["probability"] or "nan") for row in rows])
    except (OSError, KeyError, ValueError) as error:
        raise EdgeCTError(f"{path}: not a file of `evaluate --predictions`: {error}") from error
    return BundlePredictions(tuple(row["path"] for row in rows), labels, probabilities)


def conversion_row(stem: str, reference: str) -> dict[str, object]:
    """Return the row of one bundle.

    Args:
        stem: Path of the bundle without `.tflite`.
        reference: The same of the bundle to compare with.

    Raises:
        EdgeCTError: The files belong to different bundles, or the two bundles judged different slices.
    """
    opened = read_bundle(Path(f"{stem}.tflite"))
    evaluation, benchmark = (json.loads(Path(f"{stem}.{kind}.json").read_text()) for kind in ("evaluate", "benchmark"))
    for kind, printed in (("scores", evaluation), ("latency", benchmark)):
        if printed["model"] != opened.identity:
            raise EdgeCTError(f"{stem}: {kind} of {printed['model']}, not of {opened.identity}; run the command again")
    predictions, before = (read_predictions(Path(f"{name}.predictions.csv")) for name in (stem, reference))
    if predictions.paths != before.paths:
        raise EdgeCTError(f"{stem}: has predictions of different slices than {reference}; score both on the same data")
    manifest = opened.manifest
    row: dict[str, object] = {
        "model": manifest.name,
        "done": manifest.shrinking or "nothing",
        "variant": manifest.variant,
        **{name: evaluation[name] for name in ("split", "part", "n")},
        "rejected": int((~predictions.accepted).sum()),
    }
    for name in _ESTIMATES:
        row |= estimate_columns(name, evaluation[name])
    row["sensitivity_at_threshold"] = estimate_columns("s", evaluation["operating_point"]["sensitivity"])["s"]
    both = predictions.accepted & before.accepted
    row |= _comparison(predictions.select(both), before.select(both))
    row |= _size(opened)
    latency, machine = benchmark["model_only"], benchmark["machine"]
    row |= {name: f"{latency[name]:.3f}" for name in ("p50_ms", "p90_ms")}
    row |= {"queries": latency["n"], "threads": latency["threads"], "peak_rss_mb": f"{benchmark['peak_rss_mb']:.1f}"}
    return row | {name: machine[name] for name in ("cpu", "architecture", "runtime")}


def _comparison(predictions: BundlePredictions, before: BundlePredictions) -> dict[str, object]:
    """Return exact McNemar tests on all slices and on the positives, agreement, and positives lost and gained."""
    calls, other = predictions.probabilities >= 0.5, before.probabilities >= 0.5
    labels, positive = predictions.labels, predictions.labels == 1
    return {
        "mcnemar_p": f"{mcnemar_p(labels, other, calls):.4f}",
        "mcnemar_p_positives": f"{mcnemar_p(labels[positive], other[positive], calls[positive]):.4f}",
        "agreement": f"{(calls == other).mean():.5f}",
        "positives_lost": int((other & ~calls & positive).sum()),
        "positives_found": int((~other & calls & positive).sum()),
        "largest_change": f"{np.abs(predictions.probabilities - before.probabilities).max():.4f}",
    }


def _size(opened: Bundle) -> dict[str, object]:
    """Return sizes of the bundle, the model and the deflated model, and the share of kernel weights that are zero."""
    return {
        "parameters": opened.manifest.network.parameters,
        "bundle_bytes": len(opened.content),
        "raw_bytes": len(opened.model),
        "compressed_bytes": len(zlib.compress(opened.model, 9)),
        "zeros": f"{zero_share(opened.model):.4f}",
    }


def zero_share(model: bytes) -> float:
    """Return the share of kernel weights that are zero; sparsely stored kernels cannot be read and are left out."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=model)
    # Before tensors are allocated, only constants can be read.
    zeros = total = 0
    for tensor in interpreter.get_tensor_details():
        if int(np.prod(tensor["shape"])) < _KERNEL_SIZE or tensor["dtype"] not in (np.int8, np.float32, np.float16):
            continue
        try:
            values = interpreter.get_tensor(tensor["index"])
        except ValueError:
            continue
        zeros += int((values == 0).sum())
        total += values.size
    return zeros / total if total else 0.0


def main(out: str, *stems: str) -> None:
    """Write the table to `out`."""
    rows = [conversion_row(stem, stems[0]) for stem in stems]
    write_text(Path(out), to_csv(tuple(rows[0]), (entry.values() for entry in rows)))


if __name__ == "__main__":
    main(*sys.argv[1:])
