"""An archive with everything that measures a bundle on another machine: the bundle, edge-ct itself, and `run.sh`.

Without wheels the device's Python must have the base dependencies; with them (`--platform`) Python alone is enough, and
no network is needed. `--host` sends the same archive over ssh and runs it there.
"""

from __future__ import annotations

import importlib.util
import io
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path

import msgspec

from edge_ct.bundle import read_bundle
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.errors import EdgeCTError
from edge_ct.system.files import write_bytes

from .bundle import Benchmark

FOLDER = "edge-ct-benchmark-kit"
_PACKAGES = ("edge_ct", "edge_ct.device_app", "edge_ct.benchmarks")
RUN = """#!/bin/sh
# Measures model.tflite on this machine and prints JSON; takes the options of `edge-ct benchmark run`.
# PYTHON=/path/to/python3 sh run.sh --quick > result.json
set -e
cd "$(dirname "$0")"
python=${PYTHON:-python3}
if [ -d wheels ]; then
    if [ ! -x env/bin/python ]; then
        "$python" -m venv env 1>&2
        env/bin/python -m pip install --quiet --no-index --find-links wheels wheels/*.whl 1>&2
    fi
    python=env/bin/python
fi
if ! "$python" -c "import click, cv2, msgspec, numpy" 2>/dev/null; then
    echo "edge-ct: $python on this machine lacks edge-ct's base dependencies; install them, name another Python with" \\
        "PYTHON=..., or make the kit with --platform" 1>&2
    exit 6
fi
PYTHONPATH="$PWD/lib${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m edge_ct benchmark run model.tflite --json "$@"
"""
README = """Unpack the archive on the device and run the script; no network is needed:

    tar xzf kit.tar.gz && sh edge-ct-benchmark-kit/run.sh > result.json

Options of `edge-ct benchmark run` may follow: --quick, --threads 1,2,4, --workers 1-4, --profile.
Compare two results with `edge-ct benchmark compare`. Research use only; not a medical device.
"""


def pack(bundle: Path, wheels: Sequence[Path] = ()) -> bytes:
    """Return the archive, a gzipped tar.

    Args:
        bundle: The bundle to measure.
        wheels: Wheels of the base dependencies to include.

    Raises:
        ModelRejected: The bundle fails verification.
    """
    content = read_bundle(bundle).content
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        _add(archive, "model.tflite", content)
        _add(archive, "run.sh", RUN.encode(), 0o755)
        _add(archive, "README.txt", README.encode())
        for name, file in _sources():
            _add(archive, f"lib/{name}", file.read_bytes())
        for wheel in wheels:
            _add(archive, f"wheels/{wheel.name}", wheel.read_bytes())
    return buffer.getvalue()


def write_kit(bundle: Path, out: Path, platform: str | None, python_version: str) -> int:
    """Write the archive and return its size in bytes.

    Args:
        bundle: The bundle to measure.
        out: The archive.
        platform: pip's platform tag of the wheels to include, or `here` for this machine; None includes none.
        python_version: Python version of the wheels, such as `3.11`.

    Raises:
        EdgeCTError: pip finds no wheels.
    """
    with tempfile.TemporaryDirectory() as work:
        wheels = _download(Path(work), platform, python_version) if platform else []
        content = pack(bundle, wheels)
    write_bytes(out, content)
    return len(content)


def remote_options(
    threads: Sequence[int], workers: Sequence[int], profile: bool, quick: bool, engine: EngineName = DEFAULT_ENGINE
) -> list[str]:
    """Return options of `benchmark run` as words, for `measure_on_host`."""
    words = ["--threads", ",".join(map(str, threads))]
    words += ["--workers", ",".join(map(str, workers))] if workers else []
    words += ["--engine", engine] if engine != DEFAULT_ENGINE else []
    return [*words, *["--profile"] * profile, *["--quick"] * quick]


def measure_on_host(host: str, bundle: Path, words: Sequence[str], python: str, ssh: str) -> Benchmark:
    """Send the archive to a host, run it in a temporary folder there, and return the measurement.

    Args:
        host: `USER@HOST`, as ssh takes it.
        bundle: The bundle to measure.
        words: Options of `benchmark run`.
        python: Python on the host.
        ssh: Command that reaches the host.

    Raises:
        EdgeCTError: The measurement failed; the message holds the host's last line and exit code.
    """
    if host.startswith("-"):
        raise EdgeCTError(f"{host}: not a host name; write USER@HOST")
    remote_script = (
        'd=$(mktemp -d) && trap \'rm -rf "$d"\' EXIT && tar xzf - -C "$d" && '
        f'PYTHON={shlex.quote(python)} sh "$d/{FOLDER}/run.sh" {shlex.join(words)}'
    )
    command = [*shlex.split(ssh), host, remote_script]
    try:
        done = subprocess.run(command, input=pack(bundle), capture_output=True, check=False)
    except OSError as error:
        raise EdgeCTError(f"{command[0]}: cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise EdgeCTError(f"{host}: {lines[-1].removeprefix('edge-ct: ')} (exit code {done.returncode} on the host)")
    try:
        return msgspec.json.decode(done.stdout, type=Benchmark)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EdgeCTError(f"{host}: the answer is not a measurement: {error}") from error


def _sources() -> list[tuple[str, Path]]:
    """Return (name inside lib/, file) of the packages that a device needs."""
    files = []
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.submodule_search_locations
        folder = Path(spec.submodule_search_locations[0])
        for file in sorted(folder.rglob("*.py")):
            name = file.relative_to(folder)
            if package != "edge_ct" or not _is_in_wing(name):
                files.append((f"{package.replace('.', '/')}/{name}", file))
    return files


def _is_in_wing(file: Path) -> bool:
    """Return whether a file below an installed edge_ct/ belongs to another package than the floor."""
    return file.parts[0] in ("train", "convert", "device_app", "benchmarks", "recipes")


def _download(work: Path, platform: str, python_version: str) -> list[Path]:
    """Download the wheels of the base dependencies with pip."""
    base = [line for line in requires("edge-ct") or [] if "extra ==" not in line]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--dest", str(work)]
    if platform != "here":
        command += ["--platform", platform, "--python-version", python_version]
        # pip evaluates environment markers on this machine, not on the target.
        machine = "armv7l" if "armv7" in platform else "aarch64"
        base = [line.partition(";")[0] for line in base if _applies_to(line, machine)]
    done = subprocess.run([*command, *base], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise EdgeCTError(f"pip finds no wheels for {platform}: {lines[-1]}; check --platform and --python-version")
    return sorted(work.glob("*.whl"))


def _applies_to(requirement: str, machine: str) -> bool:
    """Evaluate the only markers of edge-ct's base dependencies: 32-bit Arm, or everything else."""
    marker = requirement.partition(";")[2]
    if "platform_machine" not in marker:
        return True
    return ("==" in marker) == (machine == "armv7l")


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(f"{FOLDER}/{name}")
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
