"""Commands through the command line: what they print, write and exit with."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_ct import cli
from edge_ct.bundle import read_bundle, write_bundle
from edge_ct.manifest import Estimate

from .error_lines import one_error_line


def test_classify_table(slices_folder: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["classify", str(slices_folder), "--model", str(tiny_bundle)]) == 3
    out, err = capfd.readouterr()
    title, *rows = out.splitlines()
    assert title == "decision  P(COVID-19)  slice"
    assert [str(slices_folder / name) in row for name, row in zip(("a-good.png", "b-cut", "c-text"), rows, strict=True)]
    assert [row.split()[0] == "rejected" for row in rows] == [False, True, True]
    assert "truncated" in rows[1]
    (line,) = err.splitlines()
    assert line.startswith("3 slices judged for COVID-19: ")
    assert "2 rejected. " in line


def test_classify_json(slices_folder: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good = str(slices_folder / "a-good.png")
    assert cli.run(["classify", good, str(slices_folder), "--model", str(tiny_bundle), "--json"]) == 3
    out, err = capfd.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [Path(row["source"]).name for row in rows] == ["a-good.png", "a-good.png", "b-cut.png", "c-text.png"]
    assert rows[0]["probability"] == rows[1]["probability"]
    assert [row["probability"] is None for row in rows] == [False, False, True, True]
    assert [row["reason"] for row in rows[2:]] == ["truncated", "not a PNG, JPEG, TIFF or DICOM image"]
    assert "Research use only" in err


def test_classify_of_good_slices_exits_with_0(
    slices_folder: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["classify", str(slices_folder / "a-good.png"), "--model", str(tiny_bundle)]) == 0
    assert "0 rejected" in capfd.readouterr().err


def test_classify_keeps_decoders_off_standard_error(
    tmp_path: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """libpng, libtiff and libjpeg print what they dislike; standard error is for people."""
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8))
    noise.save(tmp_path / "cut.tif")
    noise.save(tmp_path / "short.jpg")
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) // 2])
    content = (tmp_path / "short.jpg").read_bytes()
    (tmp_path / "short.jpg").write_bytes(content[: len(content) // 2] + content[-2:])
    cli.run(["classify", str(tmp_path), "--model", str(tiny_bundle)])
    (line,) = capfd.readouterr().err.splitlines()
    assert "Research use only" in line


def test_heat_maps_are_written_for_judged_slices(
    slices_folder: Path, tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    maps = tmp_path / "maps"
    assert cli.run(["classify", str(slices_folder), "--model", str(tiny_bundle), "--heatmap", str(maps)]) == 3
    assert [path.name[:7] for path in maps.iterdir()] == ["a-good-"]
    capfd.readouterr()


def test_data_check_of_unreadable_files_exits_with_3(
    slices_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for name, label in (("a-good.png", "COVID"), ("b-cut.png", "COVID"), ("a-good.png", "non-COVID")):
        (data / label).mkdir(parents=True, exist_ok=True)
        (data / label / name).write_bytes((slices_folder / name).read_bytes())
    assert cli.run(["data", "check", str(data), "--json"]) == 3
    found = json.loads(capfd.readouterr().out)
    assert found["unreadable"] == [{"path": "COVID/b-cut.png", "reason": "truncated"}]
    assert found["n"] == 2


def test_bundle_inspect_and_verify(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = read_bundle(tiny_bundle).manifest
    assert cli.run(["bundle", "inspect", str(tiny_bundle), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == json.loads(msgspec.json.encode(manifest))
    assert cli.run(["bundle", "inspect", str(tiny_bundle)]) == 0
    assert "Not a medical device" in capfd.readouterr().out
    assert cli.run(["bundle", "verify", str(tiny_bundle)]) == 0
    out, err = capfd.readouterr()
    assert "good (2 golden slices as expected)" in out
    assert err == ""


def test_bundle_inspect_of_undefined_metrics(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The schema has None for a metric that is undefined; `inspect` must print it, not fail on it."""
    tiny = read_bundle(tiny_bundle)
    names = ("accuracy", "sensitivity", "specificity", "precision", "f1", "auc", "ece", "brier")
    metrics = {"int8": {name: Estimate(0.5, 0.4, 0.6) for name in names} | {"auc": Estimate(None, None, None)}}
    path = tmp_path / "b.tflite"
    write_bundle(path, tiny.model, msgspec.structs.replace(tiny.manifest, metrics=metrics, metrics_n=3), {})
    assert cli.run(["bundle", "inspect", str(path)]) == 0
    assert "sensitivity 0.500" in capfd.readouterr().out


def test_damaged_bundle_exits_with_4(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(tiny_bundle.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "damaged.tflite"
    path.write_bytes(content)
    for arguments in (["bundle", "verify", str(path)], ["classify", "x.png", "--model", str(path)]):
        assert cli.run(arguments) == 4
        assert "does not match its SHA-256 seal" in one_error_line(capsys)


def test_missing_extra_exits_with_6(
    tmp_path: Path,
    tiny_bundle: Path,
    write_ct: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.dcm").write_bytes(write_ct(np.zeros((40, 40), np.int16)))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert cli.run(["classify", str(tmp_path / "a.dcm"), "--model", str(tiny_bundle)]) == 6
    assert "pip install 'edge-ct[dicom]'" in one_error_line(capsys)
