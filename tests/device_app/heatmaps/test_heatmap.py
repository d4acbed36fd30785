"""Heat maps: log-odds that add up, and colour where the evidence is."""

import math
import os
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_ct.classifier import Classifier, Judgement, Milliseconds, Result
from edge_ct.decision import probability
from edge_ct.device_app.heatmaps import evidence as explanation
from edge_ct.device_app.heatmaps import heatmap
from edge_ct.manifest import Calibration
from edge_ct.phantom import make_slice
from edge_ct.runtime import Outputs
from edge_ct.slices import Slice

PLAIN = Calibration(1.0, 0.0, "validation", 40, 40)
MARGIN, LEGEND = 8, 56


def map_of(evidence: np.ndarray) -> np.ndarray:
    """A class map [h, w, 2] whose log-odds under the plain calibration are `evidence`."""
    return np.stack([np.zeros_like(evidence), evidence], axis=2).astype(np.float32)


def judged(pixels: np.ndarray, source: str, evidence: np.ndarray | None = None) -> Judgement:
    class_map = map_of(np.zeros((4, 4)) if evidence is None else evidence)
    logits = class_map.mean((0, 1))
    outputs = Outputs(logits, logits, class_map, np.zeros(8, np.float32))
    result = Result(source, "positive", 0.875, None, None, "model@0", Milliseconds())
    return Judgement(result, Slice(pixels, source), outputs)


def draw(pixels: np.ndarray, class_map: np.ndarray, caption: str) -> np.ndarray:
    return heatmap.draw_heat(pixels, heatmap.Heat(heatmap.calibrated_log_odds(class_map, PLAIN), "class map"), caption)


def write(judgement: Judgement, folder: Path) -> Path | None:
    assert judgement.outputs is not None
    assert judgement.outputs.class_map is not None
    return heatmap.write_heatmap(
        judgement, heatmap.Heat(heatmap.calibrated_log_odds(judgement.outputs.class_map, PLAIN), "class map"), folder
    )


def overlay_of(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The slice and the overlay, cut out of a picture."""
    height, width = picture.shape[0] - LEGEND - 2 * MARGIN, (picture.shape[1] - 3 * MARGIN) // 2
    rows = slice(MARGIN, MARGIN + height)
    return picture[rows, MARGIN : MARGIN + width], picture[rows, 2 * MARGIN + width : 2 * (MARGIN + width)]


def test_evidence_is_calibrated_log_odds_by_hand() -> None:
    class_map = np.array([[[1, 3], [0, 0]], [[2, -2], [0.5, 1]]], np.float32)
    # 1.5 (positive - negative) - 0.25
    expected = [[2.75, -0.25], [-6.25, 0.5]]
    found = heatmap.calibrated_log_odds(class_map, Calibration(1.5, -0.25, "validation", 1, 1))
    assert found == pytest.approx(np.array(expected))
    assert found.dtype == np.float32


def test_mean_evidence_is_the_score_of_the_slice(tiny_bundle: Path) -> None:
    """Of the map's own mean exactly; of the graph's logits, within the quantisation of the two tensors."""
    classifier = Classifier(tiny_bundle)
    calibration, tensors = classifier.manifest.calibration, classifier.manifest.tensors
    _, outputs = classifier.infer(classifier.manifest.preprocess(make_slice(2, 3, True, 64).image))
    mean = float(heatmap.calibrated_log_odds(outputs.class_map, calibration).mean())
    p = probability(outputs.class_map.mean((0, 1)), calibration)
    assert mean == pytest.approx(math.log(p / (1 - p)), abs=1e-4)
    of_logits = probability(outputs.logits, calibration)
    tolerance = 2 * calibration.slope * (tensors.class_map.scale + tensors.logits.scale)
    assert mean == pytest.approx(math.log(of_logits / (1 - of_logits)), abs=tolerance)


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [((512, 512), (512, 512)), ((100, 100), (512, 512)), ((301, 257), (512, 437)), ((119, 534), (114, 512))],
)
def test_picture_is_slice_and_overlay_side_by_side(shape: tuple[int, int], drawn: tuple[int, int]) -> None:
    """The longer side is 512 pixels; the aspect ratio is the slice's."""
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    picture = draw(pixels, map_of(np.zeros((3, 5))), "caption")
    height, width = drawn
    assert picture.shape == (height + LEGEND + 2 * MARGIN, 2 * width + 3 * MARGIN, 3)
    assert picture.dtype == np.uint8
    left, _ = overlay_of(picture)
    assert left.shape == (height, width, 3)
    if shape == (512, 512):
        assert np.array_equal(left, np.repeat(pixels[:, :, None], 3, axis=2))


@pytest.mark.parametrize("shape", [(32, 32), (4096, 32), (32, 4096), (400, 40), (40, 400)])
def test_every_slice_that_is_read_can_be_drawn(shape: tuple[int, int]) -> None:
    """Sides from 32 to 4096 pixels, in any proportion: the legend must not need more room than there is."""
    picture = draw(np.full(shape, 90, np.uint8), map_of(np.zeros((7, 7))), "caption")
    assert picture.ndim == 3
    assert picture.shape[2] == 3


def test_no_evidence_leaves_the_slice_as_it_is() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (512, 512), dtype=np.uint8)
    for value in (0.0, -9.0):
        left, right = overlay_of(draw(pixels, map_of(np.full((7, 7), value)), ""))
        assert np.array_equal(left, right)


def test_a_cell_is_strongest_where_it_looks() -> None:
    evidence = np.full((3, 3), -3, np.float32)
    evidence[1, 1] = heatmap.FULL_SCALE / 2
    _, cover = heatmap.colour_heat(heatmap.Heat(evidence, "class map", (0.3, 0.4, 0.9)), 200, 100)
    assert np.argwhere(cover == cover.max()).mean(0) == pytest.approx((39.5, 79.5), abs=1)


@pytest.mark.parametrize(("row", "column"), [(1, 2), (5, 0), (0, 6), (6, 6)])
@pytest.mark.parametrize("shape", [(512, 512), (300, 400)])
def test_hot_cell_shows_at_its_place_and_nowhere_else(shape: tuple[int, int], row: int, column: int) -> None:
    evidence = np.full((7, 7), -3.0)
    evidence[row, column] = heatmap.FULL_SCALE
    pixels = np.full(shape, 100, np.uint8)
    left, right = overlay_of(draw(pixels, map_of(evidence), ""))
    changed = (left != right).any(axis=2)
    height, width = changed.shape
    tall, wide = height / 7, width / 7
    assert changed[int((row + 0.5) * tall), int((column + 0.5) * wide)]
    rows, columns = np.nonzero(changed)
    # Bilinear interpolation carries a cell's value no further than to the centres of its neighbours.
    assert rows.min() >= (row - 0.5) * tall - 1
    assert rows.max() <= (row + 1.5) * tall + 1
    assert columns.min() >= (column - 0.5) * wide - 1
    assert columns.max() <= (column + 1.5) * wide + 1
    strongest = np.unravel_index(np.abs(left.astype(int) - right).sum(2).argmax(), changed.shape)
    assert row * tall <= strongest[0] + 1
    assert strongest[0] <= (row + 1) * tall
    assert column * wide <= strongest[1] + 1
    assert strongest[1] <= (column + 1) * wide


def test_full_evidence_has_the_end_of_the_colour_map() -> None:
    """65 % of civil yellow over black; OpenCV's own table says which."""
    (end,) = cv2.applyColorMap(np.array([[255]], np.uint8), cv2.COLORMAP_CIVIDIS)[0]
    for evidence in (heatmap.FULL_SCALE, 100.0):
        _, right = overlay_of(draw(np.zeros((64, 64), np.uint8), map_of(np.full((2, 2), evidence)), ""))
        assert np.abs(right[256, 256] - 0.65 * end).max() <= 1


def test_scale_is_the_same_for_every_slice() -> None:
    """Half the full scale looks the same whether something stronger is in the picture or not."""
    weak, mixed = np.full((8, 8), heatmap.FULL_SCALE / 2), np.full((8, 8), heatmap.FULL_SCALE / 2)
    mixed[:, 4:] = heatmap.FULL_SCALE
    pixels = np.full((64, 64), 50, np.uint8)
    first, second = (overlay_of(draw(pixels, map_of(own), ""))[1] for own in (weak, mixed))
    assert np.array_equal(first[:, :200], second[:, :200])
    assert not np.array_equal(first[:, 300:], second[:, 300:])


def test_caption_and_legend_are_drawn_below_the_pictures() -> None:
    pixels = np.full((64, 64), 50, np.uint8)
    without, with_text = (draw(pixels, map_of(np.zeros((2, 2))), text) for text in ("", "positive"))
    changed = np.nonzero((without != with_text).any(axis=(1, 2)))[0]
    assert changed.min() >= 512 + 2 * MARGIN
    assert (without[512 + 2 * MARGIN :] != 255).any()


def test_drawing_does_not_change_the_slice() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64), dtype=np.uint8)
    before = pixels.copy()
    draw(pixels, map_of(np.full((2, 2), 5.0)), "")
    assert np.array_equal(pixels, before)


def test_file_is_named_after_the_slice_and_its_pixels(tmp_path: Path) -> None:
    judgement = judged(np.full((64, 64), 9, np.uint8), "/somewhere/IM-0001.dcm")
    path = write(judgement, tmp_path / "deep" / "maps")
    assert judgement.slice is not None
    assert path == tmp_path / "deep" / "maps" / f"IM-0001-{judgement.slice.sha256[:8]}.png"
    with Image.open(path) as image:
        assert image.size == (2 * 512 + 3 * MARGIN, 512 + LEGEND + 2 * MARGIN)
        assert np.array_equal(np.asarray(image)[:, :, ::-1], written_picture(judgement))


def written_picture(judgement: Judgement) -> np.ndarray:
    assert judgement.slice is not None
    assert judgement.outputs is not None
    caption = "positive, P(COVID-19) = 0.88. Research use only."
    return draw(judgement.slice.pixels, judgement.outputs.class_map, caption)


def test_equal_names_of_different_slices_do_not_collide(tmp_path: Path) -> None:
    paths = {
        write(judged(np.full((64, 64), value, np.uint8), f"{folder}/slice.png"), tmp_path)
        for folder, value in (("a", 1), ("b", 2))
    }
    assert len(paths) == len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("source", "start"),
    [
        ("<stdin>", "stdin-"),
        ("<bytes>", "bytes-"),
        (".png", "png-"),
        ("a.b.png", "a.b-"),
        ("x/..", "slice-"),
        ("1.2.840.113", "1.2.840"),
        ("Größe 1.png", "Größe 1-"),
    ],
)
def test_names_of_odd_sources(tmp_path: Path, source: str, start: str) -> None:
    path = write(judged(np.full((64, 64), 9, np.uint8), source), tmp_path)
    assert path is not None
    assert path.parent == tmp_path
    assert path.name.startswith(start)
    assert path.is_file()


def test_slice_with_a_long_name_gets_its_picture(tmp_path: Path) -> None:
    """A name of 255 bytes is a good one; there is no room for eight digits more, so something must go."""
    path = write(judged(np.full((64, 64), 9, np.uint8), "n" * 251 + ".png"), tmp_path)
    assert path is not None
    assert [own.name for own in tmp_path.iterdir()] == [path.name]
    assert len(os.fsencode(path.name)) <= 255


def test_rejected_slice_writes_nothing(tmp_path: Path) -> None:
    rejected = Judgement(Result("a.png", "rejected", None, "truncated", None, "model@0", Milliseconds()))
    heat = heatmap.Heat(np.zeros((2, 2), np.float32), "class map")
    assert heatmap.write_heatmap(rejected, heat, tmp_path / "maps") is None
    assert list(tmp_path.iterdir()) == []


def test_picture_of_a_real_judgement(tiny_bundle: Path, tmp_path: Path) -> None:
    classifier = Classifier(tiny_bundle)
    source = tmp_path / "phantom.png"
    Image.fromarray(make_slice(4, 4, True, 128).image).save(source)
    judgement = classifier.judge(source)
    path = heatmap.write_heatmap(judgement, explanation.heat_of(judgement, classifier), tmp_path / "maps")
    assert path is not None
    assert judgement.slice is not None
    assert path.name == f"phantom-{judgement.slice.sha256[:8]}.png"
    again = heatmap.write_heatmap(judgement, explanation.heat_of(judgement, classifier), tmp_path / "maps")
    assert again == path
    assert len(list((tmp_path / "maps").iterdir())) == 1
    assert msgspec.json.encode(judgement.result)
