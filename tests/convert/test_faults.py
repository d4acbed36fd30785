"""What can go wrong with a conversion: one line, nothing half written, nothing left behind."""

import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_ct import cli
from edge_ct.system.csv_text import to_csv

pytestmark = pytest.mark.slow


def copy_of(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder)
    return folder


def keep_rows(run: Path, wanted: Callable[[dict[str, str]], bool]) -> None:
    path = run / "split.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if wanted(row)]
    path.write_text(to_csv(tuple(rows[0]), (tuple(row.values()) for row in kept)))


def first(rows: int) -> Callable[[dict[str, str]], bool]:
    """Keeps that many validation slices of class 1 and all others."""
    seen: list[str] = []

    def wanted(row: dict[str, str]) -> bool:
        if (row["part"], row["label"]) != ("validation", "1"):
            return True
        seen.append(row["path"])
        return len(seen) <= rows

    return wanted


def corrupt(run: Path) -> None:
    content = bytearray((run / "model.keras").read_bytes())
    content[len(content) // 3 : len(content) // 2] = os.urandom(len(content) // 2 - len(content) // 3)
    (run / "model.keras").write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: keep_rows(run, lambda row: row["part"] != "train"), "no train split to draw representative"),
        (lambda run: keep_rows(run, lambda row: row["part"] != "validation"), "no validation split to calibrate on"),
        (lambda run: keep_rows(run, first(3)), "too few slices to calibrate on: 3 of class COVID"),
        (corrupt, "cannot be loaded"),
    ],
)
def test_runs_that_cannot_be_converted_exit_with_7_and_one_line(
    damage: Callable[[Path], None], message: str, trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = copy_of(trained_run, tmp_path / "run"), tmp_path / "out"
    damage(run)
    assert cli.run(["convert", str(run), "--out", str(out / "model.tflite"), "--json"]) == 7
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert message in errors.splitlines()[-1]
    assert errors.splitlines()[-1].startswith("edge-ct: ")
    assert not out.exists()


def test_a_network_that_the_quantiser_refuses_is_one_line(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tensorflow as tf

    from edge_ct.convert.networks import to_deployed_form
    from edge_ct.convert.quantise import variants

    def unconvertible(model: object) -> object:
        """A graph with an operation that TFLite has not."""
        plain = deployed(model)

        def call(image: object, training: bool = False) -> object:
            logits, *others = plain(image, training=training)
            return [tf.linalg.inv(image[:, :2, :2, 0])[:, 0] + logits, *others]  # type: ignore[index]

        return call

    deployed = to_deployed_form
    monkeypatch.setattr(variants, "to_deployed_form", unconvertible)
    out = tmp_path / "model.tflite"
    assert cli.run(["convert", str(trained_run), "--out", str(out), "--max-drop", "100"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("edge-ct: TensorFlow's converter refuses this network")
    assert not out.exists()


def script(run: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "edge_ct", "convert", str(run), "--fp32", "--out", str(out), "--max-drop", "100"]


def test_a_full_disk_leaves_nothing(trained_run: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk with too little room: the write ends half way in both."""
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        script(trained_run, out / "model.tflite"),
        capture_output=True,
        text=True,
        preexec_fn=small,
        env={**os.environ, "TMPDIR": str(scratch)},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == f"edge-ct: {out / 'model.tflite'}: cannot be written: File too large"
    assert done.stdout == ""
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("share", [0.35, 0.7])
def test_a_killed_conversion_leaves_nothing(share: float, trained_run: Path, tmp_path: Path) -> None:
    """Killed when that share of its progress lines has been seen."""
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    lines = 8
    process = subprocess.Popen(
        script(trained_run, out / "model.tflite"),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert process.stderr is not None
    for _ in range(int(np.ceil(lines * share)) - 1):
        if not process.stderr.readline():
            break
    process.kill()
    process.wait()
    process.stderr.close()
    assert list(out.iterdir()) == []
    assert list(scratch.iterdir()) == []
