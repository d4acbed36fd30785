"""`edge-ct listen`, `edge-ct send` and `edge-ct export`: parse, call, print."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_ct import slices
from edge_ct.bundle import read_bundle
from edge_ct.errors import EdgeCTError, InputRejected
from edge_ct.shipped_models import find_bundle
from edge_ct.system.files import refuse_existing

from ..command_options import model_option, state_option
from ..worklist.worklist import Worklist
from .node import Node
from .node import Options as NodeOptions
from .peers import Peer, aet, networks, tls
from .receive.listener import Listener, silence_libraries
from .receive.listener import Options as ListenOptions
from .receive.spool import Spool
from .send.outbox import Outbox, Target, parcel_of
from .send.targets import StoreTarget, WebTarget

Value = TypeVar("Value")
_MIB = 1 << 20


def _checked(read: Callable[[str], Value]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that turns a ValueError of `read` into wrong usage."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return tuple(map(read, value)) if isinstance(value, tuple) else value and read(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def _network(text: str) -> str:
    networks([text])
    return text


def _file(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(name, type=click.Path(path_type=Path, dir_okay=False), help=text)


def _target_options(command: Any) -> Any:
    """Where results go, and how we say who we are."""
    for option in (
        _file("--tls-ca", "Certificate of the authority that signed the other side's."),
        _file("--tls-key", "Our private key."),
        _file("--tls-cert", "Our certificate, PEM: TLS, with certificates on both sides."),
        click.option(
            "--aet", "title", default="EDGECT", show_default=True, callback=_checked(aet), help="Our AE title."
        ),
        click.option("--stow", multiple=True, metavar="URL", help="Send results to this DICOMweb server."),
        click.option(
            "--to", multiple=True, metavar="AET@HOST:PORT", callback=_checked(Peer.parse), help="Send results here."
        ),
    ):
        command = option(command)
    return command


def _targets(
    to: tuple[Peer, ...], stow: tuple[str, ...], title: str, certificates: tuple[Path | None, ...]
) -> list[Target]:
    context = _context(certificates, server=False)
    try:
        webs = [WebTarget.parse(url, certificates[2]) for url in stow]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--stow") from error
    return [*(StoreTarget(peer, title, context) for peer in to), *webs]


def _certificates(*paths: Path | None) -> tuple[Path | None, ...]:
    if any(paths[:2]) and not all(paths):
        raise click.UsageError("--tls-cert, --tls-key and --tls-ca belong together")
    return paths


def _context(paths: tuple[Path | None, ...], server: bool) -> Any:
    certificate, key, authority = paths
    return tls(certificate, key, authority, server) if certificate and key and authority else None


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", force=True)
    for name in ("edge_ct.listen", "edge_ct.send"):
        logging.getLogger(name).setLevel(logging.INFO)
    silence_libraries()


@click.command(short_help="Receive CT series over DICOM, judge them, send results back.")
@model_option
@state_option
@_target_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=11112, show_default=True, help="0: any that is free.")
@click.option("--allow-aet", multiple=True, callback=_checked(aet), help="Who may call, by AE title.")
@click.option("--allow-address", multiple=True, callback=_checked(_network), help="Who may call: 192.168.7.0/24.")
@click.option("--anybody", is_flag=True, help="On other addresses than loopback: let every AE title and address call.")
@click.option("--associations", type=click.IntRange(1, 100), default=10, show_default=True, help="At once.")
@click.option("--max-object", type=click.IntRange(1, 2048), default=256, show_default=True, help="MiB of one object.")
@click.option("--max-spool", type=click.IntRange(1), default=16384, show_default=True, help="MiB of all that is kept.")
@click.option("--min-free", type=click.IntRange(1), default=256, show_default=True, help="MiB left free on the disk.")
@click.option("--quiet", type=click.FloatRange(0.1), default=10.0, show_default=True,
              help="Seconds without a new object after which a series is judged.")  # fmt: skip
@click.option("--captures", type=click.IntRange(0, 50), default=3, show_default=True, help="Heat maps of a series.")
@click.option("--keep-hours", type=click.FloatRange(0), default=24.0, show_default=True,
              help="How long objects stay on the disk after their result.")  # fmt: skip
@click.option("--show-identity", is_flag=True, help="Keep PatientID in clear in the worklist, not its pseudonym.")
def listen(
    model: str | None,
    state: Path,
    to: tuple[Peer, ...],
    stow: tuple[str, ...],
    title: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    host: str,
    port: int,
    allow_aet: tuple[str, ...],
    allow_address: tuple[str, ...],
    anybody: bool,
    associations: int,
    max_object: int,
    max_spool: int,
    min_free: int,
    quiet: float,
    captures: int,
    keep_hours: float,
    show_identity: bool,
) -> None:
    """Take CT series by C-STORE; judge each when it is complete or quiet; send a structured report and heat maps back.

    What is acknowledged is on the disk and in the worklist. Patients are known by a pseudonymised key. The log, on
    standard error, holds no names. Research use only: triage, never a diagnosis.

    \b
    Example:
      edge-ct listen --model model.tflite --host 0.0.0.0 --allow-aet ORTHANC --to ORTHANC@192.168.7.2:4242
    """
    path = find_bundle(model)
    if host not in ("127.0.0.1", "::1", "localhost") and not (allow_aet or allow_address or anybody):
        raise click.UsageError("name who may call with --allow-aet or --allow-address, or say --anybody")
    certificates = _certificates(tls_cert, tls_key, tls_ca)
    server = _context(certificates, server=True)
    targets = _targets(to, stow, title, certificates)
    _log_to_stderr()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Worklist(state) as worklist:
        spool = Spool(state / "dicom", worklist, max_spool * _MIB, min_free * _MIB)
        options = NodeOptions(quiet, captures, show_identity=show_identity, keep_seconds=3600 * keep_hours)
        node = Node(worklist, spool, read_bundle(path), targets, options)
        node.start()
        listener = Listener(
            spool,
            node.arrived,
            ListenOptions(
                title, host, port, allow_aet, allow_address, associations, max_object * _MIB, 2 * max_object * _MIB,
                context=server,
            ),
        )  # fmt: skip
        click.echo(f"{title}@{host}:{listener.port} listens. Research use only.", err=True)
        stop.wait()
        listener.stop()
        node.stop()


@click.command(short_help="Send DICOM objects, or what still waits to be sent.")
@click.argument("sources", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))
@state_option
@_target_options
@click.option("--again", is_flag=True, help="Try what was given up, or waits for its next turn, now.")
def send(
    sources: tuple[Path, ...],
    state: Path,
    to: tuple[Peer, ...],
    stow: tuple[str, ...],
    title: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    again: bool,
) -> None:
    """Send files and folders of DICOM objects; without a PATH, what waits in the outbox for these targets.

    Everything goes through the worklist's outbox: what could not be sent waits there, for `listen` or the next `send`.
    Exit code 1 where something still waits.

    \b
    Example:
      edge-ct send --to ORTHANC@127.0.0.1:4242
    """
    targets = _targets(to, stow, title, _certificates(tls_cert, tls_key, tls_ca))
    if not targets:
        raise click.UsageError("name a target with --to or --stow")
    _log_to_stderr()
    with Worklist(state) as worklist:
        outbox = Outbox(worklist)
        for source in sources:
            for path in slices.find(source) if source.is_dir() else [source]:
                parcel = parcel_of(path)
                for target in targets:
                    outbox.put(parcel, str(target))
        if again:
            outbox.again()
        taken, failed = (sum(counts) for counts in zip(*map(outbox.deliver, targets), strict=True))
        waiting = outbox.counts()["waiting"]
    click.echo(f"{taken} taken, {failed} not; {waiting} wait in the outbox", err=True)
    if failed:
        raise EdgeCTError("not everything was taken; it waits, and the log above says why")


@click.command(short_help="De-identify CT objects for research.")
@click.argument("sources", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))
@click.option("--deidentify", is_flag=True, required=True, help="By PS3.15's Basic Profile; there is no other export.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder to write.")
@click.option("--force", is_flag=True, help="Write into a folder that holds something.")
@state_option
@click.pass_context
def export(
    context: click.Context, sources: tuple[Path, ...], deidentify: bool, out: Path, force: bool, state: Path
) -> None:
    """Write CT objects without what names a patient, by PS3.15's Basic Application Level Confidentiality Profile.

    Files and folders; without a PATH, what `listen` has received and still keeps. The device key gives each patient a
    stable key and each UID a stable other one: keep that key where the export does not go. Pixels are not looked at.

    \b
    Example:
      edge-ct export study/ --deidentify --out for-research
    """
    from ..pseudonym import device_key
    from . import deidentify as profile

    assert deidentify
    refuse_existing(out, force)
    silence_libraries()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths = [
        path
        for source in sources or (state / "dicom" / "in",)
        for path in (slices.find(source) if source.is_dir() else [source])
    ]
    written = refused = 0
    for _, reason in profile.export(paths, out, device_key(state)):
        if reason:
            refused += 1
            click.echo(f"edge-ct: {reason}", err=True)
        else:
            written += 1
    click.echo(f"{written} written to {out}, {refused} refused. Look at them before they leave the house.", err=True)
    if refused:
        context.exit(InputRejected.exit_code)
