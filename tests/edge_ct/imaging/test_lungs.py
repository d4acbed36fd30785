"""Lungs: against the phantoms' own, against drawings whose areas are known, and against what has none."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_ct import slices
from edge_ct.imaging import lungs
from edge_ct.imaging.phantom_anatomy import Mask
from edge_ct.phantom import make_slice


def dice(first: np.ndarray, second: Mask) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def chest(*ellipses: tuple[tuple[int, int], tuple[int, int], int], shape: tuple[int, int] = (200, 240)) -> np.ndarray:
    """A body of grey 200 in air of grey 0, and ellipses: centre, half axes, grey."""
    drawn = np.zeros(shape, np.uint8)
    for centre, axes, grey in (((shape[1] // 2, shape[0] // 2), (105, 80), 200), *ellipses):
        cv2.ellipse(drawn, centre, axes, 0, 0, 360, grey, -1)
    return drawn


RIGHT, LEFT = ((75, 100), (30, 50), 60), ((165, 100), (30, 50), 60)


@pytest.mark.parametrize("size", [96, 256, 400])
def test_the_phantoms_own_lungs(size: int) -> None:
    """Both classes, apex to base, every habitus: Dice against the mask that the phantom was drawn with."""
    scores = []
    for patient in range(24):
        phantom = make_slice(patient, patient % 8, patient % 2 == 0, size, seed=11)
        found = lungs.segment(phantom.image)
        assert found.shows_lung
        scores.append(dice(found.mask, phantom.lungs))
    assert np.median(scores) >= 0.97
    assert np.mean(scores) >= 0.95
    assert min(scores) >= 0.8


def test_two_ellipses_by_area() -> None:
    drawn = chest(RIGHT, LEFT)
    found = lungs.segment(drawn)
    assert found.count == 2
    assert (found.mask != (drawn == 60)).sum() < 40  # of 9662: corners of the outline
    assert found.share == pytest.approx((drawn == 60).sum() / (drawn > 0).sum(), abs=0.005)


def test_one_lung() -> None:
    drawn = chest(LEFT)
    found = lungs.segment(drawn)
    assert found.count == 1
    assert dice(found.mask, drawn == 60) > 0.99


def test_vessels_and_consolidation_within_are_lung_and_the_trachea_is_not() -> None:
    whole = chest(RIGHT, LEFT) == 60
    vessel, consolidation, trachea = ((70, 95), (9, 4), 200), ((160, 110), (10, 10), 190), ((120, 70), (5, 6), 20)
    found = lungs.segment(chest(RIGHT, LEFT, vessel, consolidation, trachea))
    assert found.count == 2
    assert dice(found.mask, whole) > 0.99
    assert not found.mask[70, 120]


def test_a_vessel_does_not_cut_a_lung_in_two() -> None:
    drawn = chest(RIGHT, LEFT)
    whole = drawn == 60
    drawn[98:102, 40:110] = 200
    found = lungs.segment(drawn)
    assert found.count == 2
    assert dice(found.mask, whole) > 0.97


def test_the_mediastinum_between_lungs_that_meet_is_not_lung() -> None:
    """A ring: what it encloses is far larger than a vessel."""
    drawn = chest(((120, 100), (85, 60), 60), ((120, 100), (45, 35), 200))
    found = lungs.segment(drawn)
    assert found.count == 1
    assert dice(found.mask, drawn == 60) > 0.99


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0), (0.6, 90), (0.8, -10), (1.3, 5)])
def test_brightness_and_contrast_do_not_matter(gain: float, offset: float) -> None:
    for patient in range(6):
        phantom = make_slice(patient, 4, patient % 2 == 0, 256, seed=3)
        changed = np.clip(phantom.image * gain + offset, 0, 255).astype(np.uint8)
        assert dice(lungs.segment(changed).mask, lungs.segment(phantom.image).mask) > 0.95


def test_frames_do_not_matter() -> None:
    """Black or dark borders around the slice, as screenshots have."""
    for grey in (0, 60):
        phantom = make_slice(2, 4, False, 256, seed=3)
        framed = cv2.copyMakeBorder(phantom.image, 20, 0, 30, 30, cv2.BORDER_CONSTANT, value=grey)
        inside = lungs.segment(framed).mask[20:, 30:-30]
        assert dice(inside, phantom.lungs) > 0.95


def test_a_lung_cropped_by_the_frame_is_kept() -> None:
    drawn = chest(RIGHT, LEFT)[:, 50:190]  # 5 px into each lung
    found = lungs.segment(drawn)
    assert found.count == 2
    assert dice(found.mask, drawn == 60) > 0.98


def test_air_under_the_patient_is_not_lung() -> None:
    """From side to side below the body, above a table: deep for its length along the frame."""
    drawn = np.full((256, 256), 200, np.uint8)
    drawn[:60] = 60
    drawn[190:235] = 60
    assert not lungs.segment(drawn).shows_lung
    cv2.ellipse(drawn, (90, 125), (28, 40), 0, 0, 360, 60, -1)
    found = lungs.segment(drawn)
    assert found.count == 1
    assert not found.mask[190:].any()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((90, 120), np.uint8),
        np.full((90, 120), 255, np.uint8),
        np.full((90, 120), 128, np.uint8),
        np.tile(np.arange(256, dtype=np.uint8), (200, 1)),
        chest(),
        chest(((120, 70), (6, 7), 60)),
    ],
    ids=["black", "white", "grey", "slope", "body", "trachea"],
)
def test_no_lungs(pixels: np.ndarray) -> None:
    found = lungs.segment(pixels)
    assert (found.count, found.shows_lung, found.share) == (0, False, 0)
    assert found.mask.shape == pixels.shape
    assert not found.mask.any()


@given(arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 70))))
def test_any_picture_gives_a_mask(pixels: np.ndarray) -> None:
    found = lungs.segment(pixels)
    assert (found.mask.shape, found.mask.dtype) == (pixels.shape, bool)
    assert found.shows_lung == (found.count > 0)
    assert found.count > 0 or not found.mask.any()
    assert 0 <= found.share <= 1


@pytest.mark.parametrize("shape", [(32, 4096), (4096, 32), (1500, 900)])
def test_extreme_shapes(shape: tuple[int, int]) -> None:
    assert lungs.segment(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).mask.shape == shape


def test_it_takes_milliseconds() -> None:
    image = make_slice(1, 4, True, 256).image
    lungs.segment(image)
    times = []
    for _ in range(10):
        start = time.thread_time()
        lungs.segment(image)
        times.append(time.thread_time() - start)
    assert min(times) < 0.02


@pytest.mark.real
def test_real_slices(real_data: Path) -> None:
    """Every thirtieth slice has lungs; a whole series in its order: none at the neck, ever more below."""
    paths = sorted((real_data / "sars-cov-2-ct").glob("*/*.png"))[::30]
    assert all(lungs.segment(slices.read(path).pixels).shows_lung for path in paths)
    series = sorted((real_data / "dicom" / "thorax-ct-series").glob("*.dcm"))
    shares = [lungs.segment(slices.read(path).pixels).share for path in series]
    assert not any(shares[:4])
    assert all(shares[7:])
    assert 0.3 < shares[-1] < 0.45
    assert np.corrcoef(shares[7:], range(len(shares[7:])))[0, 1] > 0.95
