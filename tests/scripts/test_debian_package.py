"""The Debian package: versions, control files, units and man page; its life in a Debian root is scripts/test_deb.sh."""

import importlib.util
import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def package() -> ModuleType:
    for name in ("wheelhouse", "man_page", "debian_package"):
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # they import each other
        spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not installed")
def test_development_versions_come_before_releases(package: ModuleType) -> None:
    versions = ["0.9", "1.0.dev3+gabc", "1.0.dev12+gabc", "1.0rc1", "1.0", "1.0.1"]
    debian = [package.debian_version(version) for version in versions]
    for lower, higher in itertools.pairwise(debian):
        subprocess.run(["dpkg", "--compare-versions", lower, "lt", higher], check=True)


def test_files_of_the_system(package: ModuleType, tmp_path: Path) -> None:
    package.fill_system(tmp_path, "1.0")
    package.write_control(tmp_path, "arm64", "3.13", "1.0.dev1", "Somebody <s@example.org>")
    units = sorted((tmp_path / "usr/lib/systemd/system").iterdir())
    assert [unit.name for unit in units] == ["edge-ct-serve.service", "edge-ct-watch.service"]
    for unit in units:
        text = unit.read_text()
        assert "ExecStart=/opt/edge-ct/bin/edge-ct " in text
        assert "--model accurate" in text and "/usr/local" not in text
        assert "User=edge-ct\n" in text
    assert (tmp_path / "usr/lib/sysusers.d/edge-ct.conf").read_text().startswith("u edge-ct ")
    assert (tmp_path / "usr/bin/edge-ct").readlink() == Path("/opt/edge-ct/bin/edge-ct")
    assert "_EDGE_CT_COMPLETE" in (tmp_path / "usr/share/bash-completion/completions/edge-ct").read_text()
    control = (tmp_path / "DEBIAN/control").read_text()
    assert "Version: 1.0~dev1\nArchitecture: arm64\n" in control
    assert "python3 (>= 3.13~), python3 (<< 3.14~)" in control
    assert (tmp_path / "DEBIAN/postinst").stat().st_mode & 0o111


@pytest.mark.parametrize("name", ["debian/postinst", "debian/prerm", "debian/postrm", "test_deb.sh", "install.sh"])
def test_scripts_parse(name: str) -> None:
    subprocess.run(["sh", "-n", str(ROOT / "scripts" / name)], check=True)


def test_man_page(package: ModuleType, tmp_path: Path) -> None:
    page = package.man_page("1.0")
    assert "\b" not in page
    assert ".SS edge\\-ct worklist review " in page
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    (tmp_path / "edge-ct.1").write_text(page, encoding="utf-8")
    words = ["groff", "-man", "-Tutf8", "-wall", str(tmp_path / "edge-ct.1")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "cannot" not in done.stderr
    assert "Research use only" in done.stdout
