"""Near-duplicates: distances by counting bits, groups by hand, and phantoms that were tampered with."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ct import slices
from edge_ct.imaging.near_duplicates import difference_hash, distances, single_linkage
from edge_ct.phantom import make_slice

HASH = st.binary(min_size=32, max_size=32)
# Copies of a slice that was tampered with stay within this many bits of 256; other slices do not come near it.
NEAR = 45


def stacked(hashes: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)


def differing_bits(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_count()


def with_bits(*positions: int) -> bytes:
    return sum(1 << position for position in positions).to_bytes(32, "big")


def distance(first: np.ndarray, second: np.ndarray) -> int:
    return differing_bits(difference_hash(first).tobytes(), difference_hash(second).tobytes())


@pytest.fixture(scope="module")
def phantoms() -> list[np.ndarray]:
    """One slice each of 24 patients, the two classes in turn."""
    return [make_slice(patient, 4, patient % 2 == 0, 224).image for patient in range(24)]


@given(st.lists(HASH, min_size=1, max_size=8), st.lists(HASH, min_size=1, max_size=8))
@settings(deadline=None)
def test_distances_are_counts_of_differing_bits(left: list[bytes], right: list[bytes]) -> None:
    found = distances(stacked(left), stacked(right))
    assert found.tolist() == [[differing_bits(first, second) for second in right] for first in left]


def test_distance_from_all_zeros_to_all_ones() -> None:
    assert distances(stacked([bytes(32)]), stacked([b"\xff" * 32, bytes(32)])).tolist() == [[256, 0]]


def test_hash_is_the_sign_of_the_differences_by_hand() -> None:
    """A picture of 17 x 16 blocks of 8 x 8: its thumbnail is itself, and nothing is interpolated."""
    thumbnail = np.random.default_rng(1).integers(0, 256, (16, 17), dtype=np.uint8)
    expected = [int(thumbnail[row, column + 1] > thumbnail[row, column]) for row in range(16) for column in range(16)]
    assert np.unpackbits(difference_hash(thumbnail.repeat(8, axis=0).repeat(8, axis=1))).tolist() == expected


def test_hash_of_a_flat_picture_and_of_a_slope() -> None:
    assert not difference_hash(np.full((100, 100), 7, np.uint8)).any()
    slope = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (200, 1))
    assert np.unpackbits(difference_hash(slope)).all()
    assert not np.unpackbits(difference_hash(slope[:, ::-1].copy())).any()


def test_hash_has_256_bits_for_any_shape() -> None:
    for shape in ((32, 32), (119, 534), (900, 40)):
        packed = difference_hash(np.zeros(shape, np.uint8))
        assert (packed.shape, packed.dtype) == ((32,), np.uint8)


def groups(hashes: np.ndarray, reach: int) -> list[int]:
    close = distances(hashes, hashes) <= reach
    return single_linkage(len(hashes), ((int(i), int(j)) for i, j in np.argwhere(close) if i < j))


def test_groups_are_chains() -> None:
    """a-b and b-c are 2 apart, a-c are 4: one group all the same; d is alone, e and f are equal."""
    a, b, c = with_bits(), with_bits(0, 1), with_bits(0, 1, 2, 3)
    d, e = with_bits(*range(100, 140)), with_bits(*range(200, 256))
    assert groups(stacked([a, b, c, d, e, e]), 2) == [0, 0, 0, 3, 4, 4]
    assert len(set(groups(stacked([a, b, c, d, e, e]), 1))) == 5


def test_groups_do_not_depend_on_where_the_chain_starts() -> None:
    chain = [with_bits(*range(length)) for length in range(0, 20, 2)]
    for order in (range(10), reversed(range(10)), (4, 9, 0, 7, 2, 5, 1, 8, 3, 6)):
        assert set(groups(stacked([chain[index] for index in order]), 2)) == {0}


@given(st.lists(st.sets(st.integers(0, 12), max_size=5), min_size=1, max_size=12), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_groups_are_the_connected_components(patterns: list[set[int]], reach: int) -> None:
    hashes = [with_bits(*pattern) for pattern in patterns]
    found = groups(stacked(hashes), reach)
    component = list(range(len(hashes)))
    for _ in hashes:
        for i, first in enumerate(hashes):
            for j, second in enumerate(hashes):
                if differing_bits(first, second) <= reach:
                    component[i] = component[j] = min(component[i], component[j])
    assert found == component


def test_no_hashes_no_groups() -> None:
    assert groups(np.empty((0, 32), np.uint8), 2) == []


def shifted(image: np.ndarray) -> np.ndarray:
    return np.roll(image, (1, -1), (0, 1))


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(4).normal(0, 6, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def brighter(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 0.9 + 20, 0, 255).astype(np.uint8)


def larger(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (400, 380), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("change", [shifted, noisy, brighter, larger])
def test_tampered_phantom_stays_near(phantoms: list[np.ndarray], change: Callable[..., np.ndarray]) -> None:
    found = [distance(image, change(image)) for image in phantoms]
    assert np.median(found) <= 2 * NEAR / 3
    assert max(found) <= NEAR


def test_jpeg_of_a_phantom_stays_near(phantoms: list[np.ndarray], encode: Callable[..., bytes]) -> None:
    for image in phantoms:
        assert distance(image, slices.decode(encode(image, "JPEG", quality=60), "x").pixels) <= NEAR


def test_other_phantoms_are_far(phantoms: list[np.ndarray]) -> None:
    hashes = np.stack([difference_hash(image) for image in phantoms])
    apart = distances(hashes, hashes)[np.triu_indices(len(phantoms), 1)]
    assert np.median(apart) > 1.5 * NEAR
    assert (apart <= NEAR).mean() < 0.01


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(*(st.integers(0, n - 1),) * 2), max_size=40))
    )
)
def test_single_linkage_is_connected_components(graph: tuple[int, list[tuple[int, int]]]) -> None:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count, links = graph
    ends = np.array(links, int).reshape(-1, 2).T
    _, expected = connected_components(coo_matrix((np.ones(len(links)), ends), (count, count)), directed=False)
    found = single_linkage(count, links)
    assert found == [int(np.flatnonzero(expected == own)[0]) for own in expected]
