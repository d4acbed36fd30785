"""`edge-ct serve`: parse, call the library, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_ct.engines.names import EngineName
from edge_ct.errors import EdgeCTError
from edge_ct.system.progress import print_json, remark

from ..command_options import (
    delete_unreviewed_option,
    engine_option,
    keep_days_option,
    key_option,
    model_option,
    state_option,
)
from ..watchdog import watchdog

if TYPE_CHECKING:
    from .server import Server


@click.command(short_help="Serve the worklist as a local web page.")
@model_option
@key_option
@state_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8042,
    show_default=True,
    help="TCP port to serve on; 0 chooses a free port.",
)
@click.option("--lan", is_flag=True, help="Serve other machines as well, behind a PIN.")
@click.option("--pin", envvar="EDGE_CT_PIN", metavar="DIGITS", help="Set the PIN for --lan: 6 to 32 digits.")
@click.option("--name", "names", multiple=True, metavar="HOST", help="Answer to this host name, too; may be repeated.")
@click.option(
    "--folder",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Offer this folder and those below it on the page, such as the mount point of USB sticks; may be repeated.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 16),
    default=2,
    show_default=True,
    help="Number of slices judged at the same time.",
)
@engine_option
@keep_days_option
@delete_unreviewed_option
@click.option(
    "--language",
    type=click.Choice(["en", "pt-BR"]),
    default="en",
    show_default=True,
    help="Language for browsers that ask for neither.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output when ready.")
def serve(
    model: str | None,
    key: Path | None,
    state: Path,
    port: int,
    lan: bool,
    pin: str | None,
    names: tuple[str, ...],
    roots: tuple[Path, ...],
    workers: int,
    engine: EngineName,
    keep_days: int | None,
    delete_unreviewed: bool,
    language: str,
    as_json: bool,
) -> None:
    """Serve the worklist as a web page to this machine, and with --lan to others on the same network or cable.

    An uploaded slice is acknowledged once its result is on the disk. With --lan, the first start makes a PIN and prints
    it once; its hash is stored beside the worklist, and later starts use the same PIN. The traffic is not encrypted:
    use a cable or a network that you trust. SIGTERM and Ctrl-C answer the accepted requests, then stop the server.
    Research use only: triage, never a diagnosis.

    \b
    Example:
      edge-ct serve --model model.tflite
      edge-ct serve --model model.tflite --lan --folder /media
    """
    if pin is not None and not lan:
        raise click.UsageError("--pin needs --lan; without it, only this machine can open the page")
    from .server import ServeOptions, open_server

    options = ServeOptions(
        model, state, port, lan, pin, names, roots, workers, keep_days, language, key, engine, delete_unreviewed
    )
    server = open_server(options)
    with watchdog(server.is_healthy, os.environ):
        finished = server.run(lambda: _announce(server, as_json))
    if not finished:
        raise EdgeCTError("stopped before all requests were answered; acknowledged slices are in the worklist")
    remark("stopped; all acknowledged slices are in the worklist")


def _announce(server: Server, as_json: bool) -> None:
    """Print the addresses of the page, and a new PIN."""
    model, urls, pin = server.services.bundle.identity, server.urls, server.new_pin
    if as_json:
        print_json({"ready": True, "urls": urls, "pin": pin, "model": model, "pid": os.getpid()})
        return
    click.echo(f"ready: {urls[0]}  (model {model}; press Ctrl-C to stop)")
    if server.services.gate is None:
        return
    for url in urls[1:]:
        click.echo(f"       {url}")
    if urls[1:]:
        import segno

        segno.make(urls[1], error="m").terminal(compact=True)
    click.echo(
        f"PIN {pin}: it is shown only once; write it down"
        if pin
        else "PIN: the one given with --pin, or printed at the first start"
    )
    click.echo("Research use only: triage, not a diagnosis.")
