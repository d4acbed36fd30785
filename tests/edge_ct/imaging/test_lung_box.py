from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edge_ct.imaging import lungs
from edge_ct.imaging.lung_box import Box, find_lung_fields
from edge_ct.phantom import make_patients, make_slice
from edge_ct.preprocess import Preprocess

ABDOMEN = np.where(np.add.outer(*2 * [(np.arange(256) - 128) ** 2]) < 100**2, 200, 3).astype(np.uint8)


def find_lung_box(pixels: np.ndarray) -> Box | None:
    lungs = find_lung_fields(pixels)
    return lungs and lungs.box


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    height = max(0, min(one.bottom, other.bottom) - max(one.top, other.top))
    width = max(0, min(one.right, other.right) - max(one.left, other.left))
    areas = [(box.bottom - box.top) * (box.right - box.left) for box in (one, other)]
    return height * width / (sum(areas) - height * width)


def around(mask: np.ndarray) -> Box:
    rows, columns = np.nonzero(mask)
    return Box(int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)


@pytest.mark.parametrize("size", [224, 320, 512])
def test_box_is_around_the_lungs_of_phantoms(size: int) -> None:
    overlaps = []
    for phantom in make_patients(8, 4, size, seed=3):
        box = find_lung_box(phantom.image)
        assert box is not None
        overlaps.append(overlap(box, around(phantom.lungs)))
    assert np.median(overlaps) > 0.93
    assert np.mean(np.array(overlaps) > 0.8) > 0.9


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_frame_is_not_lung(grey: int) -> None:
    phantom = make_slice(1, 3, False, 320)
    framed = cv2.copyMakeBorder(phantom.image, 30, 50, 40, 20, cv2.BORDER_CONSTANT, value=grey)
    inside = around(phantom.lungs)
    expected = Box(inside.top + 30, inside.bottom + 30, inside.left + 40, inside.right + 40)
    box = find_lung_box(framed)
    assert box is not None and overlap(box, expected) > 0.9


def test_box_of_a_slice_cropped_into_the_lungs_keeps_both() -> None:
    phantom = make_slice(1, 4, False, 400)
    inside = around(phantom.lungs)
    cropped = Box(inside.top + 20, inside.bottom - 20, inside.left + 20, inside.right - 20).cut(phantom.image)
    box = find_lung_box(cropped)
    assert box is not None
    assert overlap(box, Box(0, cropped.shape[0], 0, cropped.shape[1])) > 0.85


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((64, 80), np.uint8),
        np.full((1, 1), 200, np.uint8),
        np.full((300, 200), 255, np.uint8),
        ABDOMEN,
    ],
    ids=["black", "one-pixel", "white", "abdomen"],
)
def test_no_box_without_lungs(pixels: np.ndarray) -> None:
    assert find_lung_box(pixels) is None


def test_box_of_shapes_by_hand() -> None:
    # Two dark rectangles in a bright square of four times the copy's side: edges lie on the copy's pixels.
    pixels = np.full((384, 384), 200, np.uint8)
    pixels[80:320, 40:160] = pixels[120:280, 240:344] = 60
    assert find_lung_box(pixels) == Box(80, 320, 40, 344)
    assert Box(80, 320, 40, 344).grown(6, 384, 384) == Box(62, 338, 22, 362)  # 6 % of 304, rounded down, is 18
    assert Box(80, 320, 40, 344).grown(20, 384, 350) == Box(20, 380, 0, 350)


def test_same_boxes_on_every_machine() -> None:
    """The shapes need no smoothing, which may differ between machines: circles and noise in integers."""
    boxes, state = [], 1
    for number in range(20):
        pixels = np.full((300 + 7 * number, 340), 180, np.uint8)
        for _ in range(12):
            state = state * 1103515245 + 12345 & 0x7FFFFFFF
            x, y, radius = state % 340, state // 340 % 300, 20 + state // 102000 % 60
            rows, columns = np.ogrid[: pixels.shape[0], :340]
            pixels[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 40 + state // 7 % 90
        boxes.append(find_lung_box(pixels))
    assert sum(box is not None for box in boxes) > 10
    digest = hashlib.sha256(repr([box and tuple(box) for box in boxes]).encode()).hexdigest()
    assert digest[:16] == "46a410bbe76ba636"


def test_preprocess_crops_slice_and_mask_alike() -> None:
    phantom, preprocess = make_slice(1, 3, True, 320), Preprocess(224, crop="lungs")
    region = preprocess.region(phantom.image)
    assert overlap(region, around(phantom.lungs).grown(6, 320, 320)) > 0.9
    image, mask = preprocess(phantom.image), preprocess.resized(phantom.lesion.astype(np.uint8) * 255, region)
    assert image.shape == mask.shape == (224, 224, 1)
    assert np.array_equal(image, Preprocess(224)(np.ascontiguousarray(region.cut(phantom.image))))
    share = (mask > 127).mean() * (region.bottom - region.top) * (region.right - region.left)
    assert share == pytest.approx(phantom.lesion.sum(), rel=0.03)
    # A slice without lungs is not cropped.
    assert preprocess.region(ABDOMEN) == Box(0, 256, 0, 256)
    assert Preprocess(224).region(phantom.image) == Box(0, 320, 0, 320)


def test_preprocess_of_old_bundles_does_not_crop() -> None:
    stored = b'{"size":224,"resize":"box-linear-exact","scale":0.00784313725490196,"zero_point":128}'
    assert msgspec.json.decode(stored, type=Preprocess) == Preprocess(224)
    assert Preprocess(224).crop == "none"


@pytest.mark.skipif("EDGE_CT_DATA" not in os.environ, reason="EDGE_CT_DATA does not point to the real slices")
def test_box_agrees_with_the_outline_of_real_lungs() -> None:
    overlaps = []
    for label in ("COVID", "non-COVID"):
        for path in sorted((Path(os.environ["EDGE_CT_DATA"]) / "sars-cov-2-ct" / label).iterdir())[::50]:
            pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            found, box = lungs.segment(pixels), find_lung_box(pixels)
            if found.shows_lung:
                assert box is not None
                overlaps.append(overlap(box.grown(6, *pixels.shape), around(found.mask).grown(6, *pixels.shape)))
    assert np.median(overlaps) > 0.97
    assert np.mean(np.array(overlaps) > 0.8) > 0.9


def test_small_mask_is_of_the_lungs() -> None:
    shares = []
    for phantom in make_patients(6, 3, 288, seed=4):
        lungs_found = find_lung_fields(phantom.image)
        assert lungs_found is not None
        healthy = phantom.lungs & ~phantom.lesion
        small = cv2.resize(lungs_found.mask, (288, 288), interpolation=cv2.INTER_NEAREST) > 0
        shares.append(((small & phantom.lungs).sum() / small.sum(), (small & healthy).sum() / healthy.sum()))
    assert np.min(shares) > 0.7 and np.median(shares, 0).min() > 0.9
