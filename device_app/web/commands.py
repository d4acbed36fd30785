"""`edge-ct serve`: parse, call, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_ct.bundle import read_bundle
from edge_ct.errors import EdgeCTError
from edge_ct.shipped_models import find_bundle
from edge_ct.system.progress import print_json

from ..command_options import keep_days_option, model_option, state_option

if TYPE_CHECKING:
    from .services import Desk


@click.command(short_help="The worklist as a local web page.")
@model_option
@state_option
@click.option("--port", type=click.IntRange(0, 65535), default=8042, show_default=True, help="0 takes any free one.")
@click.option("--lan", is_flag=True, help="Serve other machines too, behind a PIN.")
@click.option("--pin", envvar="EDGE_CT_PIN", metavar="DIGITS", help="With --lan: a PIN of 6 to 32 digits.")
@click.option("--name", "names", multiple=True, metavar="HOST", help="Another host name to answer to.")
@click.option(
    "--folder",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Offer this folder of the device on the page (where USB sticks appear, say), and all below it.",
)
@click.option("--workers", type=click.IntRange(1, 16), default=2, show_default=True, help="Slices judged at once.")
@keep_days_option
@click.option(
    "--language",
    type=click.Choice(["en", "pt-BR"]),
    default="en",
    show_default=True,
    help="For browsers that ask for neither.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output when ready.")
@click.pass_context
def serve(
    context: click.Context,
    model: str | None,
    state: Path,
    port: int,
    lan: bool,
    pin: str | None,
    names: tuple[str, ...],
    roots: tuple[Path, ...],
    workers: int,
    keep_days: int | None,
    language: str,
    as_json: bool,
) -> None:
    """Serve the worklist as a web page to this machine, and with --lan to a phone on the same cable or network.

    A slice is acknowledged when its row is on the disk. --lan makes a PIN at the first start, prints it once and keeps
    a hash of it beside the worklist; later starts ask for the same one. The traffic is not encrypted: use a cable or a
    network that you trust. SIGTERM and Ctrl-C finish what was taken, then stop. Research use only: triage, never a
    diagnosis.

    \b
    Example:
      edge-ct serve --model model.tflite
      edge-ct serve --model model.tflite --lan --folder /media
    """
    if pin is not None and not lan:
        raise click.UsageError("--pin goes with --lan; without it the page is this machine's alone")
    from ..worklist.worklist import Worklist
    from . import pin as pins
    from . import request_checks, server
    from .services import Desk

    bundle = read_bundle(find_bundle(model))
    book = Worklist(state)
    bound = server.bind(port, lan)
    port = bound.getsockname()[1]
    gate, told = None, None
    if lan:
        digest, told = pins.establish(book.folder / pins.FILE, pin)
        gate = pins.Gate(digest)
    desk = Desk(
        bundle,
        book,
        request_checks.hosts(port, lan, names),
        roots=roots,
        gate=gate,
        workers_count=workers,
        language=language,
        keep_days=keep_days,
    )
    # The interpreters load while Flask is being imported.
    desk.open()
    try:
        running = server.Server(desk, bound)
    except BaseException:
        desk.workers.settle()
        raise
    given = pin is not None

    def ready() -> None:
        _announce(desk, port, server.addresses() if lan else [], None if given else told, as_json)

    if not running.run(ready):
        raise EdgeCTError("stopped before all requests were answered; what was acknowledged is in the worklist")
    click.echo("stopped; what was acknowledged is in the worklist", err=True)


def _announce(desk: Desk, port: int, addresses: list[str], pin: str | None, as_json: bool) -> None:
    """Say where the page is, once slices can be judged."""
    urls = [f"http://{address}:{port}/" for address in ["127.0.0.1", *addresses]]
    if as_json:
        print_json({"ready": True, "urls": urls, "pin": pin, "model": desk.bundle.identity, "pid": os.getpid()})
        return
    click.echo(f"ready: {urls[0]}  (model {desk.bundle.identity}; Ctrl-C stops)")
    if desk.gate is None:
        return
    for url in urls[1:]:
        click.echo(f"       {url}")
    if urls[1:]:
        import segno

        segno.make(urls[1], error="m").terminal(compact=True)
    click.echo(f"PIN {pin}: shown this once; note it" if pin else "PIN: as given, or as at the first start")
    click.echo("Research use only: triage, not a diagnosis.")
