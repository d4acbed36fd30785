from __future__ import annotations

from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from edge_ct.errors import DataRejected
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.train.data.augment import POLICIES
from edge_ct.train.fitting.lesion_loss import LabelledAccuracy, LesionLoss
from edge_ct.train.fitting.lesion_slices import (
    LesionDraws,
    LesionSlices,
    cell_shares,
    load_lesion_slices,
    phantom_lesion_slices,
)


def test_loss_by_hand() -> None:
    # Two cells of one slice, half lesion and none, and a slice without a mask, which counts for nothing.
    mask = np.array([[[0.5, 0.0]], [[1.0, 1.0]]])
    known = np.array([[[1.0, 1.0]], [[0.0, 0.0]]])
    logit = np.array([[[np.log(3), -np.log(3)]], [[50.0, -50.0]]])  # p = 3/4 and 1/4
    first = -(0.5 * np.log(0.75) + 0.5 * np.log(0.25)) * (1 + 4 * 0.5)
    second = -np.log(0.75)
    dice = (2 * 0.75 * 0.5 + 1) / (0.75 + 0.25 + 0.5 + 1)
    expected = (first + second) / 2 + 0.5 * (1 - dice)
    loss = LesionLoss()(np.stack([mask, known], -1).astype(np.float32), logit[..., np.newaxis].astype(np.float32))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_loss_without_masks_is_nothing() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 3, 3, 1)).astype(np.float32)
    assert float(LesionLoss()(np.zeros((4, 3, 3, 2), np.float32), logits)) == 0


def test_loss_of_huge_logits_is_finite() -> None:
    target = np.stack([np.array([[[0.0, 1.0]]]), np.ones((1, 1, 2))], -1).astype(np.float32)
    wrong = np.array([[[[1e4], [-1e4]]]], np.float32)
    assert float(LesionLoss()(target, wrong)) == pytest.approx((1e4 + 5e4) / 2 + 0.5 * (1 - 1 / 3), rel=1e-4)
    assert float(LesionLoss()(target, -wrong)) == pytest.approx(0, abs=1e-6)


def test_accuracy_is_of_labelled_slices() -> None:
    metric = LabelledAccuracy()
    target = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0.1, 0.9]], np.float32)
    metric.update_state(target, np.array([[0, 1], [0, 1], [1, 0], [0, 1], [0, 1]], np.float32))
    assert float(keras.ops.convert_to_numpy(metric.result())) == pytest.approx(3 / 4)


def test_cell_shares_by_hand() -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:8, :4] = mask[8:, 8:] = 255
    assert cell_shares(mask).tolist() == [[0.5, 0], [0, 1]]


def test_phantoms_have_masks_where_lesions_are() -> None:
    preprocess = Preprocess(96, crop="lungs")
    phantoms = phantom_lesion_slices(preprocess, 6)
    assert len(phantom_lesion_slices(preprocess, 0)) == 0
    assert len(phantoms) == 12 and phantoms.images.shape == (12, 96, 96, 1)
    shown = phantoms.masks.reshape(12, -1).max(1) > 127
    assert shown.tolist() == [False, False, True, True] * 3
    phantom = make_slice(1, 3, True, 256, 0)
    region = preprocess.region(phantom.image)
    assert np.array_equal(phantoms.images[2], preprocess(phantom.image))
    expected = cv2.resize(region.cut(phantom.lesion.astype(np.float32)), (96, 96), interpolation=cv2.INTER_AREA)
    assert np.abs(phantoms.masks[2] / 255 - expected).mean() < 0.01


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = ["path,lesion_mask,lung_mask,group"]
    for patient in range(3):
        phantom = make_slice(patient, 3, patient > 0, 160, seed=7)
        cv2.imwrite(str(tmp_path / f"{patient}.png"), phantom.image)
        cv2.imwrite(str(tmp_path / f"{patient}-mask.png"), phantom.lesion * np.uint8(255))
        rows.append(f"{patient}.png,{f'{patient}-mask.png' if patient else ''},,patient-{patient}")
    (tmp_path / "lesions.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "lesions.csv"


def test_table_of_masks(table: Path) -> None:
    loaded = load_lesion_slices(table, Preprocess(64))
    assert loaded.groups == ("patient-0", "patient-1", "patient-2")
    assert (loaded.masks.reshape(3, -1).max(1) > 0).tolist() == [False, True, True]
    assert loaded.cells().shape == (3, 8, 8)
    others = loaded.without({"patient-1"}, {loaded.sha256[0]})
    assert others.groups == ("patient-2",) and np.array_equal(others.masks[0], loaded.masks[2])
    assert len(loaded.without({"patient-0", "patient-1", "patient-2"})) == 0


def test_tables_that_are_wrong_are_refused(table: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1-mask.png"), np.zeros((150, 160), np.uint8))
    with pytest.raises(DataRejected, match="the mask is 160 x 150 px, its slice 160 x 160 px"):
        load_lesion_slices(table, Preprocess(64))
    (tmp_path / "1-mask.png").write_text("none")
    with pytest.raises(DataRejected, match="cannot be read as a picture"):
        load_lesion_slices(table, Preprocess(64))
    (tmp_path / "0.png").unlink()
    with pytest.raises(DataRejected, match="row 2"):
        load_lesion_slices(table, Preprocess(64))
    table.write_text("path,mask\na,b\n")
    with pytest.raises(DataRejected, match="path,lesion_mask,group"):
        load_lesion_slices(table, Preprocess(64))


def test_draws_are_repeatable_and_masks_stay_on_their_lesions(table: Path) -> None:
    preprocess = Preprocess(64)
    real, phantoms = load_lesion_slices(table, preprocess), phantom_lesion_slices(preprocess, 4)
    draws = LesionDraws(real, phantoms, 8, POLICIES["travel"], seed=3)
    images, targets = draws.draw(2, 5)
    assert images.shape == (8, 64, 64, 1) and targets.shape == (8, 8, 8, 2)
    assert (targets[..., 1] == 1).all() and 0 < targets[..., 0].max() <= 1
    again = draws.draw(2, 5)
    assert np.array_equal(images, again[0]) and np.array_equal(targets, again[1])
    assert not np.array_equal(images, draws.draw(2, 6)[0])


def test_share_of_phantoms_in_draws() -> None:
    """Grey says where a slice is from: a quarter of the draws are phantoms, where there are others."""

    def of_grey(grey: int, groups: tuple[str, ...]) -> LesionSlices:
        n = len(groups)
        return LesionSlices(np.full((n, 8, 8, 1), grey, np.uint8), np.zeros((n, 8, 8), np.uint8), groups, ("",) * n)

    real, phantoms = of_grey(200, ("a",) * 9 + ("b",)), of_grey(50, ("p", "q"))
    images, _ = LesionDraws(real, phantoms, 4000, POLICIES["none"], seed=0).draw(0, 0)
    assert (images[:, 0, 0, 0] == 50).mean() == pytest.approx(0.25, abs=0.03)
    # Patient a has nine times the slices of b and is drawn three times as often.
    draws = LesionDraws(real, of_grey(0, ()), 4000, POLICIES["none"], seed=0)
    assert draws._chances[:9].sum() == pytest.approx(0.75)
