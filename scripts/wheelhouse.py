"""Make a folder of wheels from which edge-ct installs on a 64-bit Raspberry Pi OS without a network.

    python scripts/wheelhouse.py FOLDER [--python 3.11 --python 3.13]
    python scripts/wheelhouse.py FOLDER --python 3.11 --only pytest    # a wheel of the development lock

The folder holds the wheels that requirements/device-extras.lock pins for aarch64, checked by their hashes, edge-ct's
own wheel, `install.sh`, which installs from the folder, and SHA256SUMS. The versions are those of the development lock,
so that a device runs what was tested.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("edge_ct", "train", "convert", "device_app", "benchmarks", "recipes")
MACHINE = "aarch64"
UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h: the wheels cannot be downloaded
# Python versions of Raspberry Pi OS bookworm and trixie, and the C library of the older release.
PYTHONS = ("3.11", "3.13")
GLIBC = range(17, 37)
NOTE = """Wheels of edge-ct and its dependencies for 64-bit Arm, Python {pythons}.

    sh install.sh              # into /opt/edge-ct (sudo), or: sh install.sh FOLDER
    sh install.sh --base       # without DICOM and the web page

No network is used. Research use only. Not a medical device.
"""


@dataclass(frozen=True)
class Pin:
    """One requirement of a lock file, with its environment marker and its hashes, written as `sha256:...`."""

    requirement: str
    marker: str | None
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the package."""
        return self.requirement.partition("==")[0]


def read_lock(text: str) -> Iterator[Pin]:
    """Yield the pins of a lock file that `uv pip compile --generate-hashes` has written."""
    joined = re.sub(r"\\\n", " ", text)
    for line in joined.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words, *hashes = re.split(r"\s--hash=", line)
        requirement, _, marker = words.partition(";")
        yield Pin(requirement.strip(), marker.strip() or None, tuple(value.strip() for value in hashes))


def environment(python: str, machine: str = MACHINE) -> dict[str, str]:
    """Return the environment of a Python on Linux, to evaluate markers in; pip's options do not affect markers."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }


def select_pins(pins: Iterable[Pin], python: str, machine: str = MACHINE) -> list[Pin]:
    """Return the pins whose markers hold in that environment."""
    arguments = environment(python, machine)
    return [pin for pin in pins if pin.marker is None or Marker(pin.marker).evaluate(arguments)]


def download(pins: list[Pin], python: str, folder: Path, machine: str = MACHINE) -> None:
    """Download the wheels of `pins` for that Python and that machine, and check their hashes."""
    pinned = "".join(f"{pin.requirement} {' '.join(f'--hash={value}' for value in pin.hashes)}\n" for pin in pins)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write(pinned)
        listed.flush()
        _pip("download", "--no-deps", "--require-hashes", "-r", listed.name, "-d", folder, *_target(python, machine))


def build_wheel(folder: Path) -> None:
    """Build edge-ct's wheel from a copy, because `build/` in a checkout may hold files that have been deleted."""
    with tempfile.TemporaryDirectory() as copied:
        source = Path(copied) / "edge-ct"
        for package in PACKAGES:
            shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "results"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        _pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, source, version=checkout_version())


def checkout_version() -> str:
    """Return the version of this checkout, which a copy without its repository does not know."""
    words = [sys.executable, "-m", "setuptools_scm", "--root", str(ROOT)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def check(folder: Path, python: str) -> None:
    """Check that pip can resolve edge-ct with its device extras for that Python from `folder` alone."""
    with tempfile.TemporaryDirectory() as nowhere:
        _pip(
            *("download", "--isolated", "--no-index", "--find-links", folder, "-d", nowhere),
            *(*_target(python), "edge-ct[dicom,web]"),
        )


def make(folder: Path, pythons: Iterable[str]) -> None:
    """Empty `folder` and fill it."""
    wheels = folder / "wheels"
    shutil.rmtree(folder, ignore_errors=True)
    wheels.mkdir(parents=True)
    for lock in ("device.lock", "device-extras.lock"):
        shutil.copy(ROOT / "requirements" / lock, folder / lock)
    pins = list(read_lock((folder / "device-extras.lock").read_text(encoding="utf-8")))
    for python in pythons:
        download(select_pins(pins, python), python, wheels)
    build_wheel(wheels)
    for python in pythons:
        check(wheels, python)
    shutil.copy(ROOT / "scripts" / "install.sh", folder)
    (folder / "README.txt").write_text(NOTE.format(pythons=" and ".join(pythons)), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    size = sum(path.stat().st_size for path in files)
    print(f"{folder}: {len(list(wheels.iterdir()))} wheels, {size / 1e6:.0f} MB, for Python {', '.join(pythons)}")


def make_selection(folder: Path, pythons: Iterable[str], names: Iterable[str]) -> None:
    """Download the named packages of the development lock, without their dependencies."""
    folder.mkdir(parents=True, exist_ok=True)
    pins = list(read_lock((ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")))
    wanted = set(names)
    for python in pythons:
        selected = [pin for pin in select_pins(pins, python) if pin.name in wanted]
        if missing := wanted - {pin.name for pin in selected}:
            sys.exit(f"wheelhouse: not in requirements/dev.lock: {', '.join(sorted(missing))}")
        download(selected, python, folder)


def unpack_wheels(wheels: Path, folder: Path, python: str, machine: str = MACHINE) -> None:
    """Install all wheels of a folder into `folder`, for a Python and a machine that need not be this one's."""
    words = ("install", "--isolated", "--no-index", "--no-deps", "--no-compile", "--target", folder)
    _pip(*words, *_target(python, machine), *sorted(wheels.glob("*.whl")))


def _target(python: str, machine: str = MACHINE) -> list[str]:
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC] + [f"manylinux2014_{machine}"]
    options = [word for platform in platforms for word in ("--platform", platform)]
    return [*options, "--python-version", python, "--implementation", "cp", "--only-binary", ":all:"]


def _pip(command: str, *arguments: object, version: str = "") -> None:
    environment = os.environ | ({"SETUPTOOLS_SCM_PRETEND_VERSION": version} if version else {})
    words = [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        print(f"wheelhouse: pip {command} failed: {lines[-1]}", file=sys.stderr)
        sys.exit(UNAVAILABLE if command == "download" else 1)


def main() -> None:
    """Parse the command line and make the folder."""
    parser = argparse.ArgumentParser(description="Make a folder of wheels for a 64-bit Raspberry Pi OS.")
    parser.add_argument("folder", type=Path, help="folder to fill")
    parser.add_argument("--python", action="append", help="Python version of the device; may be repeated")
    parser.add_argument("--only", action="append", help="package of the development lock; may be repeated")
    arguments = parser.parse_args()
    pythons = arguments.python or PYTHONS
    if arguments.only:
        make_selection(arguments.folder, pythons, arguments.only)
    else:
        make(arguments.folder, pythons)


if __name__ == "__main__":
    main()
