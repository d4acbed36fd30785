"""The examples run as they are printed in the documentation, each in a process of its own."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from edge_ct import cli
from edge_ct.phantom import make_slice

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), make_slice(number, 3, number == 0, 256).image)
    return paths


def test_classify_from_python(slices: list[Path], tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), make_slice(0, 3, True, 256).image * 0)
    first, second, rejected = run("classify_from_python.py", *slices, blank, "--model", "fast").splitlines()
    for path, line in zip(slices, (first, second), strict=True):
        assert line.startswith(f"{path}: ")
        assert 0 <= float(line.rpartition("= ")[2]) <= 1
    assert rejected.startswith(f"{blank}: rejected: ")


def test_read_a_worklist(slices: list[Path], tiny_bundle: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    words = ["classify", *map(str, slices), "--model", str(tiny_bundle), "--worklist", "--state", str(state)]
    assert cli.run(words) == 0
    rows = list(csv.DictReader(run("read_a_worklist.py", "--state", state).splitlines()))
    assert {row["source"] for row in rows} == {str(path) for path in slices}
    assert all(row["decision"] in ("positive", "negative", "refer", "rejected") for row in rows)


@pytest.mark.slow
def test_train_and_convert(tmp_path: Path) -> None:
    agreement, accuracy, decision = run("train_and_convert.py", tmp_path / "example").splitlines()
    assert agreement.startswith("fp32 and int8 agree on ")
    # Phantoms of patients that the network was not trained on; chance is 50 %.
    assert int(accuracy.rpartition(" ")[2].rstrip("%")) >= 60
    assert decision.rpartition(": ")[2] in ("positive", "negative", "refer", "rejected")
    assert (tmp_path / "example" / "model.tflite").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("classify_from_python.py", ["x.png", "--model", "slow"], "slow: no such bundle; shipped models are: "),
        ("read_a_worklist.py", ["--state", "none"], "none: no worklist in this folder; name another with --state"),
    ],
)
def test_wrong_arguments_are_one_line(name: str, arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert line.startswith(f"{name}: {message}")
