"""`edge-ct device install`: units that systemd accepts, for a user without privileges, and nothing half written."""

import io
import os
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path, PurePosixPath

import pytest

from edge_ct import cli
from edge_ct.device_app.maintenance import systemd
from edge_ct.errors import EdgeCTError, ModelRejected

WATCH = PurePosixPath("/etc/systemd/system/edge-ct-watch.service")


def plan(bundle: Path, watch: str = "/srv/export", **options: object) -> dict[PurePosixPath, str | bytes]:
    arguments = {
        "callers": [],
        "targets": [],
        "lan": False,
        "keep_days": 90,
        "user": "edge-ct",
        "program": "/opt/e/bin/edge-ct",
    }
    return systemd.plan_files(bundle, watch=Path(watch), **{**arguments, **options})  # type: ignore[arg-type]


def unit(content: str | bytes) -> ConfigParser:
    assert isinstance(content, str)
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(content)
    return parser


def test_units_run_without_privileges_and_network(tiny_bundle: Path) -> None:
    files = plan(tiny_bundle)
    assert files[PurePosixPath("/usr/local/share/edge-ct/model.tflite")] == tiny_bundle.read_bytes()
    assert str(files[PurePosixPath("/etc/sysusers.d/edge-ct.conf")]).startswith("u edge-ct - ")
    service = unit(files[WATCH])["Service"]
    assert service["ExecStart"] == (
        "/opt/e/bin/edge-ct watch /srv/export --json --model /usr/local/share/edge-ct/model.tflite "
        "--state /var/lib/edge-ct --keep-days 90"
    )
    assert (service["User"], service["PrivateNetwork"], service["CapabilityBoundingSet"]) == ("edge-ct", "yes", "")
    for name in systemd.unit_names(files):
        service = unit(files[PurePosixPath(f"/etc/systemd/system/{name}.service")])["Service"]
        assert service["User"] == "edge-ct"
        assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")
        assert service["WatchdogSec"] == "60"
        if "serve" in name:
            assert (service["IPAddressDeny"], service["IPAddressAllow"]) == ("any", "localhost")


def test_every_command_in_a_unit_is_one_that_parses(tiny_bundle: Path, tmp_path: Path) -> None:
    """The options are those of the commands themselves: `--help` behind them is answered, not refused."""
    commands = []
    for path, content in plan(tiny_bundle, callers=["CT1", "CT2"], targets=["PACS@10.0.0.2:104"], lan=True).items():
        if path.suffix == ".service":
            command = unit(content)["Service"]["ExecStart"].split()
            commands.append(command[1])
            assert cli.run([*command[1:], "--help"]) == 0, command
    assert commands == ["serve", "watch", "listen"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("watch", ["/srv/export", "/srv/modality export/100% $HOME", '/srv/a "b" \\c'])
def test_systemd_accepts_the_units(tiny_bundle: Path, tmp_path: Path, watch: str) -> None:
    program = tmp_path / "edge-ct"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    files = plan(tiny_bundle, watch, program=str(program))
    written = [path for path in systemd.write_files(files, tmp_path / "root") if path.suffix == ".service"]
    assert len(written) >= 1
    found = subprocess.run(
        ["systemd-analyze", "verify", *map(str, written)], capture_output=True, text=True, check=False, timeout=60
    )
    own = [line for line in found.stderr.splitlines() if "edge-ct" in line]
    assert (found.returncode, own) == (0, [])


def test_odd_paths_are_quoted() -> None:
    assert systemd._quote("/srv/a b/100%") == '"/srv/a b/100%%"'
    assert systemd._quote("/srv/$HOME") == "/srv/$$HOME"
    assert systemd._quote('a"b\\c') == '"a\\"b\\\\c"'
    with pytest.raises(EdgeCTError, match="control character"):
        systemd._quote("a\nExecStart=/bin/sh")


@pytest.mark.parametrize("user", ["root", "", "Edge", "a b", "x;y", "a" * 40])
def test_users_that_are_refused(tiny_bundle: Path, user: str) -> None:
    with pytest.raises(EdgeCTError, match="unprivileged"):
        plan(tiny_bundle, user=user)


def test_results_need_something_received(tiny_bundle: Path) -> None:
    with pytest.raises(EdgeCTError, match="--listen"):
        plan(tiny_bundle, targets=["PACS@10.0.0.2:104"])


def test_relative_folders_and_damaged_bundles_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError, match="absolute"):
        plan(tiny_bundle, "export")
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(tiny_bundle.read_bytes()[:-1])
    with pytest.raises(ModelRejected):
        plan(damaged)


def test_command_writes_below_a_root_and_overwrites_nothing(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["device", "install", "--model", str(tiny_bundle), "--watch", "/srv/x", "--root", str(tmp_path / "r")]
    assert cli.run([*arguments, "--dry-run"]) == 0
    assert "ExecStart=" in capsys.readouterr().out
    assert not (tmp_path / "r").exists()
    assert cli.run(arguments) == 0
    out, err = capsys.readouterr()
    assert {Path(line) for line in out.splitlines()} == {path for path in (tmp_path / "r").rglob("*") if path.is_file()}
    assert "systemctl enable --now" in err
    (tmp_path / "r/etc/systemd/system/edge-ct-watch.service").write_text("mine")
    assert cli.run(arguments) == 1
    assert (tmp_path / "r/etc/systemd/system/edge-ct-watch.service").read_text() == "mine"
    assert cli.run([*arguments, "--force"]) == 0


def test_uninstall_removes_what_install_wrote_and_keeps_the_worklist(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "r"
    assert cli.run(["device", "install", "--model", str(tiny_bundle), "--watch", "/srv/x", "--root", str(root)]) == 0
    written = {path for path in root.rglob("*") if path.is_file()}
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "edge-ct-serve.service").symlink_to("/etc/systemd/system/edge-ct-serve.service")
    kept = [root / "var/lib/edge-ct/worklist.sqlite", root / "etc/systemd/system/other.service"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    capsys.readouterr()
    assert cli.run(["device", "uninstall", "--root", str(root), "--dry-run"]) == 0
    assert {Path(line) for line in capsys.readouterr().out.splitlines()} == {*written, wants / "edge-ct-serve.service"}
    assert all(path.exists() for path in written)
    assert cli.run(["device", "uninstall", "--root", str(root)]) == 0
    assert {path for path in root.rglob("*") if path.is_file() or path.is_symlink()} == set(kept)
    assert cli.run(["device", "uninstall", "--root", str(root)]) == 0


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_root_is_asked_before_the_system_is_changed(
    command: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(systemd, "write_files", lambda files, root, force: changed.extend(map(str, files)) or [])
    monkeypatch.setattr(systemd, "installed_files", lambda root: [Path("/nowhere/edge-ct-serve.service")])
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: changed.append(str(self)))
    words = ["device", command, *(["--model", str(tiny_bundle)] if command == "install" else [])]
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cli.run(words) == 2
    assert "--yes" in capsys.readouterr().err
    assert changed == []
    assert cli.run([*words, "--yes"]) == 0
    assert changed
