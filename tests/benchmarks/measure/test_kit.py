"""The kit and other machines: what is packed, that it runs from nothing but its archive, and a real sshd."""

import getpass
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_ct import cli
from edge_ct.benchmarks.measure import kit
from edge_ct.errors import EdgeCTError, ModelRejected


@pytest.fixture
def fake_ssh(tmp_path: Path) -> str:
    """Runs the command that follows the host, here."""
    script = tmp_path / "fake ssh"
    script.write_text('#!/bin/sh\nshift\nexec sh -c "$1"\n')
    script.chmod(0o755)
    return f"'{script}'"


def test_what_is_packed(tiny_bundle: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    with tarfile.open(fileobj=io.BytesIO(kit.pack(tiny_bundle, [wheel]))) as archive:
        names = {name.removeprefix(f"{kit.FOLDER}/") for name in archive.getnames()}
        packed = archive.extractfile(f"{kit.FOLDER}/model.tflite")
        assert packed is not None
        assert packed.read() == tiny_bundle.read_bytes()
    wanted = {"model.tflite", "run.sh", "README.txt", "wheels/x-1-py3-none-any.whl", "lib/edge_ct/classifier.py"}
    assert wanted | {"lib/edge_ct/benchmarks/measure/bundle.py", "lib/edge_ct/device_app/judging/judge.py"} <= names
    assert not any("train/" in name for name in names)


def test_a_damaged_bundle_is_not_packed(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(tiny_bundle.read_bytes()[:-1])
    with pytest.raises(ModelRejected):
        kit.pack(tmp_path / "bad.tflite")


@pytest.mark.slow
def test_the_archive_runs_by_itself(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "kit.tar.gz"
    assert cli.run(["benchmark", "kit", str(tiny_bundle), "--out", str(out)]) == 0
    assert cli.run(["benchmark", "kit", str(tiny_bundle), "--out", str(out)]) == 1  # there is one already
    with tarfile.open(out) as archive:
        archive.extractall(tmp_path / "device", filter="data")
    done = subprocess.run(
        ["sh", str(tmp_path / "device" / kit.FOLDER / "run.sh"), "--quick"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert json.loads(done.stdout)["quick"] is True


def test_a_host_without_the_dependencies_says_so(tiny_bundle: Path, fake_ssh: str, tmp_path: Path) -> None:
    poor = tmp_path / "python3"
    poor.write_text("#!/bin/sh\nexit 1\n")
    poor.chmod(0o755)
    with pytest.raises(EdgeCTError, match="lacks edge-ct's base dependencies"):
        kit.measure_on_host("pi", tiny_bundle, ["--quick"], str(poor), fake_ssh)


def test_what_is_no_host_or_no_answer(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError, match="not a host"):
        kit.measure_on_host("-oProxyCommand=x", tiny_bundle, [], "python3", "ssh")
    with pytest.raises(EdgeCTError, match="cannot be run"):
        kit.measure_on_host("pi", tiny_bundle, [], "python3", str(tmp_path / "no-ssh"))
    with pytest.raises(EdgeCTError, match="is not a measurement"):
        kit.measure_on_host("pi", tiny_bundle, [], "python3", "sh -c 'cat > /dev/null; echo hello'")


@pytest.mark.parametrize("options", [["--data", "x"], ["--loadgen", "x"], ["--device", "cpu"]])
def test_slices_stay_here(options: list[str], tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["benchmark", str(tiny_bundle), "--host", "pi", *options]) == 2
    assert "--host measures a bundle on phantoms" in capsys.readouterr().err


def test_markers_are_judged_for_the_device() -> None:
    plain, other, arm = "click>=8", "numpy>=1; platform_machine != 'armv7l'", "numpy<2; platform_machine == 'armv7l'"
    assert [kit._applies_to(line, "aarch64") for line in (plain, other, arm)] == [True, True, False]
    assert [kit._applies_to(line, "armv7l") for line in (plain, other, arm)] == [True, False, True]


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[str]:
    """An sshd on a loopback port, with keys of its own; yields the ssh command that reaches it."""
    server = shutil.which("sshd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if not server or not shutil.which("ssh") or not shutil.which("ssh-keygen"):
        pytest.skip("no sshd on this machine")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    (tmp_path / "authorized").write_bytes((tmp_path / "user.pub").read_bytes())
    (tmp_path / "authorized").chmod(0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    process = subprocess.Popen([server, "-D", "-e", "-f", str(tmp_path / "config")], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            pytest.skip("sshd does not start here")
        quiet = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes"
        yield f"ssh -F none -p {port} -i {tmp_path}/user -o IdentitiesOnly=yes {quiet}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_a_measurement_comes_home_over_ssh(tiny_bundle: Path, sshd: str, capsys: pytest.CaptureFixture[str]) -> None:
    host = f"{getpass.getuser()}@127.0.0.1"
    arguments = ["benchmark", str(tiny_bundle), "--host", host, "--ssh", sshd, "--python", sys.executable]
    assert cli.run([*arguments, "--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"].startswith("customcnn-32-int8@")
    assert found["model_only"]["n"] == 200
