from __future__ import annotations

import numpy as np
import pytest

from edge_ct.decision import probability
from edge_ct.imaging.lung_box import Box, LungFields, find_lung_fields
from edge_ct.lesions import dice, lesion_probabilities, lesion_share, lung_cells, pointing_game, strongest_lesion
from edge_ct.manifest import Calibration, schema_version
from edge_ct.phantom import make_patients
from edge_ct.preprocess import Preprocess

LOGIT_3 = float(np.log(3))  # P = 3/4
# Training makes the odds of a lesion five times as high as they are.
OFFSET = float(np.log(5))


def half_lungs() -> LungFields:
    """The left half of a slice is lung."""
    mask = np.zeros((96, 96), np.uint8)
    mask[:, :48] = 1
    return LungFields(Box(0, 200, 0, 100), mask)


def test_lung_cells_by_hand() -> None:
    whole = lung_cells(half_lungs(), Box(0, 200, 0, 200), (200, 200), (2, 4))
    assert whole.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]
    # A crop of the middle half: its first 50 of 100 columns are lung.
    assert lung_cells(half_lungs(), Box(50, 150, 50, 150), (200, 200), (1, 3)).tolist() == [[1, 0.5, 0]]


def test_share_by_hand() -> None:
    nothing = np.full((2, 4), -60.0, np.float32)
    assert lesion_share(nothing, half_lungs(), Box(0, 200, 0, 200), (200, 200)) == pytest.approx(0, abs=1e-9)
    faint = nothing.copy()
    faint[0, 0] = LOGIT_3 + OFFSET
    faint[1, 1] = OFFSET - LOGIT_3  # a quarter of the cell
    assert lesion_share(faint, half_lungs(), Box(0, 200, 0, 200), (200, 200)) == pytest.approx((0.75 + 0.25) / 4)
    # Consolidation that is missing in the lung fields counts as lung.
    faint[0, 2] = LOGIT_3 + OFFSET
    assert lesion_share(faint, half_lungs(), Box(0, 200, 0, 200), (200, 200)) == pytest.approx(1.75 / 4.75)
    full = np.full((2, 4), 60.0, np.float32)
    assert lesion_share(full, half_lungs(), Box(0, 200, 0, 200), (200, 200)) == 1


@pytest.mark.parametrize("crop", ["none", "lungs"])
def test_share_of_a_perfect_map_is_that_of_phantoms(crop: str) -> None:
    errors = []
    for phantom in make_patients(8, 4, 320, seed=6):
        preprocess, lungs = Preprocess(224, crop=crop), find_lung_fields(phantom.image)  # type: ignore[arg-type]
        assert lungs is not None
        region = preprocess.region_around(lungs, 320, 320)
        shown = preprocess.resized(phantom.lesion * np.uint8(255), region)[:, :, 0]
        cells = shown.reshape(28, 8, 28, 8).mean((1, 3)) / 255
        logits = np.log(np.clip(cells, 1e-6, 1 - 1e-6) / np.clip(1 - cells, 1e-6, 1 - 1e-6)).astype(np.float32)
        share = lesion_share(logits + np.float32(OFFSET), lungs, region, (320, 320))
        errors.append(abs(share - phantom.lesion.sum() / phantom.lungs.sum()))
    assert np.mean(errors) < 0.03 and np.max(errors) < 0.1


def test_strongest_lesion_by_hand() -> None:
    lesion_map = np.zeros((28, 28), np.float32)
    lesion_map[3, :24] = np.arange(1, 25)
    assert strongest_lesion(lesion_map) == pytest.approx(12.5)  # 3 % of 784 cells are 24
    assert strongest_lesion(np.array([[-1.0, 2.0]], np.float32)) == 2
    assert lesion_probabilities(np.array([-1000.0, 0.0, LOGIT_3])).tolist() == pytest.approx([0, 0.5, 0.75], abs=1e-6)


def test_dice_and_pointing_game_by_hand() -> None:
    truth = np.array([[[1.0, 0.5], [0.4, 0.0]], [[0.2, 0.0], [0.0, 0.0]]])
    p = np.array([[[0.9, 0.2], [0.95, 0.0]], [[0.9, 0.0], [0.0, 0.0]]])
    assert dice(p, truth) == pytest.approx(2 * 1 / (3 + 2))
    assert dice(np.zeros((1, 2, 2)), np.zeros((1, 2, 2))) == 1
    assert pointing_game(p, truth) == (1, 1)  # the strongest cell of the first is 0.4 lesion; the second takes no part
    assert pointing_game(p[:, ::-1, ::-1], truth) == (1, 1)
    assert pointing_game(1 - p, truth) == (0, 1)


def test_lesion_takes_part_in_the_probability() -> None:
    calibration = Calibration(2.0, 0.5, "validation", 20, 20, lesion_slope=0.25)
    logits = np.array([1.0, 1.5], np.float32)
    # 2 x 0.5 + 0.25 x -4 + 0.5 = 0.5
    assert probability(logits, calibration, -4.0) == pytest.approx(1 / (1 + np.exp(-0.5)))
    unfused = Calibration(2.0, 0.5, "validation", 20, 20)
    assert probability(logits, unfused, -4.0) == pytest.approx(1 / (1 + np.exp(-1.5)))


def test_readers_that_would_judge_wrongly_are_kept_out() -> None:
    plain, fused = Calibration(1, 0, "validation", 20, 20), Calibration(1, 0, "validation", 20, 20, lesion_slope=0.5)
    assert schema_version(Preprocess(224), plain) == 1
    assert schema_version(Preprocess(224, crop="lungs"), plain) == 2
    assert schema_version(Preprocess(224), fused) == 2
