"""A trial of the release: what it makes, and that a checkout with changes is refused."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def release() -> ModuleType:
    for name in ("wheelhouse", "release"):
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # the one imports the other
        spec.loader.exec_module(module)
    return module


def test_list_of_materials(release: ModuleType) -> None:
    lock = "click==8.5.1 \\\n    --hash=sha256:ff \\\n    --hash=sha256:ee\n"
    bill = release.bill_of_materials("1.2.3", sys.modules["wheelhouse"].read_lock(lock))
    assert bill["metadata"]["component"]["version"] == "1.2.3"
    [component] = bill["components"]
    assert component["purl"] == "pkg:pypi/click@8.5.1"
    assert component["hashes"] == [{"alg": "SHA-256", "content": "ff"}, {"alg": "SHA-256", "content": "ee"}]
    names = {pin.name for pin in sys.modules["wheelhouse"].read_lock(release.LOCK.read_text(encoding="utf-8"))}
    assert {"numpy", "ai-edge-litert", "pydicom", "flask"} <= names


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a checkout")
def test_only_a_tagged_commit_is_released(release: ModuleType, tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)
    release.ROOT, root = tmp_path, release.ROOT
    try:
        with pytest.raises(SystemExit, match="no tag"):
            release.check_commit()
        subprocess.run([*git, "tag", "v1.0.0"], check=True)
        release.check_commit()
        (tmp_path / "new").touch()
        with pytest.raises(SystemExit, match="has changes"):
            release.check_commit()
    finally:
        release.ROOT = root


def test_a_wheel_without_its_parts_is_refused(release: ModuleType, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "edge_ct-1-py3-none-any.whl", "w") as archive:
        archive.writestr("edge_ct/cli.py", "")
    with pytest.raises(SystemExit, match=r"missing .*_version\.py.*LICENSE"):
        release.check_wheel(tmp_path / "edge_ct-1-py3-none-any.whl")


@pytest.mark.parametrize("name", ["CITATION.cff", ".pre-commit-config.yaml", "mkdocs.yml"])
def test_yaml_files_are_well_formed(name: str) -> None:
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_github_files_are_well_formed() -> None:
    yaml = pytest.importorskip("yaml")
    files = sorted((ROOT / ".github").rglob("*.yml"))
    assert len(files) >= 5
    for path in files:
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path
    assert json.dumps(yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]).count(
        ".ci/run"
    )
