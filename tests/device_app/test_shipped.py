"""Bundles that come with the package: which one --model means, and that wheels and sdists hold them."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import cv2
import pytest

from edge_ct import cli
from edge_ct.bundle import read_bundle
from edge_ct.device_app import command_options
from edge_ct.errors import ModelRejected
from edge_ct.phantom import make_slice
from edge_ct.shipped_models import DEFAULT, find_bundle, shipped_models

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "device_app" / "models"


@pytest.fixture
def models(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two shipped bundles."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("accurate", "fast"):
        shutil.copy(tiny_bundle, folder / f"{name}.tflite")
    monkeypatch.setattr("edge_ct.shipped_models._model_folders", lambda: [folder])
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_name_is_a_shipped_bundle_and_a_file_is_itself(models: Path, tmp_path: Path) -> None:
    assert find_bundle("fast") == models / "fast.tflite"
    assert find_bundle("accurate") == find_bundle(None) == models / "accurate.tflite"
    with pytest.raises(ModelRejected, match="no such bundle; shipped models are: accurate, fast"):
        find_bundle("other")
    assert find_bundle("other.tflite") == Path("other.tflite")
    (tmp_path / "fast").mkdir()  # a folder of that name is no bundle
    assert find_bundle("fast") == models / "fast.tflite"
    (tmp_path / "accurate").write_bytes(b"x")
    assert find_bundle("accurate") == Path("accurate")
    (models / "accurate.tflite").unlink()
    assert find_bundle(None) == models / "fast.tflite"


def test_help_says_what_is_shipped(models: Path) -> None:
    assert command_options.model_help().endswith("a shipped one: accurate (the default), fast.")
    for path in models.iterdir():
        path.unlink()
    assert "no bundle is shipped" in command_options.model_help()
    with pytest.raises(ModelRejected, match="no model is shipped with this version"):
        find_bundle(None)


def test_slices_are_judged_without_naming_a_model(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "slice.png"), make_slice(2, 4, True, 128).image)
    assert cli.run(["classify", "slice.png", "--json"]) == 0
    first = capsys.readouterr().out
    assert cli.run(["classify", "slice.png", "--json", "--model", "fast"]) == 0
    assert read_bundle(models / "fast.tflite").identity in first
    assert read_bundle(models / "fast.tflite").identity in capsys.readouterr().out
    assert cli.run(["doctor", "--state", str(tmp_path / "state"), "--json"]) == 0
    assert cli.run(["bundle", "inspect", "fast"]) == 0
    assert cli.run(["classify", "slice.png", "--model", "slow"]) == 4


@pytest.mark.skipif(not MODELS.exists(), reason="no model is shipped with this version yet")
def test_what_is_shipped_is_whole_small_and_passed_its_gate() -> None:
    assert {path.suffix for path in MODELS.iterdir()} == {".tflite", ".md"}
    assert DEFAULT in shipped_models()
    assert shipped_models()[DEFAULT].stat().st_size <= 2_900_000
    for path in shipped_models().values():
        manifest = read_bundle(path).manifest
        assert manifest.gate is not None
        assert manifest.gate.passed
        assert "Research use only" in manifest.intended_use


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_is_shipped(tiny_bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for room in ("edge_ct", "train", "convert", "device_app", "benchmarks", "recipes"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "device_app" / "models").mkdir(exist_ok=True)
    shutil.copy(tiny_bundle, source / "device_app" / "models" / "tiny.tflite")
    expected = {path.name for path in (source / "device_app" / "models").iterdir()}
    code = "from setuptools import build_meta as b; b.build_sdist('..'); b.build_wheel('..')"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    [wheel], [sdist] = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        inside = [name for name in archive.namelist() if "/models/" in name]
        assert archive.read("edge_ct/device_app/models/tiny.tflite") == tiny_bundle.read_bytes()
    with tarfile.open(sdist) as archive:
        packed = [name for name in archive.getnames() if "/device_app/models/" in name]
    assert {Path(name).name for name in inside} == {Path(name).name for name in packed} == expected
