"""`edge-ct doctor` and `edge-ct device`: parse, call, print."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from edge_ct.errors import ModelRejected
from edge_ct.reporting.counts import count_of
from edge_ct.shipped_models import find_bundle
from edge_ct.system.progress import print_json, remark

from ..command_options import delete_unreviewed_option, key_option, model_option, state_option

if TYPE_CHECKING:
    from .doctor import Check

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
        click.echo(_closing_line(checks))
    if any(check.name == SIGNATURE and check.status == "failure" for check in checks):
        context.exit(ModelRejected.exit_code)
    context.exit(EXIT_CODES["failure"] if strict and status == "warning" else EXIT_CODES[status])


def _closing_line(checks: list[Check]) -> str:
    numbers = Counter(check.status for check in checks)
    counts = (
        f"{numbers['good']} good, {count_of(numbers['warning'], 'warning')}, {count_of(numbers['failure'], 'failure')}"
    )
    if numbers["failure"]:
        return f"{counts}: do not judge slices on this device before the failures are mended"
    if numbers["warning"]:
        return f"{counts}: this device can judge slices; look at the warnings"
    return f"{counts}: this device is fit to judge slices"


@click.group(short_help="Install edge-ct as services of a device.")
def device() -> None:
    """Install edge-ct as services of a device, or uninstall them."""


_root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    show_default=True,
    help="Root of the system to change, for example a mounted image.",
)
_yes_option = click.option("--yes", is_flag=True, help="Do not ask before the files of this system are changed.")


def _confirm_as_root(action: str, files: Sequence[Path], root: Path, yes: bool) -> None:
    """Ask before files of the running system are changed as root; without a terminal, --yes must have answered."""
    if yes or root.resolve() != Path("/") or os.geteuid() != 0:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this changes files of the system as root: look at --dry-run, then add --yes")
    listed = "".join(f"  {path}\n" for path in files)
    click.confirm(f"{listed}{action} these files as root?", abort=True, err=True)


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
    type=click.IntRange(1, 36_500),
    default=90,
    show_default=True,
    help="Delete results that are older than this number of days.",
)
@delete_unreviewed_option
@click.option(
    "--user",
    default="edge-ct",
    show_default=True,
    help="User that the services run as; systemd-sysusers creates it if it does not exist.",
)
@_root_option
@click.option("--force", is_flag=True, help="Overwrite units and the bundle if they exist.")
@click.option("--dry-run", is_flag=True, help="Print the files instead of writing them.")
@_yes_option
def install(
    model: str | None,
    key: Path | None,
    watch: Path | None,
    callers: tuple[str, ...],
    targets: tuple[str, ...],
    lan: bool,
    keep_days: int,
    delete_unreviewed: bool,
    user: str,
    root: Path,
    force: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Write systemd units for the page, a watched folder and a DICOM receiver, and a copy of the bundle.

    The services run as an unprivileged user with a read-only view of the system, and keep their worklist in
    /var/lib/edge-ct. The watcher has no access to the network. As root the command lists the files and asks before it
    writes them; --yes answers. With --key, the bundle must be signed with that key, and
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
        delete_unreviewed=delete_unreviewed,
        user=user,
    )
    if dry_run:
        for path, content in files.items():
            click.echo(f"# {path}\n{content}" if isinstance(content, str) else f"# {path}: {len(content):,} bytes\n")
        return
    _confirm_as_root("Write", [root / path.relative_to("/") for path in files], root, yes)
    for written in write_files(files, root, force):
        click.echo(written)
    units = " ".join(unit_names(files))
    remark(f"next: systemd-sysusers; systemctl daemon-reload; systemctl enable --now {units}")


@device.command(short_help="Remove what device install has written.")
@_root_option
@click.option("--dry-run", is_flag=True, help="Print the names of the files instead of removing them.")
@_yes_option
def uninstall(root: Path, dry_run: bool, yes: bool) -> None:
    """Remove the systemd units and the copy of the bundle that `device install` has written.

    The worklist in /var/lib/edge-ct stays, and so does a pinned key in /etc/edge-ct; delete them by hand.

    \b
    Example:
      sudo systemctl disable --now edge-ct-serve edge-ct-watch
      sudo edge-ct device uninstall
    """
    from .systemd import installed_files

    files = installed_files(root)
    if not files:
        remark(f"nothing of edge-ct device install is in {root}")
        return
    if not dry_run:
        _confirm_as_root("Remove", files, root, yes)
    for path in files:
        if not dry_run:
            path.unlink()
        click.echo(path)
    if not dry_run:
        remark("next: systemctl daemon-reload; the worklist in /var/lib/edge-ct was kept")
