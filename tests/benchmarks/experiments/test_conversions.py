"""The table of conversions, of made-up measurements of a real bundle."""

import csv
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from edge_ct.benchmarks.experiments import conversions
from edge_ct.bundle import read_bundle
from edge_ct.errors import EdgeCTError

ESTIMATE = {"value": 0.9, "low": 0.8, "high": 0.95}
LABELS = np.array([1] * 10 + [0] * 10)


def measured(folder: Path, stem: str, bundle: Path, wrong: range, model: str = "") -> str:
    """The four files of a stem. wrong: the slices it errs on."""
    content = bundle.read_bytes()
    (folder / f"{stem}.tflite").write_bytes(content)
    model = model or read_bundle(bundle).identity
    metrics = dict.fromkeys(("accuracy", "sensitivity", "specificity", "auc", "ece"), ESTIMATE)
    evaluation = {"model": model, "split": "random", "part": "test", "n": 20, "operating_point": metrics, **metrics}
    latency = {"p50_ms": 1.5, "p90_ms": 1.75, "n": 100, "threads": 1}
    machine = {"cpu": "x", "architecture": "x86_64", "runtime": "litert"}
    benchmark = {"model": model, "model_only": latency, "peak_rss_mb": 70.0, "machine": machine}
    (folder / f"{stem}.evaluate.json").write_text(json.dumps(evaluation))
    (folder / f"{stem}.benchmark.json").write_text(json.dumps(benchmark))
    p = np.where(LABELS == 1, 0.9, 0.1)
    p[list(wrong)] = 1 - p[list(wrong)]
    rows = [f"{k:02d}.png,{label},x,{one}" for k, (label, one) in enumerate(zip(LABELS, p, strict=True))]
    (folder / f"{stem}.predictions.csv").write_text("path,label,decision,probability\n" + "\n".join(rows) + "\n")
    return str(folder / stem)


def test_a_table_compares_slice_by_slice_with_the_first(tiny_bundle: Path, tmp_path: Path) -> None:
    first = measured(tmp_path, "fp32", tiny_bundle, range(9, 11))  # one of each class
    second = measured(tmp_path, "int8", tiny_bundle, range(5, 10))
    conversions.main(str(tmp_path / "out.csv"), first, second)
    with (tmp_path / "out.csv").open(newline="") as file:
        before, after = csv.DictReader(file)
    assert (before["agreement"], before["mcnemar_p"]) == ("1.00000", "1.0000")
    # Wrong on 9 and 10 before, on 5 to 9 after: 5 to 8 are lost, 10 is mended.
    assert after["agreement"] == f"{15 / 20:.5f}"
    assert float(after["mcnemar_p"]) == pytest.approx(binomtest(1, 5).pvalue, abs=1e-4)
    assert float(after["mcnemar_p_positives"]) == pytest.approx(binomtest(0, 4).pvalue, abs=1e-4)
    assert (after["positives_lost"], after["positives_found"]) == ("4", "0")
    model = read_bundle(tiny_bundle).model
    assert after["raw_bytes"] == str(len(model))
    assert after["compressed_bytes"] == str(len(zlib.compress(model, 9)))
    assert (after["p50_ms"], after["p90_ms"], after["peak_rss_mb"]) == ("1.500", "1.750", "70.0")
    # Weights drawn at random, rounded to 255 levels of which zero is one.
    assert 0 < float(after["zeros"]) < 0.05


def test_figures_of_another_model_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    stem = measured(tmp_path, "fp32", tiny_bundle, range(0), model="another")
    with pytest.raises(EdgeCTError, match="scores of another, not of"):
        conversions.conversion_row(stem, stem)


def test_other_slices_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    first, second = (measured(tmp_path, stem, tiny_bundle, range(0)) for stem in ("fp32", "int8"))
    path = tmp_path / "int8.predictions.csv"
    whole = path.read_text()
    path.write_text(whole.replace("03.png", "33.png"))
    with pytest.raises(EdgeCTError, match="predictions of different slices"):
        conversions.conversion_row(second, first)
    path.write_text(whole.replace("0.9", "sure"))
    with pytest.raises(EdgeCTError, match="not a file of `evaluate --predictions`"):
        conversions.conversion_row(second, first)


def test_a_slice_that_either_rejects_is_counted_and_not_compared(tiny_bundle: Path, tmp_path: Path) -> None:
    first = measured(tmp_path, "fp32", tiny_bundle, range(0))
    second = measured(tmp_path, "int8", tiny_bundle, range(3, 5))
    path = tmp_path / "int8.predictions.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join("03.png,1,rejected," if line.startswith("03") else line for line in lines) + "\n")
    row = conversions.conversion_row(second, first)
    assert (row["rejected"], row["positives_lost"], row["agreement"]) == (1, 1, f"{18 / 19:.5f}")
    assert conversions.conversion_row(first, second)["rejected"] == 0
