"""Make what a release publishes, in a new folder.

    python scripts/release.py FOLDER [--key maker.key]    # or: make release KEY=maker.key
    python scripts/release.py --dry-run                   # make and check everything, and keep nothing

    edge_ct-VERSION.tar.gz, edge_ct-VERSION-py3-none-any.whl    source and wheel
    NAME.tflite                                                 the shipped bundles, signed where a key is named
    sbom.json                                                   what a device installs, with hashes (CycloneDX 1.5)
    SHA256SUMS                                                  of all files

A release comes from a commit that carries a tag and has no changes beside it. CHANGELOG.md must have a heading of its
version, and pyproject.toml the addresses that a package index shows. A dry run comes from any checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wheelhouse import Pin, checkout_version, read_lock

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "device_app" / "models"
LOCK = ROOT / "requirements" / "device-extras.lock"


def make_release(folder: Path, version: str, key: Path | None) -> list[Path]:
    """Fill an empty folder with the files of a release and return them.

    Args:
        folder: Folder to fill.
        version: Version of the checkout.
        key: Private key to sign the bundles with; None leaves them unsigned.
    """
    build(folder)
    wheel = folder / f"edge_ct-{version}-py3-none-any.whl"
    check_wheel(wheel)
    for bundle in sorted(MODELS.glob("*.tflite")):
        target = folder / bundle.name
        if key is None:
            shutil.copy(bundle, target)
        else:
            edge_ct("bundle", "sign", bundle, "--key", key, "--out", target)
        edge_ct("bundle", "verify", target)
    sbom = json.dumps(bill_of_materials(version, read_lock(LOCK.read_text(encoding="utf-8"))), indent=1)
    (folder / "sbom.json").write_text(sbom + "\n", encoding="utf-8")
    files = sorted(folder.iterdir())
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return [*files, folder / "SHA256SUMS"]


def build(folder: Path) -> None:
    """Build sdist and wheel; the wheel is made of the unpacked sdist, so that it holds nothing that the sdist lacks."""
    code = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
    with tempfile.TemporaryDirectory() as unpacked:
        _run([sys.executable, "-c", code, "build_sdist", str(folder)], ROOT)
        [sdist] = folder.glob("*.tar.gz")
        shutil.unpack_archive(sdist, unpacked, filter="data")
        [source] = Path(unpacked).iterdir()
        _run([sys.executable, "-c", code, "build_wheel", str(folder)], source)


def check_wheel(wheel: Path) -> None:
    """Exit unless the wheel holds every package, the shipped bundles and the licence, and nothing of the tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    wanted = [f"edge_ct/device_app/models/{path.name}" for path in MODELS.glob("*.tflite")]
    wanted += ["edge_ct/cli.py", "edge_ct/_version.py", "edge_ct/py.typed", "edge_ct/recipes/commands.py"]
    missing = [name for name in wanted if name not in names]
    if not any(re.search(r"\.dist-info/licenses/.*LICENSE$", name) for name in names):
        missing.append("LICENSE")
    if missing or any(name.startswith("tests/") for name in names):
        sys.exit(f"release: {wheel.name}: missing {', '.join(missing) or 'nothing'}, or it holds tests")


def bill_of_materials(version: str, pins: Iterable[Pin]) -> dict[str, Any]:
    """Return the packages that a device installs as a CycloneDX 1.5 document."""
    components = []
    for pin in pins:
        number = pin.requirement.partition("==")[2]
        hashes = [{"alg": "SHA-256", "content": value.removeprefix("sha256:")} for value in pin.hashes]
        component = {"type": "library", "name": pin.name, "version": number, "purl": f"pkg:pypi/{pin.name}@{number}"}
        components.append({**component, "hashes": hashes})
    product = {"type": "application", "name": "edge-ct", "version": version, "purl": f"pkg:pypi/edge-ct@{version}"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": product},
        "components": components,
    }


def check_commit() -> None:
    """Exit unless the checkout is a tagged commit without changes that describes its release."""
    if _run(["git", "status", "--porcelain"], ROOT):
        sys.exit("release: the checkout has changes; commit them, or make a --dry-run")
    tag = re.search(r"^v(\d\S*)", _run(["git", "tag", "--points-at", "HEAD"], ROOT), re.MULTILINE)
    if tag is None:
        sys.exit("release: this commit has no tag vMAJOR.MINOR.PATCH; tag it, or make a --dry-run")
    problem = find_undescribed(
        tag[1], *((ROOT / name).read_text("utf-8") for name in ("CHANGELOG.md", "pyproject.toml"))
    )
    if problem:
        sys.exit(f"release: {problem}")


def find_undescribed(version: str, changelog: str, pyproject: str) -> str | None:
    """Return what a release lacks beside its files, or None.

    Args:
        version: Version of the tag, without `v`.
        changelog: Text of CHANGELOG.md.
        pyproject: Text of pyproject.toml.
    """
    heading = re.search(rf"^## \[{re.escape(version)}\] - (.*)$", changelog, re.MULTILINE)
    if heading is None or not re.fullmatch(r"\d{4}-\d\d-\d\d", heading[1]):
        return f"CHANGELOG.md: no heading '## [{version}] - YYYY-MM-DD'; move the entries under Unreleased below it"
    if not re.search(r'^Repository = "https://', pyproject, re.MULTILINE):
        return 'pyproject.toml: no [project.urls] with Repository = "https://..."; add the address of the repository'
    return None


def edge_ct(*words: object) -> None:
    """Run an `edge-ct` command of this checkout."""
    _run([sys.executable, "-m", "edge_ct", *map(str, words)], ROOT)


def _run(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["no reason given"]
        sys.exit(f"release: {Path(words[0]).name} {' '.join(words[1:3])} failed: {lines[-1]}")
    return done.stdout.strip()


def main() -> None:
    """Parse the command line and make the release."""
    parser = argparse.ArgumentParser(description="Make the files of a release.")
    parser.add_argument("folder", type=Path, nargs="?", help="folder to make; it must not exist")
    parser.add_argument("--key", type=Path, help="private key that signs the shipped bundles")
    parser.add_argument("--dry-run", action="store_true", help="make everything elsewhere, check it, and keep nothing")
    arguments = parser.parse_args()
    if arguments.dry_run == (arguments.folder is not None):
        parser.error("name either a folder or --dry-run")
    with tempfile.TemporaryDirectory() as temporary:
        key = arguments.key
        if arguments.dry_run and key is None:
            edge_ct("bundle", "keygen", Path(temporary) / "trial")
            key = Path(temporary) / "trial.key"
        if not arguments.dry_run:
            check_commit()
        folder = Path(temporary) / "release"
        folder.mkdir()
        files = make_release(folder, checkout_version(), key)
        for path in files:
            print(f"{path.stat().st_size:>10,}  {path.name}")
        if not arguments.dry_run:
            if arguments.folder.exists():
                sys.exit(f"release: {arguments.folder} exists; name another folder")
            shutil.copytree(folder, arguments.folder)


if __name__ == "__main__":
    main()
