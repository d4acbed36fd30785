"""Augmentation: each change on its own."""

from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge_ct.phantom import make_slice
from edge_ct.train.data.augment import POLICIES, Augment

IMAGE = make_slice(1, 4, True, 96).image[:, :, np.newaxis]
RAMP = np.tile(np.arange(256, dtype=np.uint8), (256, 1))[:, :, np.newaxis]


class Largest:
    """In the place of a generator: every range at its upper end, every chance taken."""

    def uniform(self, low: float, high: float, size: int | None = None) -> Any:
        return high if size is None else np.full(size, high, float)

    def random(self, size: int | None = None) -> Any:
        return 0.0 if size is None else np.zeros(size)

    def integers(self, low: int, high: int | None = None) -> int:
        return low if high else 0


def draw(policy: Augment, seed: int = 0, image: np.ndarray = IMAGE) -> np.ndarray:
    return policy(image, np.random.default_rng(seed))


def test_no_change_is_the_identity() -> None:
    assert np.array_equal(draw(POLICIES["none"]), IMAGE)


def test_flips_mirror_exactly() -> None:
    assert np.array_equal(draw(Augment(flip=1)), IMAGE[:, ::-1])
    assert np.array_equal(draw(Augment(flip_vertical=1)), IMAGE[::-1])


def test_rotation_turns_about_the_centre() -> None:
    point = np.zeros((97, 97, 1), np.uint8)
    point[48, 48] = 200
    assert draw(Augment(rotate=90), 3, point)[48, 48, 0] > 100


def centre_of(picture: np.ndarray) -> tuple[float, float]:
    """x, y of the grey's centre of mass."""
    grey = picture[:, :, 0].astype(float)
    rows, columns = np.indices(grey.shape)
    return float((columns * grey).sum() / grey.sum()), float((rows * grey).sum() / grey.sum())


def test_shift_is_within_its_range() -> None:
    point = np.zeros((101, 101, 1), np.uint8)
    point[48:53, 48:53] = 255
    for seed in range(50):
        assert max(abs(side - 50) for side in centre_of(draw(Augment(shift=0.1), seed, point))) <= 10.2


def spot(side: int, x: float, y: float) -> np.ndarray:
    """A small round one."""
    rows, columns = np.indices((side, side))
    return (250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)).astype(np.uint8)[:, :, np.newaxis]


def test_skew_at_its_end_moves_points_as_worked_out_by_hand() -> None:
    """(u, v) -> (u, v) / (1 + 0.2 u + 0.2 v), u and v being 1 at the edges; 201 px, so 100 is the centre."""
    for u, v in ((0, 0), (0.6, 0.6), (-0.5, -0.5), (0.6, -0.6), (0, -0.7)):
        shrunk = 1 + 0.2 * u + 0.2 * v
        moved = Augment(skew=0.2)(spot(201, 100 + 100.5 * u, 100 + 100.5 * v), Largest())  # type: ignore[arg-type]
        assert centre_of(moved) == pytest.approx((100 + 100.5 * u / shrunk, 100 + 100.5 * v / shrunk), abs=0.4)


def test_skew_is_a_homography_about_the_centre_within_its_range() -> None:
    """Found from four points that moved, by OpenCV; a fifth goes where it says."""
    side, half = 201, 100.5
    points = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (0.1, 0.4)], np.float32)
    tilts = []
    for seed in range(12):
        moved = [
            centre_of(draw(Augment(skew=0.25), seed, spot(side, 100 + half * u, 100 + half * v))) for u, v in points
        ]
        there = ((np.array(moved) - 100) / half).astype(np.float32)
        found = cv2.getPerspectiveTransform(points[:4], there[:4])
        assert found[:2] == pytest.approx(np.eye(2, 3), abs=0.02)
        x, y, one = found @ (*points[4].tolist(), 1)
        assert there[4] == pytest.approx((x / one, y / one), abs=0.01)
        tilts.append(np.abs(found[2, :2]).max())
    assert 0.15 < max(tilts) < 0.26


def test_crop_keeps_a_part_and_enlarges_it() -> None:
    kept = []
    for seed in range(60):
        picture = draw(Augment(crop=0.3), seed, RAMP)[:, :, 0].astype(float)
        assert (picture == picture[0]).all()
        steps = np.diff(picture[0])
        # The grey of a column is the column it came from: evenly spaced, from somewhere in the picture to its end.
        assert steps.min() >= 0
        assert steps.max() <= 1
        kept.append((picture[0, -1] - picture[0, 0] + 1) / 256)
    assert 0.69 < min(kept) < 0.75
    assert max(kept) > 0.95


def test_crop_of_a_corner_by_hand() -> None:
    """At the end of the range and with no luck, the upper left three quarters a side of 128 px fill the picture."""
    ramp = np.tile(np.arange(128, dtype=np.uint8), (128, 1))
    picture = Augment(crop=0.25)(ramp[:, :, np.newaxis], Largest())[:, :, 0]  # type: ignore[arg-type]
    # Output column c shows the source at (c + 1/2) * 3/4 - 1/2.
    expected = np.clip((np.arange(128) + 0.5) * 0.75 - 0.5, 0, 127)
    assert picture[5].astype(float) == pytest.approx(expected, abs=0.6)


def frame_of(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Widths, in pixels, of the frame about a slice of grey 101: left, top, right, bottom."""
    inside = np.argwhere(picture[:, :, 0] == 101)
    (top, left), (bottom, right) = inside.min(0), inside.max(0)
    return left, top, picture.shape[1] - 1 - right, picture.shape[0] - 1 - bottom


def test_border_has_widths_within_its_range_and_one_grey() -> None:
    plain = np.full((120, 120, 1), 101, np.uint8)
    frames, greys = [], []
    for seed in range(300):
        picture = draw(Augment(border=0.2), seed, plain)
        widths = frame_of(picture)
        left, top, right, bottom = widths
        assert (picture[top : 120 - bottom, left : 120 - right] == 101).all()
        frames.append(widths)
        outside = np.unique(picture[picture != 101])
        assert len(outside) <= 1
        greys += outside.tolist()
    widths = np.array(frames)
    assert 20 <= widths.max() <= 24  # a fifth of 120
    assert 100 < (widths.max(1) == 0).sum() < 210  # half of the slices, and some that drew four sides without
    assert 0.15 < (widths > 0).mean() < 0.3  # a quarter of the sides
    assert greys.count(0) > greys.count(255) > len(greys) / 8
    assert len(set(greys)) > 10


def test_border_squeezes_the_slice_and_cuts_nothing_off() -> None:
    framed = 0
    for seed in range(40):
        picture = draw(Augment(border=0.2), seed, RAMP)[:, :, 0]
        row = picture[128].astype(int)
        # Whatever the frame's grey, the ramp is there from end to end, but for half a step of interpolation.
        inside = row[np.flatnonzero(np.abs(np.diff(row) - 1) <= 1)]
        assert inside.min() <= 2
        assert inside.max() >= 252
        framed += not np.array_equal(picture, RAMP[:, :, 0])
    assert 10 < framed < 30


def test_noise_has_the_stated_spread_at_most_and_no_bias() -> None:
    grey = np.full((200, 200, 1), 128, np.uint8)
    spreads = [draw(Augment(noise=6), seed, grey).astype(float).std() for seed in range(40)]
    assert max(spreads) < 6.1
    assert max(spreads) > 4.5
    assert draw(Augment(noise=6), 1, grey).mean() == pytest.approx(128, abs=0.2)


@pytest.mark.parametrize("side", [96, 97])
def test_grain_is_white_or_coarse_and_has_the_stated_spread(side: int) -> None:
    grey = np.full((side, side, 1), 128, np.uint8)
    spreads: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(120):
        field = draw(Augment(grain=12), seed, grey)[:, :, 0].astype(float) - 128
        spread = field.std()
        assert abs(field.mean()) < 5 * 1.6 * spread / (side / 2) + 0.02  # five standard errors of the coarse one
        if spread < 2:  # of which rounding takes its part
            continue
        along = (field[:, 1:] * field[:, :-1]).mean() / spread**2
        # Linear doubling: (.75, .25) and (.25, .75) of the same two, or .75 and .75 of the same one, in turn:
        # the correlation is .375 / .625 or .5625 / .625, on average .75.
        coarse = along > 0.4
        assert along == pytest.approx(0.75 if coarse else 0, abs=0.06)
        spreads[coarse].append(spread)
        if not coarse:
            assert ((field / spread) ** 4).mean() == pytest.approx(3, abs=0.25)  # as Gaussian noise has it
    for found in spreads.values():
        assert len(found) > 30
        assert 10.5 < max(found) < 12.6


def test_coarse_grain_at_the_end_of_its_range_has_just_the_stated_spread() -> None:
    grey = np.full((256, 256, 1), 128, np.uint8)
    assert Augment(grain=12)(grey, Largest()).std() == pytest.approx(12, rel=0.03)  # type: ignore[arg-type]


def test_tone_changes_keep_the_order_of_greys() -> None:
    for seed in range(20):
        tones = Augment(window=0.3, level=0.2, gamma=0.4)
        assert (np.diff(draw(tones, seed, RAMP)[0, :, 0].astype(int)) >= 0).all()


def test_level_moves_all_greys_alike_and_window_turns_them_about_the_middle() -> None:
    moves, slopes = [], []
    for seed in range(60):
        row = draw(Augment(level=0.2), seed, RAMP)[0, :, 0].astype(float)
        moved = (row - np.arange(256))[(row > 0) & (row < 255)]
        assert np.ptp(moved) == 0
        moves.append(moved[0] / 255)
        row = draw(Augment(window=0.3), seed, RAMP)[0, :, 0].astype(float)
        slope = (row[148] - row[108]) / 40
        assert row[127:129].mean() == pytest.approx(127.5, abs=1)
        slopes.append(slope)
    assert -0.205 < min(moves) < -0.15 < 0.15 < max(moves) < 0.205
    assert 0.68 < min(slopes) < 0.8 < 1.2 < max(slopes) < 1.32


def test_inversion_is_255_minus_the_grey() -> None:
    assert np.array_equal(draw(Augment(invert=1)), 255 - IMAGE)
    halves = [np.array_equal(draw(Augment(invert=0.5), seed), 255 - IMAGE) for seed in range(100)]
    assert 35 < sum(halves) < 65
    assert all(np.array_equal(draw(Augment(invert=0.5), seed), IMAGE) for seed in np.flatnonzero(~np.array(halves)))


def test_downsampling_removes_what_a_smaller_picture_cannot_hold() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (96, 96, 1), dtype=np.uint8)
    out = Augment(downsample=0.5)(noise, Largest())  # type: ignore[arg-type]
    before, after = (np.abs(np.fft.fft2(picture[:, :, 0] - 127.5)) ** 2 for picture in (noise, out))
    frequency = np.abs(np.fft.fftfreq(96))
    fastest = np.maximum(frequency[:, np.newaxis], frequency)
    above, low = fastest > 0.25, (fastest < 0.08) & (fastest > 0)  # 0.25 cycles a pixel: Nyquist of 48 px
    assert after[above].sum() < 0.05 * before[above].sum()
    assert 0.7 < after[low].sum() / before[low].sum() < 1.3  # nor is anything folded into what it can
    untouched = sum(np.array_equal(draw(Augment(downsample=0.5), seed, noise), noise) for seed in range(100))
    assert 35 < untouched < 65


def test_jpeg_sees_the_smaller_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, encode = [], cv2.imencode

    def note(ending: str, image: np.ndarray, options: list[int]) -> Any:
        sizes.append((image.shape, options[1]))
        return encode(ending, image, options)

    monkeypatch.setattr(cv2, "imencode", note)
    out = Augment(downsample=0.25, jpeg=40)(IMAGE, Largest())  # type: ignore[arg-type]
    assert sizes == [((72, 72), 40)]
    assert out.shape == IMAGE.shape


def test_markings_are_few_small_and_almost_white_or_black() -> None:
    plain = np.full((224, 224, 1), 120, np.uint8)
    brights = 0
    for seed in range(80):
        changed = draw(Augment(markings=1), seed, plain)
        marked = changed != 120
        assert marked.mean() < 0.03
        strongest = changed[marked].astype(int)
        brights += (strongest > 189).any()
        # Lines are drawn smoothly: what is between the plain grey and a marking's is their edge.
        assert (strongest > 189).any() or (strongest < 60).any() or len(strongest) == 0
    assert brights > 50
    shown = sum(not np.array_equal(draw(Augment(markings=0.3), seed, plain), plain) for seed in range(200))
    assert 40 < shown < 80


@pytest.mark.parametrize("name", ["none", "flips", "travel"])
def test_a_mask_moves_with_its_slice(name: str) -> None:
    """A slice that is its own mask stays its own mask where a policy moves pixels and changes no grey."""
    policy = msgspec.structs.replace(
        POLICIES[name],
        window=0,
        level=0,
        gamma=0,
        blur=0,
        noise=0,
        grain=0,
        markings=0,
        downsample=0,
        jpeg=100,
        border=0,
    )
    disc = np.zeros((64, 64), np.uint8)
    cv2.circle(disc, (24, 28), 9, 255, -1)
    for seed in range(20):
        image, mask = policy.with_mask(disc[:, :, np.newaxis], disc, np.random.default_rng(seed))
        assert mask is not None and np.array_equal(image[:, :, 0], mask)


def test_a_mask_draws_nothing_and_ends_at_the_frame() -> None:
    policy, framed = POLICIES["travel"], 0
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 1), np.uint8)
    for seed in range(20):
        alone = policy(image, np.random.default_rng(seed))
        with_mask, mask = policy.with_mask(image, np.full((96, 96), 255, np.uint8), np.random.default_rng(seed))
        assert mask is not None and np.array_equal(alone, with_mask)
        framed += (mask == 0).mean() > 0.1  # a frame, or what a shift brings in from outside, shows no lesion
    assert 3 < framed < 20
