"""The device's own environment: a fresh one with `pip install .` alone, and what it can and cannot do there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ct.phantom import make_slice

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ("tensorflow", "keras", "tf_keras", "sklearn", "statsmodels", "pandas", "matplotlib", "scipy")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    """The bin folder of a virtual environment with the base dependencies, as locked, and a wheel of this checkout.

    Where no model is shipped yet, the wheel has the tests' in its place.
    """
    folder = tmp_path_factory.mktemp("device")
    source = folder / "source"
    rooms = ("edge_ct", "train", "convert", "device_app", "benchmarks", "recipes")
    ignored = shutil.ignore_patterns("__pycache__", "results")
    for room in rooms:
        shutil.copytree(ROOT / room, source / room, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    models = source / "device_app" / "models"
    if not models.exists():
        models.mkdir()
        shutil.copy(tiny_bundle, models / "accurate.tflite")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", ROOT / "requirements" / "device.lock"], check=True)
    subprocess.run([*pip, "--no-deps", source], check=True)
    return python.parent


def classify(device: Path, *arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [device / "edge-ct", "classify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, cwd=device, check=False, **options)


def test_no_training_library_is_installed_or_imported(device: Path) -> None:
    code = (
        "import sys, importlib.util as u, edge_ct.device_app, edge_ct.device_app.classify.commands, "
        f"edge_ct.device_app.judging.judge, edge_ct.device_app.heatmaps.heatmap; names = {FORBIDDEN!r}; "
        "assert not set(names) & set(sys.modules); assert not [n for n in names if u.find_spec(n)]"
    )
    subprocess.run([device / "python", "-c", code], cwd=device, check=True)
    subprocess.run([device / "python", "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_pictures_are_classified(suffix: str, device: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / f"slice{suffix}"
    cv2.imwrite(str(path), make_slice(2, 4, True, 128).image)
    done = classify(device, path, "--model", tiny_bundle, "--json", "--heatmap", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["decision"] in ("positive", "negative", "refer")
    assert 0 <= row["probability"] <= 1
    assert set(row["ms"]) == {"decode", "preprocess", "inference"}
    assert len(list((tmp_path / "maps").iterdir())) == 1


def test_the_shipped_model_is_used_where_none_is_named(device: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "slice.png"), make_slice(2, 4, True, 128).image)
    done = classify(device, tmp_path / "slice.png", "--json")
    assert done.returncode == 0, done.stderr
    named = classify(device, tmp_path / "slice.png", "--json", "--model", "accurate")
    assert json.loads(named.stdout)["model"] == json.loads(done.stdout)["model"]
    command = [device / "edge-ct", "doctor", "--state", tmp_path / "state", "--json"]
    doctor = subprocess.run(command, capture_output=True, cwd=device, check=False)
    assert doctor.returncode == 0, doctor.stdout


def test_standard_input_is_classified(device: Path, tiny_bundle: Path) -> None:
    content = cv2.imencode(".png", make_slice(2, 4, True, 128).image)[1].tobytes()
    done = classify(device, "-", "--model", tiny_bundle, "--json", input=content)
    assert done.returncode == 0
    assert json.loads(done.stdout)["source"] == "<stdin>"


def test_dicom_without_its_extra_names_the_extra(device: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "slice.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    done = classify(device, tmp_path / "slice.dcm", "--model", tiny_bundle)
    assert done.returncode == 6
    assert b"pip install 'edge-ct[dicom]'" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_the_page_is_installed_whole_and_names_its_extra(device: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    code = "import importlib.resources as r; print(*(p.name for d in ('', 'static', 'templates') "
    code += "for p in (r.files('edge_ct.device_app.web') / d).iterdir()))"
    listed = subprocess.run([device / "python", "-c", code], cwd=device, capture_output=True, text=True, check=True)
    web = ROOT / "device_app" / "web"
    expected = {path.name for pattern in ("*.json", "*.py", "static/*", "templates/*") for path in web.glob(pattern)}
    assert expected <= set(listed.stdout.split())
    command = [device / "edge-ct", "serve", "--model", tiny_bundle, "--state", tmp_path / "state", "--port", "0"]
    done = subprocess.run(command, capture_output=True, cwd=device, check=False)
    assert done.returncode == 6
    assert b"pip install 'edge-ct[web]'" in done.stderr
    assert done.stderr.count(b"\n") == 1


OTHER_WINGS = (
    ["train", "customcnn", "--data", ".", "--out", "x"],
    ["convert", "x", "--out", "y"],
    ["evaluate", "x"],
    ["data", "check", "."],
    ["demo", "--out", "z"],
)


@pytest.mark.parametrize("command", OTHER_WINGS, ids=" ".join)
def test_commands_of_other_wings_name_their_extra(command: list[str], device: Path, tmp_path: Path) -> None:
    done = subprocess.run([device / "edge-ct", *command], capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 6, done.stderr
    assert b"pip install 'edge-ct[" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_results_are_the_same_as_in_the_full_environment(device: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    from edge_ct.classifier import Classifier

    for index in range(6):
        cv2.imwrite(str(tmp_path / f"{index}.png"), make_slice(index, index, index % 2 == 0, 200).image)
    rows = [
        json.loads(line) for line in classify(device, tmp_path, "--model", tiny_bundle, "--json").stdout.splitlines()
    ]
    here = Classifier(tiny_bundle)
    expected = [here.classify(tmp_path / f"{index}.png") for index in range(6)]
    assert [row["source"] for row in rows] == [result.source for result in expected]
    assert [row["probability"] for row in rows] == pytest.approx([result.probability for result in expected], abs=1e-12)
    assert np.ptp([row["probability"] for row in rows]) > 0


def test_the_python_api_works_with_the_base_dependencies(device: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "slice.png"), make_slice(2, 4, True, 256).image)
    code = "from edge_ct import Classifier; print(Classifier('accurate').classify('slice.png'))"
    done = subprocess.run([device / "python", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("Result(source='slice.png', decision=")


def test_a_users_file_passes_strict_type_checks(device: Path, tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(
        "from edge_ct import Bundle, Classifier, Preprocess, Result\n\n\n"
        "def main(classifier: Classifier) -> float | None:\n"
        '    result: Result = classifier.classify("slice.png")\n'
        "    bundle: Bundle = classifier.bundle\n"
        "    preprocess: Preprocess = bundle.manifest.preprocess\n"
        "    print(preprocess.size, result.decision)\n"
        "    return result.probability\n\n\n"
        'main(Classifier("accurate"))\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--python-executable", device / "python", file],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout
