"""Where the cells of a map look, against maps whose cells are made to look at known places."""

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_ct.bundle import read_bundle
from edge_ct.manifest import Manifest
from edge_ct.network_analysis import receptive_field
from edge_ct.network_analysis.receptive_field import Respond

SIZE = 112
# Unlike equal shares: drawn in at both ends, as those of a network with padding.
PLACES = (0.2, 0.3, 0.45, 0.62, 0.8)


def looking_at(down: tuple[float, ...], across: tuple[float, ...] = ()) -> Respond:
    """A map whose cells weigh the slice with bells around these places; across: as down, unless given."""
    middles = (np.arange(SIZE) + 0.5) / SIZE
    rows, columns = (
        np.exp(-(((middles - np.array(places)[:, np.newaxis]) / 0.06) ** 2) / 2) for places in (down, across or down)
    )
    return lambda images: np.einsum("nyx,hy,wx->nhw", images[..., 0].astype(float), rows, columns)


# Slices without anything to see, and with it: linear maps look at the same places of both.
SLICES = np.stack([np.full((SIZE, SIZE, 1), 128), np.indices((SIZE, SIZE, 1)).sum(0)]).astype(np.uint8)
SHARES = (np.arange(5) + 0.5) / 5


def mostly(*axes: tuple[float, ...]) -> list[float]:
    """Four fifths of the way from the middles of equal shares."""
    return [0.8 * place + 0.2 * share for places in axes for place, share in zip(places, SHARES, strict=True)]


def moved(places: tuple[float, ...], by: float) -> tuple[float, ...]:
    return tuple(place + by for place in places)


def test_places_are_found() -> None:
    found = receptive_field.measure_cell_centres(looking_at(PLACES), SLICES)
    assert found == pytest.approx(mostly(PLACES, PLACES), abs=0.02)
    assert found == receptive_field.measure_cell_centres(looking_at(PLACES), SLICES)


def test_rows_and_columns_look_at_places_of_their_own() -> None:
    across = (0.1, 0.28, 0.5, 0.71, 0.92)
    found = receptive_field.measure_cell_centres(looking_at(PLACES, across=across), SLICES)
    assert found == pytest.approx(mostly(PLACES, across), abs=0.03)


def test_channels_are_taken_together() -> None:
    both = [looking_at(PLACES), looking_at(moved(PLACES, 0.04))]
    found = receptive_field.measure_cell_centres(lambda images: np.stack([own(images) for own in both], axis=3), SLICES)
    assert found == pytest.approx(mostly(moved(PLACES, 0.02), moved(PLACES, 0.02)), abs=0.03)


@pytest.mark.parametrize(
    "respond",
    [
        lambda images: np.zeros((len(images), 5, 5)),
        lambda images: looking_at(PLACES)(images)[:, :3],
        lambda images: np.repeat(looking_at((0.5,))(images), 4, axis=1).repeat(4, axis=2),
        lambda images: images[:, ::2, ::2, 0],
        looking_at(PLACES[::-1]),
    ],
    ids=["dead", "not square", "all alike", "finer than the patches", "backwards"],
)
def test_where_there_is_no_order_there_are_no_places(respond: Respond) -> None:
    assert receptive_field.measure_cell_centres(respond, SLICES) is None


def test_an_enlarged_map_has_its_cells_where_they_look() -> None:
    for row, column in itertools.product(range(5), repeat=2):
        heat = np.zeros((5, 5))
        heat[row, column] = 1
        large = receptive_field.enlarge_map(heat, 200, 400, PLACES)
        assert (large == receptive_field.enlarge_map(heat, 200, 400, PLACES + PLACES)).all()
        assert large.dtype == np.float32
        peak = np.argwhere(large > 0.97).mean(0)
        for own, place, side in zip(peak, (row, column), (200, 400), strict=True):
            assert (own + 0.5) / side == pytest.approx(PLACES[place], abs=0.02)


def test_where_no_cell_looks_a_map_fades_to_nothing() -> None:
    large = receptive_field.enlarge_map(np.full((5, 5), 3.0), 100, 200, PLACES)
    assert large[20:80, 40:160] == pytest.approx(3)  # from the first place, 0.2, to the last, 0.8
    assert large[10, 100] == pytest.approx(3 * 0.105 / 0.2, abs=0.02)  # the middle of that pixel, on the way to 0.2
    assert max(large[0, 100], large[-1, 100], large[50, 0], large[50, -1]) < 0.1
    assert (np.diff(large[:20, 100]) > 0).all()
    assert receptive_field.enlarge_map(np.full((5, 5), 3.0), 64, 48) == pytest.approx(3)


def test_the_strongest_point_is_where_the_strongest_cell_looks() -> None:
    heat = np.full((5, 5), -0.1)
    heat[1, 3] = 2
    assert receptive_field.strongest_point(heat, PLACES) == pytest.approx((0.3, 0.62), abs=0.03)
    assert receptive_field.strongest_point(heat) == pytest.approx((0.3, 0.7), abs=0.02)
    assert receptive_field.strongest_point(heat, PLACES + tuple(SHARES)) == pytest.approx((0.3, 0.7), abs=0.02)


def test_the_strongest_point_of_equal_neighbours_is_between_them() -> None:
    heat = np.zeros((5, 5))
    heat[2, 2:4] = 1
    assert receptive_field.strongest_point(heat) == pytest.approx((0.5, 0.6), abs=0.01)
    heat[2, 2] = heat[0, 0] = 1.1  # alone it would be as strong as the left one
    assert receptive_field.strongest_point(heat)[0] == pytest.approx(0.5, abs=0.01)


def test_equal_shares_are_what_opencv_takes() -> None:
    heat = np.random.default_rng(0).normal(size=(7, 7))
    shares = tuple((np.arange(7) + 0.5) / 7)
    large, opencvs = receptive_field.enlarge_map(heat, 224, 224, shares), receptive_field.enlarge_map(heat, 224, 224)
    assert large[16:-16, 16:-16] == pytest.approx(opencvs[16:-16, 16:-16], abs=0.05)  # what is outside fades


@pytest.mark.parametrize(
    "centres",
    [
        (),
        (0.1, 0.5),
        (0.9, 0.5, 0.1),
        (0.5, 0.5, 0.5),
        (0.1, 0.5, 1.5),
        (0.1, 0.5, 0.7, 0.2),
        (0.1, 0.5, 0.7, 0.9, 0.5, 0.7),
    ],
)
def test_a_manifest_with_other_places_is_none(centres: tuple[float, ...], tiny_bundle: Path) -> None:
    document = msgspec.json.decode(msgspec.json.encode(read_bundle(tiny_bundle).manifest))
    document["tensors"]["class_map"]["shape"] = [1, 3, 3, 2]
    for good in ((0.2, 0.5, 0.7), (0.2, 0.5, 0.7, 0.1, 0.5, 0.6)):  # of an earlier version, and of this one
        content = msgspec.json.encode({**document, "map_centres": good})
        assert msgspec.json.decode(content, type=Manifest).map_centres == good
    with pytest.raises(msgspec.ValidationError, match="map_centres"):
        msgspec.json.decode(msgspec.json.encode({**document, "map_centres": centres}), type=Manifest)
    document["tensors"]["class_map"] = None
    with pytest.raises(msgspec.ValidationError, match="map_centres"):
        msgspec.json.decode(msgspec.json.encode({**document, "map_centres": [0.2, 0.5, 0.7]}), type=Manifest)
