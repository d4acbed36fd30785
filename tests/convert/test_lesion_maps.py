"""Conversion of networks with a lesion map, and calibration on folds."""

from __future__ import annotations

from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest

from edge_ct.convert import gate
from edge_ct.convert.calibrate import fit_calibration, fuse_lesions
from edge_ct.convert.cross_fit import read_lesion_evidence
from edge_ct.convert.networks import to_deployed_form
from edge_ct.convert.options import FileFormat
from edge_ct.convert.quantise.keras_to_tflite import to_flatbuffer
from edge_ct.errors import DataRejected
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.runtime import Runtime, read_tensors
from edge_ct.train.zoo.builder import build
from edge_ct.train.zoo.lesion_decoder import add_lesion_map


def test_int8_file_has_a_lesion_map_beside_what_it_had() -> None:
    keras.utils.set_random_seed(3)
    model = to_deployed_form(add_lesion_map(keras, build(keras, "mobilenetv2", 64, 0.35)))
    assert to_deployed_form(model) is model and len(model.outputs) == 4
    preprocess = Preprocess(64)
    images = np.stack([preprocess(make_slice(i, 3, i % 2 == 0, 96).image) for i in range(12)])
    flatbuffer = to_flatbuffer(model, preprocess, FileFormat("int8"), images)
    tensors = read_tensors(flatbuffer)
    assert tensors.lesion_map is not None and tensors.lesion_map.shape == (1, 8, 8, 1)
    assert tensors.lesion_map.dtype == "int8" and tensors.class_map is not None
    runtime = Runtime(flatbuffer, tensors)
    for image in images[:3]:
        runtime.invoke(image)
        lesion_map = runtime.outputs().lesion_map
        expected = np.asarray(model(preprocess.normalise(image[np.newaxis]), training=False)[3])[0, :, :, 0]
        assert lesion_map is not None and lesion_map.shape == (8, 8)
        assert np.abs(lesion_map - expected).max() < 0.1 * max(1, np.ptp(expected))


def test_lesions_join_the_decision_where_they_help() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 300)
    differences, lesions = generator.normal(labels * 1.5), generator.normal(labels * 2.0)
    plain = fit_calibration(differences, labels, "validation")
    fused = fuse_lesions(plain, differences, lesions, labels)
    # Two independent normal features of unit variance: the factors are the differences of their means.
    assert fused.slope == pytest.approx(1.5, abs=0.4) and fused.lesion_slope == pytest.approx(2.0, abs=0.4)
    assert fuse_lesions(plain, differences, generator.normal(size=600), labels) == plain
    assert fuse_lesions(plain, differences, -lesions, labels) == plain


def test_gate_fails_where_lesions_are_elsewhere() -> None:
    labels, p = np.repeat([0, 1], 20), np.repeat([0.1, 0.9], 20)
    report = gate.compare_with_fp32(labels, p, p, gate.GateRule(), "validation")
    maps = np.full((40, 8, 8), -4.0, np.float32)
    maps[:, :2, :4] = 4  # 320 cells
    same = gate.with_lesion_maps(report, maps, maps)
    assert same.passed and same.lesion_maps == gate.LesionMapAgreement(1.0, 0.0, 320)
    moved = gate.with_lesion_maps(report, maps, np.roll(maps, 1, axis=1))
    assert not moved.passed and "Dice of 0.500" in str(moved.reason)
    few = gate.with_lesion_maps(report, maps[:10], np.roll(maps[:10], 1, axis=1))
    assert few.passed and few.lesion_maps is not None and few.lesion_maps.cells == 120
    assert msgspec.json.encode(few)


def test_evidence_of_lesion_maps(tmp_path: Path) -> None:
    table = tmp_path / "lesions.csv"
    table.write_text("group,slices,dice,pointing_game,share_error\na,3,0.5,1,0.1\nall,3,0.6,0.95,0.05\n")
    evidence = read_lesion_evidence(table)
    assert (evidence.patients, evidence.slices, evidence.dice, evidence.share_error) == (1, 3, 0.6, 0.05)
    table.write_text("group,slices\na,3\n")
    with pytest.raises(DataRejected, match="not a table of lesion maps"):
        read_lesion_evidence(table)
