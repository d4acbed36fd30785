"""systemd units for a device: the commands they run, their user and the restrictions on them.

Directives: systemd.exec(5), systemd.service(5), systemd.resource-control(5).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from edge_ct.errors import EdgeCTError
from edge_ct.system.files import refuse_existing, write_bytes
from edge_ct.trust.opening import PINNED_KEY, open_bundle

STATE = "/var/lib/edge-ct"
MODEL = "/usr/local/share/edge-ct/model.tflite"
_UNITS = "/etc/systemd/system"
_USERS = "/etc/sysusers.d/edge-ct.conf"

_SERVICE = """\
[Unit]
Description=edge-ct {name}: {what} (research use only)
After=local-fs.target{after}

[Service]
Type=exec
ExecStart={command}
Restart=on-failure
RestartSec=5
User={user}
Group={user}
StateDirectory=edge-ct
StateDirectoryMode=0700
UMask=0077
Nice=5
MemoryMax={memory}
OOMPolicy=continue
WatchdogSec=60
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=setrlimit prlimit64
SystemCallErrorNumber=EPERM
{network}
[Install]
WantedBy=multi-user.target
"""
_NO_NETWORK = "PrivateNetwork=yes\nRestrictAddressFamilies=AF_UNIX\n"
_LOOPBACK = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\nIPAddressDeny=any\nIPAddressAllow=localhost\n"
_NETWORK = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"


def plan_files(
    model: Path | str | None,
    *,
    key: Path | None = None,
    watch: Path | None,
    callers: Sequence[str],
    targets: Sequence[str],
    lan: bool,
    keep_days: int,
    user: str,
    program: str | None = None,
    delete_unreviewed: bool = False,
) -> dict[PurePosixPath, str | bytes]:
    """Return the files of an installation by their paths on the device.

    Args:
        model: The path of the bundle, or the name of a shipped one; None is the default shipped bundle.
        key: Public key that is pinned and that the bundle must be signed with; None pins no key.
        watch: Folder that a service watches; None for no such service.
        callers: AE titles that DICOM is received from; without any, no service listens.
        targets: AET@HOST:PORT of the DICOM nodes that results are sent to.
        lan: Make the page reachable from the network.
        keep_days: Reviewed results that are older than this number of days are deleted.
        user: User that the services run as.
        program: The `edge-ct` that the units run; by default the one beside this Python.
        delete_unreviewed: Delete old results that nobody has reviewed as well.

    Raises:
        ModelRejected: The bundle is damaged, fails its trial, or is not signed with the key.
        EdgeCTError: systemd would not accept a name or a path.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", user) or user == "root":
        raise EdgeCTError(f"--user {user}: not an unprivileged user; use lower-case letters, digits, - and _")
    if watch is not None and not watch.is_absolute():
        raise EdgeCTError(f"--watch {watch}: not an absolute path; services need one")
    content = open_bundle(model, key).content
    # Not resolved: the Python of a virtual environment links to another Python, which has no edge-ct beside it.
    program = program or str(Path(sys.executable).with_name("edge-ct"))
    common = ["--model", MODEL, "--state", STATE]
    kept = [*common, "--keep-days", str(keep_days), *(["--delete-unreviewed"] if delete_unreviewed else [])]
    # For each service: its description, its command, its memory limit and its access to the network.
    services = {
        "serve": ("the page", ["serve", *kept, *(["--lan"] if lan else [])], "600M", _NETWORK if lan else _LOOPBACK)
    }
    if watch is not None:
        what = f"judges what arrives in {watch}"
        services["watch"] = (what, ["watch", str(watch), "--json", *kept], "600M", _NO_NETWORK)
    if targets and not callers:
        raise EdgeCTError("--to sends the results of received series: also name a sender with --listen AET")
    if callers:
        allowed = [word for caller in callers for word in ("--allow-aet", caller)]
        destinations = [word for target in targets for word in ("--to", target)]
        command = ["listen", "--host", "0.0.0.0", *allowed, *destinations, *common]
        services["listen"] = ("receives DICOM", command, "1500M", _NETWORK)
    files: dict[PurePosixPath, str | bytes] = {
        PurePosixPath(MODEL): content,
        PurePosixPath(_USERS): f'u {user} - "edge-ct services" {STATE}\n',
    }
    if key is not None:
        files[PurePosixPath(PINNED_KEY)] = key.read_bytes()
    for name, (what, arguments, memory, network) in services.items():
        files[PurePosixPath(f"{_UNITS}/edge-ct-{name}.service")] = _SERVICE.format(
            name=name,
            what=what.replace("%", "%%"),
            after=" network.target" if network == _NETWORK else "",
            command=" ".join(_quote(argument) for argument in (program, *arguments)),
            user=user,
            memory=memory,
            network=network,
        )
    return files


def write_files(files: Mapping[PurePosixPath, str | bytes], root: Path, force: bool = False) -> list[Path]:
    """Write the files below `root` and return their paths; without `force`, nothing is written if one exists."""
    targets = {root / path.relative_to("/"): content for path, content in files.items()}
    for target in targets:
        refuse_existing(target, force)
    for target, content in targets.items():
        write_bytes(target, content.encode() if isinstance(content, str) else content)
        target.chmod(0o644)
    return list(targets)


def installed_files(root: Path) -> list[Path]:
    """Return the files of an installation below `root`: units, their links, the user's entry and the bundle.

    The pinned key is not among them: without it the device would accept any bundle. Nor is the worklist.
    """
    units = root / _UNITS.lstrip("/")
    found = [*sorted(units.glob("edge-ct-*.service")), *sorted(units.glob("*.wants/edge-ct-*.service"))]
    found += [root / path.lstrip("/") for path in (_USERS, MODEL)]
    return [path for path in found if path.is_file() or path.is_symlink()]


def unit_names(files: Mapping[PurePosixPath, str | bytes]) -> list[str]:
    """Return the names of the services among the files."""
    return [path.stem for path in files if path.suffix == ".service"]


def _quote(argument: str) -> str:
    """Quote an argument as systemd.service(5) reads it: % and $ are doubled, blanks and quotes need quotes."""
    if any(not c.isprintable() for c in argument):
        raise EdgeCTError(f"{argument!r}: contains a control character; use another path or name")
    text = argument.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[\w@%$+=:,./-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
