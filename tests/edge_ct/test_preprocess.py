"""Preprocessing: exact integers, checked against naive arithmetic and frozen checksums."""

import hashlib
import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ct.imaging.exact_resize import block_mean, resize_exact
from edge_ct.preprocess import Preprocess


def pattern(height: int, width: int) -> np.ndarray:
    """(7 x + 13 y) mod 256: integers alone, the same on every machine."""
    return ((7 * np.arange(width)[np.newaxis] + 13 * np.arange(height)[:, np.newaxis]) % 256).astype(np.uint8)


def naive_block_mean(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Pixel by pixel in floats: indices past the edge read the edge; sums of bytes are exact in a double."""
    height, width = pixels.shape
    result = np.empty((-(-height // rows), -(-width // columns)))
    for y, x in itertools.product(range(result.shape[0]), range(result.shape[1])):
        block = [
            float(pixels[min(y * rows + j, height - 1), min(x * columns + i, width - 1)])
            for j, i in itertools.product(range(rows), range(columns))
        ]
        result[y, x] = np.floor(sum(block) / len(block) + 0.5)
    return result


@given(st.integers(1, 21), st.integers(1, 21), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]), st.data())
@settings(max_examples=150, deadline=None)
def test_block_mean_is_the_naive_mean(height: int, width: int, rows: int, columns: int, data: st.DataObject) -> None:
    content = data.draw(st.binary(min_size=height * width, max_size=height * width))
    pixels = np.frombuffer(content, np.uint8).reshape(height, width)
    mean = block_mean(pixels, rows, columns)
    assert mean.dtype == np.uint8
    assert np.array_equal(mean, naive_block_mean(pixels, rows, columns))


def test_blocks_of_two_by_two_are_right_for_every_sum() -> None:
    """OpenCV computes these: each sum of four bytes, as unevenly spread as it can be and evenly, at any place."""
    blocks = [[min(max(total - 255 * k, 0), 255) for k in range(4)] for total in range(1021)]
    blocks += [[(total + k) // 4 for k in range(4)] for total in range(1021)]
    pixels = np.array(blocks, np.uint8).reshape(-1, 2, 2).transpose(1, 0, 2).reshape(2, -1)
    expected = [(sum(block) + 2) // 4 for block in blocks]
    assert block_mean(pixels, 2, 2).tolist() == [expected]
    assert block_mean(np.ascontiguousarray(pixels.T), 2, 2).ravel().tolist() == expected


def test_block_mean_by_hand() -> None:
    # 1 + 2 + 3 + 4 = 10, a mean of 2.5 and so 3; then 1.25 and so 1; 255 repeated at the edge stays 255.
    pixels = np.array([[1, 2, 0, 1, 255], [3, 4, 2, 2, 255], [9, 9, 9, 10, 255]], np.uint8)
    assert block_mean(pixels, 2, 2).tolist() == [[3, 1, 255], [9, 10, 255]]
    assert block_mean(pixels, 1, 2).tolist() == [[2, 1, 255], [4, 2, 255], [9, 10, 255]]


@pytest.mark.parametrize("factor", [2, 4, 16, 32, 64, 128])
def test_block_mean_of_the_brightest_image_does_not_overflow(factor: int) -> None:
    white = np.full((factor, 2 * factor), 255, np.uint8)
    assert block_mean(white, factor, factor).tolist() == [[255, 255]]
    white[0, 0] = 0
    assert block_mean(white, factor, factor)[0, 1] == 255


def test_block_mean_of_one_returns_the_image() -> None:
    pixels = pattern(5, 7)
    assert np.array_equal(block_mean(pixels, 1, 1), pixels)


@pytest.mark.parametrize("size", [32, 95, 224])
@pytest.mark.parametrize("shape", [(32, 32), (33, 257), (512, 512), (301, 257), (119, 534), (447, 448), (449, 1000)])
def test_output_is_a_square_of_bytes(shape: tuple[int, int], size: int) -> None:
    pixels = pattern(*shape)
    before = pixels.copy()
    prepared = Preprocess(size)(pixels)
    assert prepared.shape == (size, size, 1)
    assert prepared.dtype == np.uint8
    assert np.array_equal(pixels, before)


def test_image_of_the_right_size_is_unchanged() -> None:
    pixels = pattern(224, 224)
    assert np.array_equal(Preprocess(224)(pixels)[:, :, 0], pixels)


@pytest.mark.parametrize("factor", [2, 4])
def test_multiple_of_the_size_is_a_block_mean_alone(factor: int) -> None:
    pixels = pattern(32 * factor, 32 * factor)
    assert np.array_equal(Preprocess(32)(pixels)[:, :, 0], naive_block_mean(pixels, factor, factor))


def test_512_to_224_by_hand() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (512, 512), dtype=np.uint8)
    quarters = pixels.reshape(256, 2, 256, 2).astype(int).sum((1, 3))
    halved = ((quarters + 2) // 4).astype(np.uint8)
    expected = cv2.resize(halved, (224, 224), interpolation=cv2.INTER_LINEAR_EXACT)
    assert np.array_equal(Preprocess(224)(pixels)[:, :, 0], expected)


def test_sides_are_halved_independently() -> None:
    """447 is less than twice 224: that side is left to the interpolation; 448 is halved."""
    pixels = pattern(447, 448)
    halved = ((pixels[:, ::2].astype(int) + pixels[:, 1::2] + 1) // 2).astype(np.uint8)
    expected = cv2.resize(halved, (224, 224), interpolation=cv2.INTER_LINEAR_EXACT)
    assert np.array_equal(Preprocess(224)(pixels)[:, :, 0], expected)


def test_resize_exact_takes_height_before_width() -> None:
    assert resize_exact(pattern(100, 200), 30, 50).shape == (30, 50)


@pytest.mark.parametrize("shape", [(512, 512), (301, 257), (119, 534), (60, 900)])
def test_interpolation_stays_within_one_level_of_bilinear(shape: tuple[int, int]) -> None:
    """Pixel centres at half integers, edges clamped, in doubles; each of the two steps rounds to half a level."""
    pixels = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    rows, columns = (max(2**k for k in range(12) if 2**k == 1 or side >= 2**k * 224) for side in shape)
    small = naive_block_mean(pixels, rows, columns)

    def taps(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = (np.arange(224) + 0.5) * side / 224 - 0.5
        low = np.floor(at)
        return np.clip(low, 0, side - 1).astype(int), np.clip(low + 1, 0, side - 1).astype(int), at - low

    top, bottom, down = taps(small.shape[0])
    left, right, across = taps(small.shape[1])
    upper = small[top][:, left] * (1 - across) + small[top][:, right] * across
    lower = small[bottom][:, left] * (1 - across) + small[bottom][:, right] * across
    expected = upper * (1 - down[:, np.newaxis]) + lower * down[:, np.newaxis]
    assert np.abs(Preprocess(224)(pixels)[:, :, 0] - expected).max() <= 1


@pytest.mark.parametrize("value", [0, 1, 127, 128, 254, 255])
@pytest.mark.parametrize("shape", [(40, 40), (512, 512), (301, 257), (119, 1534)])
def test_constant_image_stays_constant(value: int, shape: tuple[int, int]) -> None:
    assert np.unique(Preprocess(224)(np.full(shape, value, np.uint8))).tolist() == [value]


@pytest.mark.parametrize(
    ("shape", "checksum"),
    [
        ((512, 512), "49d5e0572a963fc6f0b4cea11e4329f12c81ba2e26618081dfbe610f88ec3fc2"),
        ((301, 257), "e903d3774b53fbba49bb2d0e442b87275eb410ccec6eaf5d06e19d1c784fc441"),
        ((119, 534), "35a3d314bd6c94cfae6a8938b391ea6ed3e8c432ba213cbb44b4d3319f126eb2"),
        ((2048, 1000), "90cc422f3f194cc824f55964d22d957a0a96d911d16175d98859a415827e2bce"),
        ((32, 32), "361787ec4dcff3c91b6fa844e89eb86efa067e18b271b323b997370fe6d3286e"),
    ],
)
def test_bytes_are_the_same_on_every_machine(shape: tuple[int, int], checksum: str) -> None:
    """Frozen on x86-64 with OpenCV 5.0. Another value means that this machine's bundles judge other pixels."""
    assert hashlib.sha256(Preprocess(224)(pattern(*shape)).tobytes()).hexdigest() == checksum


def test_normalise_is_the_input_quantisation() -> None:
    levels = np.arange(256, dtype=np.uint8)
    normalised = Preprocess(224).normalise(levels)
    assert normalised.dtype == np.float32
    assert np.abs(normalised - (levels.astype(np.float64) - 128) / 127.5).max() < 1e-6
    assert (normalised[0], normalised[128]) == (np.float32(-128 / 127.5), 0)
    assert normalised[255] == pytest.approx(127 / 127.5)


def test_normalise_keeps_the_shape() -> None:
    images = np.zeros((3, 32, 32, 1), np.uint8)
    assert Preprocess(32).normalise(images).shape == images.shape


def test_preprocessing_is_a_value() -> None:
    assert Preprocess(224) == Preprocess(224, "box-linear-exact", 1 / 127.5, 128)
    assert Preprocess(224) != Preprocess(96)
    with pytest.raises(AttributeError):
        Preprocess(224).size = 96  # type: ignore[misc]
