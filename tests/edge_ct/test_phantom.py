"""Synthetic slices: deterministic, lung-like, and separable by their lesions alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from edge_ct.phantom import Phantom, make_patients, make_series, make_slice, preprocessed_phantoms
from edge_ct.preprocess import Preprocess


def rank_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counted half (Mann-Whitney)."""
    above, below = scores[positive][:, None], scores[~positive][None, :]
    return float(np.mean((above > below) + 0.5 * (above == below)))


@cache
def cohort() -> tuple[Phantom, ...]:
    return tuple(make_patients(80, 4, 96, 3))


def test_rank_auc_by_hand() -> None:
    # Pairs (3, 1), (3, 2), (2, 1), (2, 2): three won, one tied.
    assert rank_auc(np.array([1, 2, 2, 3]), np.array([False, False, True, True])) == 3.5 / 4


@pytest.mark.parametrize("size", [64, 128, 224, 512])
@pytest.mark.parametrize("positive", [False, True])
def test_shapes_and_types(size: int, positive: bool) -> None:
    phantom = make_slice(7, 3, positive, size)
    assert phantom.image.shape == phantom.lungs.shape == phantom.lesion.shape == (size, size)
    assert phantom.image.dtype == np.uint8
    assert phantom.lungs.dtype == phantom.lesion.dtype == np.bool_
    assert (phantom.patient, phantom.index, phantom.positive) == ("phantom-0007", 3, positive)


def test_same_arguments_same_bytes() -> None:
    first, second = make_slice(2, 5, True, 128, seed=9), make_slice(2, 5, True, 128, seed=9)
    for name in ("image", "lungs", "lesion"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


def test_patient_index_and_seed_each_change_the_picture() -> None:
    pictures = [make_slice(*key, False, 96, seed) for *key, seed in ((0, 3, 0), (1, 3, 0), (0, 4, 0), (0, 3, 1))]
    assert len({phantom.image.tobytes() for phantom in pictures}) == 4


def test_what_a_network_sees_of_patients_without_and_with_lesions() -> None:
    images = preprocessed_phantoms(Preprocess(48), patients=3)
    assert images.shape == (6, 48, 48, 1)
    assert images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == 6
    well, ill = images[::2, ..., 0].astype(int), images[1::2, ..., 0].astype(int)
    changed = np.abs(well - ill) > 0
    assert changed.any((1, 2)).all()
    assert changed.mean() < 0.4  # the chest wall and most of the lungs are the same


def test_size_changes_the_sampling_not_the_anatomy() -> None:
    large, small = make_slice(4, 4, True, 256), make_slice(4, 4, True, 128)
    for name in ("lungs", "lesion"):
        coarse = getattr(large, name).reshape(128, 2, 128, 2).mean((1, 3)) >= 0.5
        fine = getattr(small, name)
        assert (coarse & fine).sum() / (coarse | fine).sum() > 0.75


def test_classes_differ_in_the_lesions_alone() -> None:
    for patient in range(6):
        ill, well = make_slice(patient, 4, True, 128), make_slice(patient, 4, False, 128)
        assert np.array_equal(ill.lungs, well.lungs)
        beyond = np.ones((128, 128), bool)
        rows, columns = np.nonzero(ill.lesion)
        for row, column in zip(rows, columns, strict=True):
            beyond[max(row - 12, 0) : row + 13, max(column - 12, 0) : column + 13] = False
        assert np.array_equal(ill.image[beyond], well.image[beyond])


def test_lesion_if_and_only_if_positive() -> None:
    for phantom in cohort():
        assert phantom.lesion.any() == phantom.positive
        assert not (phantom.lesion & ~phantom.lungs).any()


def test_every_level_of_a_positive_series_shows_a_lesion_at_64_px() -> None:
    for patient in range(12):
        assert all(phantom.lesion.sum() >= 3 for phantom in make_series(patient, True, 6, 64, 5))


def test_lungs_are_dark_and_of_plausible_extent() -> None:
    for phantom in cohort():
        if phantom.positive:
            continue
        rows, columns = np.nonzero(phantom.lungs)
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        around = phantom.image[box][~phantom.lungs[box]]
        assert 0.04 < phantom.lungs.mean() < 0.5
        assert phantom.image[phantom.lungs].mean() + 60 < around.mean()


def test_lesions_are_brighter_than_the_rest_of_the_lung() -> None:
    brighter = [
        phantom.image[phantom.lesion].mean() > phantom.image[phantom.lungs & ~phantom.lesion].mean()
        for phantom in cohort()
        if phantom.positive
    ]
    assert np.mean(brighter) > 0.95


def test_lesions_lie_posterior_by_preference() -> None:
    lower = [
        np.nonzero(phantom.lesion)[0].mean() > np.nonzero(phantom.lungs)[0].mean()
        for phantom in cohort()
        if phantom.positive
    ]
    assert 0.6 < np.mean(lower) < 0.98


def test_margins_never_cover_a_lung() -> None:
    for phantom in make_patients(60, 3, 64, 8):
        assert not phantom.lungs[:3].any()
        assert not phantom.lungs[-3:].any()
        assert not phantom.lungs[:, :2].any()
        assert not phantom.lungs[:, -2:].any()


def test_brightness_does_not_give_the_class_away() -> None:
    positive = np.array([phantom.positive for phantom in cohort()])
    picture = np.array([phantom.image.mean() for phantom in cohort()])
    lung = np.array([phantom.image[phantom.lungs].mean() for phantom in cohort()])
    assert rank_auc(picture, positive) < 0.75
    assert rank_auc(lung, positive) < 0.85


def test_lesions_decide_the_class() -> None:
    """Given a twin without lesions, the difference of the two pictures separates every pair."""
    for patient in range(8):
        ill, well = make_slice(patient, 3, True, 96), make_slice(patient, 3, False, 96)
        change = ill.image.astype(int) - well.image
        assert change[ill.lesion].mean() > 10


def test_make_patients_alternates_classes_patient_by_patient() -> None:
    phantoms = list(make_patients(6, 3, 64, 1))
    assert [phantom.patient for phantom in phantoms[::3]] == [f"phantom-{number:04d}" for number in range(6)]
    assert [phantom.index for phantom in phantoms] == [0, 1, 2] * 6
    assert [phantom.positive for phantom in phantoms[::3]] == [False, True] * 3
    assert all(len({phantom.positive for phantom in phantoms[at : at + 3]}) == 1 for at in range(0, 18, 3))


@pytest.mark.parametrize(("index", "size"), [(-1, 224), (8, 224), (0, 16)])
def test_impossible_slices_are_refused(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="slice"):
        make_slice(0, index, True, size)
