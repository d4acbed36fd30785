"""pytest-benchmark suite of `classify --worklist`: the time that storing a result on the disk adds.

It runs the command in this process, because wings do not import each other. Every slice is a new one, because the
worklist recognises slices; `make bench` also shows the same command without the worklist.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge_ct import cli
from edge_ct.phantom import make_slice

ROUNDS = 60


@pytest.mark.parametrize("stored", [False, True], ids=["shown", "stored"])
def test_classify_one(
    benchmark: Any, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], stored: bool
) -> None:
    """Classify one slice through the command."""
    numbers = itertools.count()
    image = make_slice(0, 3, True, 128, seed=11).image

    def new_slice() -> tuple[tuple[list[str]], dict[str, Any]]:
        number = next(numbers)
        path = tmp_path / f"{number}.png"
        pixels = image.copy()
        pixels[0, :2] = number >> 8, number & 255
        cv2.imwrite(str(path), pixels)
        words = ["classify", str(path), "--model", str(bundle), "--json"]
        return ([*words, "--worklist", "--state", str(tmp_path / "state")] if stored else words,), {}

    assert benchmark.pedantic(cli.run, setup=new_slice, rounds=ROUNDS, warmup_rounds=3) == 0
    capfd.readouterr()
