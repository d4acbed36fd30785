"""Event files, read by TensorFlow."""

from pathlib import Path

import pytest

from edge_ct.train.fitting import tensorboard

tensorflow = pytest.importorskip("tensorflow")


def test_tensorflow_reads_what_was_written(tmp_path: Path) -> None:
    long = {f"metric {number} {'x' * 100}": number / 7 for number in range(9)}  # lengths of two bytes
    rows = [
        {"epoch": 1.0, "loss": 0.75, "val_loss": 1.5, "val_accuracy": 0.5, **long},
        {"epoch": 300.0, "loss": -1e-3, "val_loss": 2.5, "val_accuracy": 1.0},
    ]
    tensorboard.begin(tmp_path, 1e9 + 0.5)
    for row in rows:
        tensorboard.add(tmp_path, row, 1e9 + row["epoch"])
    events = {
        part: list(tensorflow.compat.v1.train.summary_iterator(str(path)))
        for part in ("train", "validation")
        for path in (tmp_path / part).glob("*tfevents*")
    }
    for first, *_ in events.values():
        assert (first.file_version, first.wall_time) == ("brain.Event:2", 1e9 + 0.5)
    read = {
        part: [(e.step, e.wall_time, {v.tag: v.simple_value for v in e.summary.value}) for e in found[1:]]
        for part, found in events.items()
    }
    assert read["validation"] == [
        (1, 1e9 + 1, {"loss": 1.5, "accuracy": 0.5}),
        (300, 1e9 + 300, {"loss": 2.5, "accuracy": 1.0}),
    ]
    assert [(step, at) for step, at, _ in read["train"]] == [(1, 1e9 + 1), (300, 1e9 + 300)]
    assert read["train"][0][2] == pytest.approx({"loss": 0.75, **long})
    assert read["train"][1][2] == pytest.approx({"loss": -1e-3})
    tensorboard.begin(tmp_path, 2e9)
    (path,) = (tmp_path / "train").iterdir()
    assert len(list(tensorflow.compat.v1.train.summary_iterator(str(path)))) == 1
