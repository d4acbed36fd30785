"""The comparison of precisions: ratios of trainings that were made beside each other, and a training of each."""

from pathlib import Path

import pytest

from edge_ct import cli
from edge_ct.benchmarks.experiments.training_precision import PRECISIONS, Training, table_rows, train
from edge_ct.benchmarks.measure.training_epochs import EpochTime
from edge_ct.manifest import Estimate


def _training(precision: str, seconds: float, accuracy: float) -> Training:
    epochs = [EpochTime(seconds, 2 * seconds), EpochTime(seconds, 2 * seconds), EpochTime(99.0, 99.0)]
    return Training(precision, epochs, Estimate(accuracy, accuracy - 0.1, accuracy + 0.05), 40)


def test_a_ratio_compares_trainings_made_beside_each_other() -> None:
    """Load that meets the second pair of trainings makes both slower, and changes no ratio."""
    made = [
        _training("float32", 10.0, 0.9),
        _training("mixed_bfloat16", 5.0, 0.85),
        _training("float32", 30.0, 0.1),
        _training("mixed_bfloat16", 15.0, 0.1),
    ]
    float32, bfloat16 = table_rows(made)
    assert (float32["epoch_s"], float32["epoch_of_float32"], float32["epoch_cpu_of_float32"]) == (
        "20.00",
        "1.000",
        "1.000",
    )
    assert (bfloat16["epoch_s"], bfloat16["epoch_cpu_s"]) == ("10.00", "20.00")
    assert (bfloat16["epoch_of_float32"], bfloat16["epoch_cpu_of_float32"]) == ("0.500", "0.500")
    assert (bfloat16["n"], bfloat16["accuracy"], bfloat16["accuracy_low"]) == (40, "0.8500", "0.7500")


def test_a_training_of_each_precision_is_timed_and_scored(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    data = str(tmp_path / "data")
    assert cli.run(["data", "synth", data, "--patients", "12", "--slices", "2", "--size", "64"]) == 0
    words = ["mobilenetv2", "--alpha", "0.35", "--size", "32", "--epochs", "2", "--data", data]
    for precision in PRECISIONS:
        training = train([*words, "--keep", "last", "--batch", "8"], precision, tmp_path / precision)
        assert (training.precision, len(training.epochs)) == (precision, 1)
        assert training.epochs[0].wall > 0
        assert training.slices == 5
        assert training.accuracy.low <= training.accuracy.value <= training.accuracy.high
