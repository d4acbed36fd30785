"""What `edge-ct classify` says below its tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_ct import cli
from edge_ct.phantom import make_slice


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    folder = tmp_path / "slices"
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), make_slice(number, 3, True, 256).image)
    return folder


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A folder whose only picture is rejected."""
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = np.zeros((256, 256), np.uint8)
    cv2.ellipse(mask, (90, 128), (40, 70), 0, 0, 360, 255, -1)
    cv2.imwrite(str(folder / "mask.png"), mask)
    return folder


def remarks(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run `classify` with a model that measures lesions, and return the lines on standard error."""
    assert cli.run(["classify", *words, "--model", "fast"]) == 0
    return capsys.readouterr().err.splitlines()


def explained(lines: list[str]) -> bool:
    """Whether the column of shares is explained."""
    return any(line.startswith("lungs: share of the lungs that shows opacities") for line in lines)


@pytest.mark.parametrize("options", [[], ["--by", "series", "--series", "one"], ["--by", "patient", "--patient", "p"]])
def test_the_column_of_shares_is_explained(
    slices: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert explained(remarks([str(slices), *options, "--state", str(tmp_path / "state")], capsys))


@pytest.mark.parametrize("by", ["series", "patient"])
def test_pictures_alone_form_no_series_or_patient_and_no_column_is_explained(
    slices: Path, by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = remarks([str(slices), "--by", by], capsys)
    assert lines[0] == f"no {by} to show: only DICOM files name their {by}; name it with --{by}"
    assert not explained(lines)


@pytest.mark.parametrize("options", [[], ["--by", "series", "--series", "one"], ["--json"], ["--csv"]])
def test_no_column_is_explained_where_all_slices_were_rejected(
    masks: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = remarks([str(masks), *options], capsys)
    assert "1 rejected" in lines[-1]
    assert not explained(lines)


def test_a_series_of_rejected_slices_beside_judged_pictures_explains_no_column(
    slices: Path, write_ct: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The table shows the series alone, which has no share."""
    (slices / "head.dcm").write_bytes(write_ct(np.zeros((64, 64), np.int16), BodyPartExamined="HEAD"))
    lines = remarks([str(slices), "--by", "series"], capsys)
    assert "3 slices" in lines[-1] and "1 rejected" in lines[-1]
    assert not explained(lines)
