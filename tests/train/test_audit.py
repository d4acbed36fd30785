"""The data check finds what was planted, and nothing in clean phantoms."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ct.errors import DataRejected
from edge_ct.phantom import make_slice
from edge_ct.train import audit, synth


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    synth.write(tmp_path / "data", patients=24, slices=1, size=96, seed=9)
    return tmp_path / "data"


def test_clean_phantoms_raise_no_warning(folder: Path) -> None:
    found = audit.check(folder, "COVID")
    assert found.n == 24
    assert found.classes == {"non-COVID": 12, "COVID": 12}
    assert (found.formats, found.channels) == ({"PNG": 24}, {"1": 24})
    assert found.sides == (96, 96.0, 96)
    assert found.shortcuts == dict.fromkeys(("format", "channels", "size", "aspect", "all"))
    assert not found.duplicates + found.conflicts + found.unreadable


def test_planted_faults_are_found(folder: Path) -> None:
    one = sorted((folder / "COVID").glob("*.png"))[0]
    shutil.copy(one, folder / "COVID" / "copy.png")
    pixels = cv2.imread(str(one), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(folder / "non-COVID" / "retouched.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
    (folder / "COVID" / "broken.png").write_bytes(one.read_bytes()[:-30])
    found = audit.check(folder, "COVID")
    assert [sorted(files) for files in found.duplicates] == [sorted([f"COVID/{one.name}", "COVID/copy.png"])]
    assert {pair.second for pair in found.conflicts} | {pair.first for pair in found.conflicts} >= {
        "non-COVID/retouched.jpg"
    }
    assert [item.path for item in found.unreadable] == ["COVID/broken.png"]
    assert found.unreadable[0].reason.startswith("truncated")
    assert len(found.warnings) >= 4


def test_a_colour_mode_that_tells_the_label_is_a_shortcut(tmp_path: Path) -> None:
    for index in range(40):
        positive = index % 2 == 0
        pixels = make_slice(index, 3, positive, 64).image
        path = tmp_path / ("COVID" if positive else "non-COVID") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.dstack([pixels] * 4) if positive else pixels)
    found = audit.check(tmp_path, "COVID")
    assert found.channels == {"4": 20, "1": 20}
    assert found.shortcuts["channels"] == 1.0
    assert found.shortcuts["size"] is None
    assert any(text.startswith("channels alone predicts") for text in found.warnings)


def test_one_class_is_refused(folder: Path) -> None:
    shutil.rmtree(folder / "COVID")
    with pytest.raises(DataRejected, match="two sub-folders"):
        audit.check(folder, "COVID")


@pytest.mark.real
@pytest.mark.slow
def test_the_public_set(real_data: Path) -> None:
    found = audit.check(real_data / "sars-cov-2-ct", "COVID")
    assert found.n == 1985
    assert found.classes == {"non-COVID": 983, "COVID": 1002}
    assert not found.unreadable
    assert 50 < found.near_duplicate_groups < 100
