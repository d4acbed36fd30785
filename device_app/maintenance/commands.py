"""`edge-ct doctor` and `edge-ct device`: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from edge_ct.errors import ModelRejected
from edge_ct.shipped_models import find_bundle
from edge_ct.system.progress import print_json, remark

from ..command_options import key_option, model_option, state_option

EXIT_CODES = {"good": 0, "warning": 0, "failure": 10}
_COLOURS = {"good": "green", "warning": "yellow", "failure": "red"}


@click.command(short_help="Check model, machine and worklist of a device.")
@model_option
@key_option
@state_option
@click.option("--again", is_flag=True, help="Run the golden slices even if they passed on this installation before.")
@click.option("--strict", is_flag=True, help="Exit with code 10 on warnings as well as on failures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@click.pass_context
def doctor(
    context: click.Context, model: str | None, key: Path | None, state: Path, again: bool, strict: bool, as_json: bool
) -> None:
    """Check that this device is fit to judge slices. Exit code 10 if a check fails, for monitoring.

    The checks: the bundle's seal, its signature if one is demanded (exit code 4 if it is missing or wrong), its golden
    slices (run once for each bundle, runtime and machine), the runtime, memory, temperature, clock, disk, and the
    worklist with its audit trail.

    \b
    Example:
      edge-ct doctor --model model.tflite --json
    """
    from .doctor import SIGNATURE, examine, worst_status

    checks = examine(find_bundle(model), state, again, key=key)
    status = worst_status(checks)
    if as_json:
        print_json({"status": status, "checks": [msgspec.structs.asdict(check) for check in checks]})
    else:
        for check in checks:
            colour = click.style(f"{check.status:<8}", fg=_COLOURS[check.status])
            click.echo(f"{colour} {check.name:<12} {check.detail}")
    if any(check.name == SIGNATURE and check.status == "failure" for check in checks):
        context.exit(ModelRejected.exit_code)
    context.exit(EXIT_CODES["failure"] if strict and status == "warning" else EXIT_CODES[status])


@click.group(short_help="Install edge-ct as services of a device.")
def device() -> None:
    """Install edge-ct as services of a device."""


@device.command(short_help="Write systemd units that run as an unprivileged user.")
@model_option
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Pin this public key: from then on, every command on the device accepts only bundles signed with it.",
)
@click.option(
    "--watch", type=click.Path(path_type=Path), metavar="DIR", help="Also install a service that watches DIR."
)
@click.option(
    "--listen", "callers", multiple=True, metavar="AET", help="Also receive DICOM from this AE title; can be repeated."
)
@click.option(
    "--to",
    "targets",
    multiple=True,
    metavar="AET@HOST:PORT",
    help="Send the results of received series to this DICOM node; can be repeated.",
)
@click.option("--lan", is_flag=True, help="Make the page reachable from the network, protected by a PIN.")
@click.option(
    "--keep-days",
    type=click.IntRange(1),
    default=90,
    show_default=True,
    help="Delete results that are older than this number of days.",
)
@click.option(
    "--user",
    default="edge-ct",
    show_default=True,
    help="User that the services run as; systemd-sysusers creates it if it does not exist.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    show_default=True,
    help="Root of the system to write to, for example a mounted image.",
)
@click.option("--force", is_flag=True, help="Overwrite units and the bundle if they exist.")
@click.option("--dry-run", is_flag=True, help="Print the files instead of writing them.")
def install(
    model: str | None,
    key: Path | None,
    watch: Path | None,
    callers: tuple[str, ...],
    targets: tuple[str, ...],
    lan: bool,
    keep_days: int,
    user: str,
    root: Path,
    force: bool,
    dry_run: bool,
) -> None:
    """Write systemd units for the page, a watched folder and a DICOM receiver, and a copy of the bundle.

    The services run as an unprivileged user with a read-only view of the system, and keep their worklist in
    /var/lib/edge-ct. The watcher has no access to the network. With --key, the bundle must be signed with that key, and
    the key is pinned in /etc/edge-ct: a bundle without this signature then ends a command with exit code 4.

    \b
    Example:
      sudo edge-ct device install --model model.tflite --watch /srv/export
      sudo systemd-sysusers && sudo systemctl daemon-reload && sudo systemctl enable --now edge-ct-serve edge-ct-watch
    """
    from .systemd import plan_files, unit_names, write_files

    files = plan_files(
        model,
        key=key,
        watch=watch,
        callers=callers,
        targets=targets,
        lan=lan,
        keep_days=keep_days,
        user=user,
    )
    if dry_run:
        for path, content in files.items():
            click.echo(f"# {path}\n{content}" if isinstance(content, str) else f"# {path}: {len(content):,} bytes\n")
        return
    for written in write_files(files, root, force):
        click.echo(written)
    units = " ".join(unit_names(files))
    remark(f"next: systemd-sysusers; systemctl daemon-reload; systemctl enable --now {units}")
