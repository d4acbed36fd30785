"""Where the cells of a map look, against maps whose cells are made to look at known places."""

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_ct import bundle as bundles
from edge_ct import receptive
from edge_ct.manifest import Manifest
from edge_ct.receptive import Respond

SIZE = 112
# Unlike equal shares: drawn in at both ends, as those of a network with padding.
PLACES = (0.2, 0.3, 0.45, 0.62, 0.8)


def looking_at(places: tuple[float, ...], width: float = 0.06) -> Respond:
    """A map whose cells weigh the slice with bells of `width` around `places`, in both directions."""
    middles = (np.arange(SIZE) + 0.5) / SIZE
    bells = np.exp(-(((middles - np.array(places)[:, np.newaxis]) / width) ** 2) / 2)
    return lambda images: np.einsum("nyx,hy,wx->nhw", images[..., 0].astype(float), bells, bells)


def halfway(places: tuple[float, ...]) -> list[float]:
    """To the middles of equal shares."""
    return [(place + (k + 0.5) / len(places)) / 2 for k, place in enumerate(places)]


def test_places_are_found() -> None:
    found = receptive.centres(looking_at(PLACES), SIZE)
    assert found == pytest.approx(halfway(PLACES), abs=0.01)
    assert found == receptive.centres(looking_at(PLACES), SIZE)


def test_channels_are_taken_together() -> None:
    both = [looking_at(PLACES), looking_at(tuple(place + 0.04 for place in PLACES))]
    found = receptive.centres(lambda images: np.stack([own(images) for own in both], axis=3), SIZE)
    assert found == pytest.approx(halfway(tuple(place + 0.02 for place in PLACES)), abs=0.01)


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
    assert receptive.centres(respond, SIZE) is None


def test_an_enlarged_map_has_its_cells_where_they_look() -> None:
    for row, column in itertools.product(range(5), repeat=2):
        heat = np.zeros((5, 5))
        heat[row, column] = 1
        large = receptive.enlarged(heat, 200, 400, PLACES)
        assert large.dtype == np.float32
        peak = np.argwhere(large > 0.97).mean(0)
        inside = (0 < row < 4, 0 < column < 4)  # the outermost reach the frame
        for own, place, side, within in zip(peak, (row, column), (200, 400), inside, strict=True):
            if within:
                assert (own + 0.5) / side == pytest.approx(PLACES[place], abs=0.02)
    assert receptive.enlarged(np.full((5, 5), 3.0), 64, 48, PLACES) == pytest.approx(3)


def test_the_strongest_point_is_where_the_strongest_cell_looks() -> None:
    heat = np.full((5, 5), -0.1)
    heat[1, 3] = 2
    assert receptive.strongest(heat, PLACES) == pytest.approx((0.3, 0.62), abs=0.02)
    assert receptive.strongest(heat) == pytest.approx((0.3, 0.7), abs=0.02)


def test_the_strongest_point_of_equal_neighbours_is_between_them() -> None:
    heat = np.zeros((5, 5))
    heat[2, 2:4] = 1
    assert receptive.strongest(heat) == pytest.approx((0.5, 0.6), abs=0.01)
    heat[2, 2] = heat[0, 0] = 1.1  # alone it would be as strong as the left one
    assert receptive.strongest(heat)[0] == pytest.approx(0.5, abs=0.01)


def test_equal_shares_are_what_opencv_takes() -> None:
    heat = np.random.default_rng(0).normal(size=(7, 7))
    shares = tuple((np.arange(7) + 0.5) / 7)
    assert receptive.enlarged(heat, 224, 224, shares) == pytest.approx(receptive.enlarged(heat, 224, 224), abs=0.05)


@pytest.mark.parametrize("centres", [(), (0.1, 0.5), (0.9, 0.5, 0.1), (0.5, 0.5, 0.5), (0.1, 0.5, 1.5)])
def test_a_manifest_with_other_places_is_none(centres: tuple[float, ...], tiny_bundle: Path) -> None:
    document = msgspec.json.decode(msgspec.json.encode(bundles.read(tiny_bundle).manifest))
    document["tensors"]["class_map"]["shape"] = [1, 3, 3, 2]
    good = msgspec.json.encode({**document, "map_centres": [0.2, 0.5, 0.7]})
    assert msgspec.json.decode(good, type=Manifest).map_centres == (0.2, 0.5, 0.7)
    with pytest.raises(msgspec.ValidationError, match="map_centres"):
        msgspec.json.decode(msgspec.json.encode({**document, "map_centres": centres}), type=Manifest)
    document["tensors"]["class_map"] = None
    with pytest.raises(msgspec.ValidationError, match="map_centres"):
        msgspec.json.decode(msgspec.json.encode({**document, "map_centres": [0.2, 0.5, 0.7]}), type=Manifest)
