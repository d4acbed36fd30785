"""Likeness: gradients by the definition in loops, registration under shifts and scales, links pair by pair."""

from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ct.imaging.near_duplicates import difference_hash
from edge_ct.phantom import make_slice
from edge_ct.train.data.similarity import (
    Link,
    LinkLimits,
    SliceFeatures,
    compare_slices,
    extract_features,
    gradient_histograms,
    register_lungs,
)


def gradients_in_loops(picture: np.ndarray) -> np.ndarray:
    """Dalal and Triggs, pixel by pixel: 9 orientations of 180 degrees, linear between two, blocks of 2 x 2 cells."""
    side, grey = len(picture), np.pad(picture.astype(float), 1, mode="reflect")
    cells = np.zeros((side // 12, side // 12, 9))
    for y in range(side):
        for x in range(side):
            around = grey[y : y + 3, x : x + 3]
            weights = np.array([1, 2, 1])
            across, down = weights @ (around[:, 2] - around[:, 0]), weights @ (around[2] - around[0])
            place = np.degrees(np.arctan2(down, across)) % 180 / 20
            lower = int(place) % 9
            cells[y // 12, x // 12, lower] += np.hypot(across, down) * (1 - place % 1)
            cells[y // 12, x // 12, (lower + 1) % 9] += np.hypot(across, down) * (place % 1)
    rows = []
    for y in range(len(cells) - 1):
        for x in range(len(cells) - 1):
            block = np.concatenate([cells[y + i, x + j] for i in (0, 1) for j in (0, 1)])
            rows.append(block / np.sqrt(block @ block + 100**2))
    flat = np.concatenate(rows)
    return flat / np.linalg.norm(flat)


def test_gradients_by_the_definition() -> None:
    picture = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (48, 48), dtype=np.uint8), (0, 0), 2)
    found = gradient_histograms(picture)
    assert (found.shape, found.dtype) == ((3 * 3 * 36,), np.float32)
    assert np.allclose(found, gradients_in_loops(picture), atol=1e-4)


def test_gradients_of_an_edge_are_of_one_orientation() -> None:
    edge = np.zeros((24, 24), np.uint8)
    edge[:, 12:] = 200
    across = gradient_histograms(edge).reshape(4, 9)
    assert np.allclose(across[:, 0], 0.5)  # all four cells alike, length 1
    assert np.allclose(across[:, 1:], 0)
    down = gradient_histograms(edge.T.copy()).reshape(
        4, 9
    )  # 90 degrees: midway between the fifth and the sixth of 20 degrees
    assert np.allclose(down[:, 4:6], 0.5 / np.sqrt(2), atol=1e-5)


def test_contrast_does_not_matter_and_a_flat_picture_has_no_gradients() -> None:
    picture = make_slice(1, 4, True, 192).image
    assert gradient_histograms(picture) @ gradient_histograms(picture // 2 + 60) > 0.98
    assert not gradient_histograms(np.full((192, 192), 90, np.uint8)).any()


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6])
def test_registered_lungs_do_not_move(scale: float) -> None:
    phantom = make_slice(3, 4, True, 256, seed=1)
    mask = phantom.lungs
    sides = (round(256 * scale), round(256 * scale))
    moved = cv2.copyMakeBorder(cv2.resize(phantom.image, sides), 30, 0, 0, 50, cv2.BORDER_CONSTANT)
    moved_mask = cv2.copyMakeBorder(cv2.resize(mask.astype(np.uint8), sides), 30, 0, 0, 50, cv2.BORDER_CONSTANT) > 0
    (shape, picture), (other, other_picture) = register_lungs(phantom.image, mask), register_lungs(moved, moved_mask)
    assert (shape & other).sum() / (shape | other).sum() > 0.96
    assert gradient_histograms(picture) @ gradient_histograms(other_picture) > 0.9
    rows, columns = np.nonzero(shape)
    assert abs(rows.mean() - 31.5) < 0.5
    assert abs(columns.mean() - 31.5) < 0.5
    assert 64 / (rows.std() * columns.std()) ** 0.5 == pytest.approx(5.2, rel=0.03)


def test_a_slice_without_lungs_is_like_nothing_but_its_copy() -> None:
    empty = np.tile(np.arange(256, dtype=np.uint8), (200, 1))
    found = extract_features(empty)
    assert not found.has_lungs
    assert not found.gradients.any()
    comparison = compare_slices(
        [found, extract_features(make_slice(1, 4, True, 96).image), found], LinkLimits(overlap=0, similarity=0)
    )
    assert [(link.first, link.second, link.distance) for link in comparison.links] == [(0, 2, 0)]
    assert comparison.nearest.tolist() == [-1, -1, -1]


@pytest.fixture(scope="module")
def looks() -> list[SliceFeatures]:
    return [
        extract_features(make_slice(patient, index, patient % 2 == 0, 96, slices=16).image)
        for patient in range(5)
        for index in (7, 8, 9)
    ]


@given(st.integers(0, 120), st.floats(0, 1), st.floats(0, 1), st.lists(st.integers(0, 1), min_size=15, max_size=15))
@settings(max_examples=25)
def test_comparison_pair_by_pair(
    looks: list[SliceFeatures], distance: int, overlap: float, similarity: float, labels: list[int]
) -> None:
    limits = LinkLimits(distance, overlap, similarity)
    found = compare_slices(looks, limits, np.array(labels), count=4)
    expected, across = {}, []
    for i, j in combinations(range(len(looks)), 2):
        bits = int(np.unpackbits(looks[i].hash ^ looks[j].hash).sum())
        common = (looks[i].shape & looks[j].shape).sum() / (looks[i].shape | looks[j].shape).sum()
        cosine = float(looks[i].gradients @ looks[j].gradients)
        if bits <= distance or (common >= overlap and cosine >= similarity):
            expected[i, j] = (bits, common, cosine)
        if labels[i] != labels[j]:
            across.append((-cosine, i, j))
    assert {(link.first, link.second) for link in found.links} == set(expected)
    for link in found.links:
        bits, common, cosine = expected[link.first, link.second]
        assert link.distance == bits
        assert (link.overlap, link.similarity) == pytest.approx((common, cosine), abs=1e-5)
    strengths = [link.strength(limits) for link in found.links]
    assert strengths == sorted(strengths, reverse=True)
    assert [(link.first, link.second) for link in found.across] == [(i, j) for _, i, j in sorted(across)[:4]]
    cosines = np.stack([one.gradients for one in looks])
    nearest = cosines @ cosines.T - 2 * np.eye(len(looks))
    assert found.nearest.tolist() == nearest.argmax(axis=1).tolist()


def test_blocks_of_rows_make_no_difference(looks: list[SliceFeatures], monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_ct.train.data import similarity as likeness

    labels, done = np.arange(15) % 2, list[int]()
    whole = compare_slices(looks, LinkLimits(similarity=0.5), labels)
    monkeypatch.setattr(likeness, "_ROWS", 4)
    parts = compare_slices(looks, LinkLimits(similarity=0.5), labels, on_done=done.append)
    assert done == [4, 4, 4, 3]
    assert [(a.first, a.second) for a in parts.links] == [(a.first, a.second) for a in whole.links]
    assert [(a.first, a.second) for a in parts.across] == [(a.first, a.second) for a in whole.across]
    assert parts.nearest.tolist() == whole.nearest.tolist()


def test_nothing_to_compare() -> None:
    found = compare_slices([], LinkLimits(), np.empty(0, int))
    assert (found.links, found.across, found.nearest.tolist()) == ([], [], [])


def test_strength_by_hand() -> None:
    limits = LinkLimits(distance=30, overlap=0.8, similarity=0.9)
    assert Link(0, 1, 15, 0.0, 0.0).strength(limits) == 0.5
    assert Link(0, 1, 90, 0.85, 0.99).strength(limits) == pytest.approx(0.25)
    assert Link(0, 1, 0, 0.0, 0.0).strength(limits) == 1
    assert not Link(0, 1, 0, 0.79, 0.99).by_lungs(limits)
    assert Link(0, 1, 90, 0.8, 0.9).by_lungs(limits)


def test_the_hash_is_the_one_of_near_duplicates(looks: list[SliceFeatures]) -> None:
    assert np.array_equal(looks[0].hash, difference_hash(make_slice(0, 7, True, 96, slices=16).image))
