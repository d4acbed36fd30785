"""Occlusion: the evidence is where the network looks, by a network whose answer is known."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge_ct import cli
from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.heatmaps import evidence, heatmap
from edge_ct.manifest import Calibration
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.slices import Slice


class Bright:
    """As a `Classifier` whose log-odds are the mean brightness of one quarter of the slice, over 10."""

    def __init__(self, size: int = 64, calibration: Calibration | None = None) -> None:
        self.manifest: Any = SimpleNamespace(
            preprocess=Preprocess(size), calibration=calibration or Calibration(1.0, 0.0, "validation", 1, 1)
        )
        self.calls = 0

    def infer(self, image: np.ndarray) -> tuple[float, Any]:
        self.calls += 1
        half = image.shape[0] // 2
        score = float(image[:half, half:, 0].astype(float).mean()) / 10
        return 0.5, SimpleNamespace(logits=np.array([0, score]), class_map=None, lesion_map=None)


def spot(row: int, column: int, side: int = 64) -> np.ndarray:
    """A dark slice with one bright patch of an eighth of its side."""
    pixels = np.full((side, side), 20, np.uint8)
    step = side // 8
    pixels[row * step : (row + 1) * step, column * step : (column + 1) * step] = 240
    return pixels


@pytest.mark.parametrize(("row", "column"), [(0, 7), (3, 4), (1, 5)])
def test_evidence_is_where_the_network_looks(row: int, column: int) -> None:
    found = evidence.occlusion_heat(Bright(), spot(row, column), budget=60)  # type: ignore[arg-type]
    cells = found.evidence.shape[0]
    assert (found.method, found.evidence.shape) == ("occlusion", (16, 16))
    strongest = np.unravel_index(found.evidence.argmax(), found.evidence.shape)
    assert tuple(int(place) * 8 // cells for place in strongest) == (row, column)


def test_evidence_by_hand() -> None:
    """One patch 220 above the rest, whose blurred self is known from a box of 17: its share of the quarter is lost."""
    pixels = spot(1, 6)
    bright = Bright()
    found = evidence.occlusion_heat(bright, pixels, budget=0)  # type: ignore[arg-type]
    assert found.evidence.shape == (4, 4)
    assert bright.calls == 17  # the slice itself, and each patch
    box = np.pad(pixels.astype(float), 8, mode="reflect")
    blurred = np.rint([[box[y : y + 17, x : x + 17].mean() for x in range(64)] for y in range(64)])
    lost = (pixels[0:16, 48:64] - blurred[0:16, 48:64]).sum() / (32 * 32) / 10
    assert found.evidence[0, 3] == pytest.approx(16 * lost, abs=0.05)
    assert found.evidence[2:, :].tolist() == np.zeros((2, 4)).tolist()  # the network does not look there


def test_where_the_network_does_not_look_there_is_no_evidence() -> None:
    found = evidence.occlusion_heat(Bright(), spot(6, 1), budget=60)  # type: ignore[arg-type]
    assert np.abs(found.evidence).max() == 0


@pytest.mark.parametrize(("once", "cells"), [(1.0, 4), (0.01, 12), (0.0001, 16), (0.04, 6)])
def test_grid_is_the_finest_that_the_budget_allows(monkeypatch: pytest.MonkeyPatch, once: float, cells: int) -> None:
    """Two seconds; an inference takes `once`, by a clock that says so."""
    ticks = iter([0.0, once])
    monkeypatch.setattr("edge_ct.network_analysis.occlusion.perf_counter", lambda: next(ticks))
    assert evidence.occlusion_heat(Bright(), spot(0, 0), 2.0).evidence.shape == (cells, cells)  # type: ignore[arg-type]


def test_class_map_is_taken_where_there_is_one(tiny_classifier: Classifier, judged: Any) -> None:
    judgement = judged(3)
    found = evidence.heat_of(judgement, tiny_classifier)
    assert found is not None
    assert judgement.outputs is not None
    assert found.method == "class map"
    assert np.array_equal(
        found.evidence, heatmap.calibrated_log_odds(judgement.outputs.class_map, tiny_classifier.manifest.calibration)
    )


def test_occlusion_of_a_real_network_adds_up_in_sign(tiny_classifier: Classifier) -> None:
    found = evidence.occlusion_heat(tiny_classifier, spot(2, 5, 128), budget=0.0)
    assert found.evidence.shape == (4, 4)
    assert math.isfinite(float(found.evidence.sum()))


def test_network_without_a_class_map_gets_a_picture(tiny_classifier: Classifier, judged: Any, tmp_path: Path) -> None:
    whole = judged(3)
    outputs: Any = SimpleNamespace(logits=whole.outputs.logits, class_map=None, lesion_map=None)
    judgement = Judgement(whole.result, whole.slice, outputs)
    heat = evidence.heat_of(judgement, tiny_classifier, budget=0.0)
    assert heat is not None
    assert heat.method == "occlusion"
    assert heatmap.write_heatmap(judgement, None, tmp_path) is None
    assert heatmap.write_heatmap(judgement, heat, tmp_path) is not None
    by_map = heatmap.draw_heat(whole.slice.pixels, heatmap.Heat(heat.evidence, "class map"), "")
    by_occlusion = heatmap.draw_heat(whole.slice.pixels, heat, "")
    differ = np.nonzero((by_map != by_occlusion).any(axis=(1, 2)))[0]
    assert differ.min() > 512  # the legend alone, which says how it was made


def test_rejected_slices_are_not_explained(tiny_classifier: Classifier, judged: Any, unreadable: Any) -> None:
    assert evidence.heat_of(judged(1, "rejected", None), tiny_classifier) is None
    assert evidence.heat_of(unreadable(), tiny_classifier) is None
    assert isinstance(judged(1).slice, Slice)


def test_maps_as_numbers(tiny_bundle: Path, tiny_classifier: Classifier, tmp_path: Path) -> None:
    """Those of the slices that were judged, in order; what cannot be read has none."""
    files = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        assert cv2.imwrite(str(path), make_slice(number, 3, number == 1, 96).image)
        files.append(path)
    (tmp_path / "1.png").write_bytes(b"no picture")
    out = tmp_path / "maps.npz"
    words = ["classify", *map(str, files), "--model", str(tiny_bundle), "--maps", str(out), "--json"]
    assert cli.run(words) == 3
    judged = [tiny_classifier.judge(path) for path in (files[0], files[2])]
    with np.load(out) as maps:
        assert maps["sources"].tolist() == [str(files[0]), str(files[2])]
        assert maps["methods"].tolist() == ["class map", "class map"]
        assert sorted(maps.files) == ["0", "1", "methods", "sources"]
        for number, one in enumerate(judged):
            assert one.outputs is not None
            calibration = tiny_classifier.manifest.calibration
            assert np.array_equal(maps[str(number)], heatmap.calibrated_log_odds(one.outputs.class_map, calibration))
            assert one.result.probability is not None
            assert 1 / (1 + np.exp(-maps[str(number)].mean())) == pytest.approx(one.result.probability, abs=0.02)


def test_map_of_a_cropped_slice_lies_where_the_network_looked() -> None:
    from edge_ct.imaging.lung_box import Box
    from edge_ct.network_analysis.receptive_field import centres_in_slice, enlarge_map

    lesion_map = np.full((4, 4), -6, np.float32)
    lesion_map[0, 3] = 6  # the upper right quarter of a quarter of the part
    region = Box(50, 90, 20, 100)
    heat = heatmap.Heat(lesion_map, "lesion map", centres_in_slice(None, (4, 4), region, (100, 200)))
    shown = enlarge_map(heat.evidence, 100, 200, heat.centres)
    assert np.unravel_index(shown.argmax(), shown.shape) == pytest.approx((55, 90), abs=1)
    assert centres_in_slice(None, (4, 4), Box(0, 100, 0, 200), (100, 200)) is None
    assert centres_in_slice((0.1, 0.9, 0.2, 0.8), (2, 2), Box(0, 50, 100, 200), (100, 200)) == pytest.approx(
        (0.05, 0.45, 0.6, 0.9)
    )
