"""A trial of the release: what it makes, and that a checkout with changes is refused."""

import importlib.util
import json
import re
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
        (tmp_path / "CHANGELOG.md").write_text("## [1.0.0] - 2026-12-01\n")
        (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://example.org/edge-ct"\n')
        with pytest.raises(SystemExit, match="has changes"):
            release.check_commit()
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", "second"], check=True)
        with pytest.raises(SystemExit, match="no tag"):
            release.check_commit()
        subprocess.run([*git, "tag", "--force", "v1.0.0"], check=True, capture_output=True)
        release.check_commit()
        subprocess.run([*git, "tag", "--delete", "v1.0.0"], check=True, capture_output=True)
        subprocess.run([*git, "tag", "v1.0.1"], check=True)
        with pytest.raises(SystemExit, match=r"CHANGELOG\.md: no heading '## \[1\.0\.1\]"):
            release.check_commit()
        (tmp_path / "new").touch()
        with pytest.raises(SystemExit, match="has changes"):
            release.check_commit()
    finally:
        release.ROOT = root


def test_a_release_is_described(release: ModuleType) -> None:
    urls = '[project.urls]\nRepository = "https://example.org/edge-ct"\n'
    assert release.find_undescribed("1.2.3", "## [1.2.3] - 2026-12-01", urls) is None
    assert "CHANGELOG" in release.find_undescribed("1.2.3", "## [1.2.3] - not tagged", urls)
    assert "CHANGELOG" in release.find_undescribed("1.2.3", "## [11.2.3] - 2026-12-01", urls)
    assert "[project.urls]" in release.find_undescribed("1.2.3", "## [1.2.3] - 2026-12-01", "[project]")


def test_a_copy_without_its_repository_has_the_newest_version_of_the_changelog() -> None:
    versions = re.findall(r"^## \[(\d[\d.]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    fallback = re.search(r'^fallback_version = "(.*?)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert fallback is not None
    assert fallback[1] == versions[0]
    assert versions == sorted(versions, key=lambda version: tuple(map(int, version.split("."))), reverse=True)


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
