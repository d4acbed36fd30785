"""Make a Debian package of edge-ct for a device, which installs without a network.

    python scripts/debian_package.py FOLDER [--architecture amd64] [--python 3.11]    # or: make deb

The package holds the wheels that requirements/device-extras.lock pins, unpacked into an environment of its own under
/opt/edge-ct that uses the system's Python, so one package fits one minor version of Python: 3.11 is that of Debian 12
and Raspberry Pi OS bookworm, 3.13 that of Debian 13 and trixie. Nothing is run on the target's processor here.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

from click.shell_completion import BashComplete
from man_page import man_page
from wheelhouse import ROOT, build_wheel, checkout_version, download, read_lock, select_pins, unpack_wheels

from edge_ct import cli
from edge_ct.device_app.maintenance.systemd import MODEL, plan_files

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
SCRIPTS = ROOT / "scripts" / "debian"
HOME = PurePosixPath("/opt/edge-ct")
PROGRAM = HOME / "bin" / "edge-ct"
INCOMING = "/srv/edge-ct"
CONTROL = """\
Package: edge-ct
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {kilobytes}
Depends: python3 (>= {python}~), python3 (<< {next_python}~), libc6, libstdc++6, debconf, systemd | passwd
Section: science
Priority: optional
Description: CT-slice classifiers for a device without a network
 Judges CT slices on a small computer, stores the results in a worklist, and
 shows them as a local web page. Research use only: not a medical device.
 .
 The package has its own environment of pinned packages under /opt/edge-ct. The
 models that it holds have a licence of their own: research, not commercial.
"""
ENTRY = f"#!{HOME}/bin/python\nfrom edge_ct.cli import main\n\nmain()\n"


def make_package(folder: Path, architecture: str, python: str, version: str, maintainer: str) -> Path:
    """Build the package and return its path.

    Args:
        folder: Folder to write it to.
        architecture: Debian's name of the architecture, `amd64` or `arm64`.
        python: Minor version of the target's Python, such as `3.11`.
        version: Version of edge-ct.
        maintainer: Maintainer of the package, as Debian writes it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        wheels, stage = Path(temporary) / "wheels", Path(temporary) / "stage"
        wheels.mkdir()
        lock = (ROOT / "requirements" / "device-extras.lock").read_text(encoding="utf-8")
        machine = MACHINES[architecture]
        download(select_pins(read_lock(lock), python, machine), python, wheels, machine)
        build_wheel(wheels)
        fill_environment(stage, wheels, python, machine)
        fill_system(stage, version)
        write_control(stage, architecture, python, version, maintainer)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"edge-ct_{debian_version(version)}_{architecture}.deb"
        words = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", str(stage), str(target)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return target


def fill_environment(stage: Path, wheels: Path, python: str, machine: str) -> None:
    """Unpack the wheels into an environment that uses the system's Python."""
    home = stage / HOME.relative_to("/")
    packages = home / "lib" / f"python{python}" / "site-packages"
    packages.mkdir(parents=True)
    unpack_wheels(wheels, packages, python, machine)
    shutil.rmtree(packages / "bin", ignore_errors=True)  # programs of this machine's Python
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to("/usr/bin/python3")
    _write(home / "bin" / "edge-ct", ENTRY, 0o755)
    _write(home / "pyvenv.cfg", f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n")
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        # The services cannot write to /opt, so without this every start would compile all modules again.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        folder = str(packages)
        compileall.compile_dir(folder, quiet=2, workers=0, invalidation_mode=mode, stripdir=str(stage), prependdir="/")


def fill_system(stage: Path, version: str) -> None:
    """Write units, user, man page, completion and the link in /usr/bin."""
    planned = plan_files(
        None,
        watch=Path(INCOMING),
        callers=[],
        targets=[],
        lan=False,
        keep_days=90,
        user="edge-ct",
        program=str(PROGRAM),
    )
    for path, content in planned.items():
        if path.suffix == ".service" and isinstance(content, str):
            # The shipped model is part of the package; `device install` writes units for another one to /etc.
            _write(
                stage / "usr/lib/systemd/system" / path.name, content.replace(f"--model {MODEL}", "--model accurate")
            )
        elif path.name == "edge-ct.conf" and isinstance(content, str):
            _write(stage / "usr/lib/sysusers.d" / path.name, content)
    _write(stage / "usr/share/man/man1/edge-ct.1", man_page(version))
    subprocess.run(["gzip", "-9n", str(stage / "usr/share/man/man1/edge-ct.1")], check=True)
    completion = BashComplete(cli.edge_ct, {}, "edge-ct", "_EDGE_CT_COMPLETE")
    _write(stage / "usr/share/bash-completion/completions/edge-ct", completion.source())
    licences = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("LICENSE*")) if path.is_file()]
    _write(stage / "usr/share/doc/edge-ct/copyright", "\n\n".join(licences))
    (stage / INCOMING.lstrip("/")).mkdir(parents=True)
    (stage / "usr/bin").mkdir(parents=True)
    (stage / "usr/bin/edge-ct").symlink_to(PROGRAM)


def write_control(stage: Path, architecture: str, python: str, version: str, maintainer: str) -> None:
    """Write the control files of the package."""
    files = sorted(path for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    control = CONTROL.format(
        version=debian_version(version),
        architecture=architecture,
        maintainer=maintainer,
        kilobytes=sum(path.stat().st_size for path in files) // 1024,
        python=python,
        next_python="3.{}".format(int(python.partition(".")[2]) + 1),
    )
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n" for path in files]
    _write(stage / "DEBIAN/control", control)
    _write(stage / "DEBIAN/md5sums", "".join(sums))
    _write(stage / "DEBIAN/templates", (SCRIPTS / "templates").read_text(encoding="utf-8"))
    for name in ("postinst", "prerm", "postrm"):
        _write(stage / "DEBIAN" / name, (SCRIPTS / name).read_text(encoding="utf-8"), 0o755)


def debian_version(version: str) -> str:
    """Return a version of Python's form in Debian's order: 1.2.dev3 comes before 1.2."""
    return version.replace(".dev", "~dev").replace("rc", "~rc")


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def main() -> None:
    """Parse the command line and make the package."""
    parser = argparse.ArgumentParser(description="Make a Debian package of edge-ct.")
    parser.add_argument("folder", type=Path, help="folder to write the package to")
    parser.add_argument("--architecture", choices=tuple(MACHINES), default="amd64", help="the device's architecture")
    parser.add_argument("--python", default="3.11", help="minor version of the device's Python")
    parser.add_argument("--version", help="version of the package; by default that of the checkout")
    parser.add_argument(
        "--maintainer",
        default=os.environ.get("DEBFULLNAME", "edge-ct") + f" <{os.environ.get('DEBEMAIL', 'root@localhost')}>",
        help="maintainer of the package; by default from DEBFULLNAME and DEBEMAIL",
    )
    arguments = parser.parse_args()
    if shutil.which("dpkg-deb") is None:
        sys.exit("debian_package: dpkg-deb is not installed")
    os.umask(0o022)
    version = arguments.version or checkout_version()
    made = make_package(arguments.folder, arguments.architecture, arguments.python, version, arguments.maintainer)
    print(f"{made}: {made.stat().st_size / 1e6:.0f} MB, for {arguments.architecture} with Python {arguments.python}")


if __name__ == "__main__":
    main()
