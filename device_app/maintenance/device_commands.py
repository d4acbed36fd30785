"""`edge-ct device`: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click

from edge_ct.shipped_models import find_bundle

from ..command_options import model_option


@click.group(short_help="Install edge-ct as services of a device.")
def device() -> None:
    """Install edge-ct as services of a device."""


@device.command(short_help="Write systemd units, for a user without privileges.")
@model_option
@click.option("--watch", type=click.Path(path_type=Path), metavar="DIR", help="Also watch this folder.")
@click.option("--listen", "callers", multiple=True, metavar="AET", help="Also receive DICOM from this AE title.")
@click.option("--to", "targets", multiple=True, metavar="AET@HOST:PORT", help="Send results of it there.")
@click.option("--lan", is_flag=True, help="Let the page be reached from the network, with a PIN.")
@click.option(
    "--keep-days", type=click.IntRange(1), default=90, show_default=True, help="Results are deleted after so many."
)
@click.option(
    "--user", default="edge-ct", show_default=True, help="Whom the services run as; made where there is none."
)
@click.option("--root", type=click.Path(path_type=Path, file_okay=False), default=Path("/"), show_default=True,
              help="The root of the system to write to: an image that is mounted, say.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite units that are there.")
@click.option("--dry-run", is_flag=True, help="Print the files and write nothing.")
def install(
    model: str | None,
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

    The services run as a user of their own, see a read-only system, and keep their worklist in /var/lib/edge-ct; the
    watcher has no network at all.

    \b
    Example:
      sudo edge-ct device install --model model.tflite --watch /srv/export
      sudo systemd-sysusers && sudo systemctl daemon-reload && sudo systemctl enable --now edge-ct-serve edge-ct-watch
    """
    from . import systemd

    bundle = find_bundle(model)
    files = systemd.plan(bundle, watch, callers, targets, lan, keep_days, user)
    if dry_run:
        for path, content in files.items():
            click.echo(f"# {path}\n{content}" if isinstance(content, str) else f"# {path}: {len(content):,} bytes\n")
        return
    for written in systemd.write(files, root, force):
        click.echo(written)
    units = " ".join(systemd.units(files))
    click.echo(
        f"then: systemd-sysusers; systemctl daemon-reload; systemctl enable --now {units}", err=True
    )  # fmt: skip
