"""The wheelhouse: which pins of a lock hold on a device, and what its installer refuses."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = """\
# a remark
ai-edge-litert==2.3.0 ; platform_machine != 'armv7l' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via edge-ct (pyproject.toml)
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:cc
numpy==2.4.6 ; python_full_version == '3.11.*' \\
    --hash=sha256:dd
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:ee
click==8.5.1 \\
    --hash=sha256:ff
"""


@pytest.fixture(scope="module")
def wheelhouse() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheelhouse", ROOT / "scripts" / "wheelhouse.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wheelhouse"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("python", "numpy"), [("3.11", "numpy==2.4.6"), ("3.13", "numpy==2.5.5")])
def test_markers_are_asked_for_the_device(wheelhouse: ModuleType, python: str, numpy: str) -> None:
    """Whatever this machine and this Python are."""
    found = wheelhouse.select_pins(wheelhouse.read_lock(LOCK), python)
    assert [pin.requirement for pin in found] == ["ai-edge-litert==2.3.0", numpy, "click==8.5.1"]
    assert found[0].hashes == ("sha256:aa", "sha256:bb")
    assert [pin.name for pin in found] == ["ai-edge-litert", "numpy", "click"]


def test_32_bit_gets_no_litert(wheelhouse: ModuleType) -> None:
    found = wheelhouse.select_pins(wheelhouse.read_lock(LOCK), "3.11", "armv7l")
    assert [pin.name for pin in found] == ["numpy", "click"]


def test_every_pin_of_the_locks_is_read(wheelhouse: ModuleType) -> None:
    for name in ("device.lock", "device-extras.lock"):
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        pins = list(wheelhouse.read_lock(text))
        assert len(pins) == text.count("==", 0) - text.count("== '")
        assert sum(len(pin.hashes) for pin in pins) == text.count("--hash=")
        assert all(pin.hashes for pin in pins)
        assert {"numpy", "ai-edge-litert", "msgspec", "click"} <= {
            pin.name for pin in wheelhouse.select_pins(pins, "3.11")
        }


def test_extras_hold_the_versions_of_the_base(wheelhouse: ModuleType) -> None:
    """`install.sh --base` and `install.sh` differ in what is there, not in its versions."""
    base, extras = (
        {(pin.requirement, pin.marker) for pin in wheelhouse.read_lock((ROOT / "requirements" / name).read_text())}
        for name in ("device.lock", "device-extras.lock")
    )
    assert base <= extras


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A wheelhouse with one file, right by its sums."""
    shutil.copy(ROOT / "scripts" / "install.sh", tmp_path)
    (tmp_path / "device-extras.lock").write_text("")
    digest = hashlib.sha256(b"").hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  device-extras.lock\n")
    return tmp_path


def install(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", folder / "install.sh", *arguments], capture_output=True, text=True, check=False)


def test_a_damaged_file_stops_the_installer(folder: Path) -> None:
    (folder / "device-extras.lock").write_text("x")
    done = install(folder, str(folder / "there"))
    assert done.returncode == 1
    assert "damaged or missing" in done.stderr
    assert not (folder / "there").exists()


def test_another_machine_is_refused(folder: Path) -> None:
    if subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip() == "aarch64":
        pytest.skip("this is the machine that the wheels are for")
    done = install(folder, str(folder / "there"))
    assert done.returncode == 1
    assert "64-bit Arm" in done.stderr
    assert not (folder / "there").exists()


def test_an_unknown_option_is_usage(folder: Path) -> None:
    assert install(folder, "--bose").returncode == 2
