"""Augmentation: identity, determinism, and each change on its own."""

import msgspec
import numpy as np
import pytest

from edge_ct.phantom import make_slice
from edge_ct.train.augment import POLICIES, Augment

IMAGE = make_slice(1, 4, True, 96).image[:, :, np.newaxis]


def draw(policy: Augment, seed: int = 0, image: np.ndarray = IMAGE) -> np.ndarray:
    return policy(image, np.random.default_rng(seed))


def test_no_change_is_the_identity() -> None:
    assert np.array_equal(draw(POLICIES["none"]), IMAGE)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_shape_dtype_and_determinism(name: str) -> None:
    first = draw(POLICIES[name], 7)
    assert (first.shape, first.dtype) == (IMAGE.shape, np.uint8)
    assert np.array_equal(first, draw(POLICIES[name], 7))
    if name != "none":
        assert not np.array_equal(first, draw(POLICIES[name], 8))


def test_flips_mirror_exactly() -> None:
    assert np.array_equal(draw(Augment(flip=1)), IMAGE[:, ::-1])
    assert np.array_equal(draw(Augment(flip_vertical=1)), IMAGE[::-1])


def test_rotation_turns_about_the_centre() -> None:
    point = np.zeros((97, 97, 1), np.uint8)
    point[48, 48] = 200
    assert draw(Augment(rotate=90), 3, point)[48, 48, 0] > 100


def test_shift_is_within_its_range() -> None:
    point = np.zeros((101, 101, 1), np.uint8)
    point[48:53, 48:53] = 255
    for seed in range(50):
        moved = draw(Augment(shift=0.1), seed, point)[:, :, 0].astype(float)
        rows, columns = np.indices(moved.shape)
        centre = (rows * moved).sum() / moved.sum(), (columns * moved).sum() / moved.sum()
        assert max(abs(side - 50) for side in centre) <= 10.2


def test_noise_has_the_stated_spread_at_most_and_no_bias() -> None:
    grey = np.full((200, 200, 1), 128, np.uint8)
    spreads = [draw(Augment(noise=6), seed, grey).astype(float).std() for seed in range(40)]
    assert max(spreads) < 6.1
    assert max(spreads) > 4.5
    assert draw(Augment(noise=6), 1, grey).mean() == pytest.approx(128, abs=0.2)


def test_tone_changes_keep_the_order_of_greys() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (8, 1))[:, :, np.newaxis]
    for seed in range(20):
        assert (np.diff(draw(Augment(window=0.3, gamma=0.4), seed, ramp)[0, :, 0].astype(int)) >= 0).all()


def test_policies_survive_json() -> None:
    for policy in POLICIES.values():
        assert msgspec.json.decode(msgspec.json.encode(policy), type=Augment) == policy
