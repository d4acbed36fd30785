"""`edge-ct listen`, `edge-ct send` and `edge-ct export`: parse, call the library, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from edge_ct.engines.names import EngineName
from edge_ct.errors import EdgeCTError, InputRejected
from edge_ct.reporting.counts import count_of
from edge_ct.system.files import refuse_existing
from edge_ct.system.progress import remark
from edge_ct.trust.opening import open_bundle

from ..command_options import engine_option, key_option, model_option, state_option
from ..worklist.worklist import Worklist
from .connection_options import Connection, check_network, connection_options, parsed_by
from .deidentify import export_files, find_sources
from .node import NodeOptions
from .peers import parse_ae_title
from .receive.listener import ListenerOptions, silence_libraries
from .send.outbox import send_files
from .service import log_to_stderr, run_until_stopped

_MIB = 1 << 20
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command(short_help="Receive CT series over DICOM, judge them, send results back.")
@model_option
@key_option
@state_option
@engine_option
@connection_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=11112,
    show_default=True,
    help="TCP port to listen on; 0 chooses a free port.",
)
@click.option(
    "--allow-aet",
    multiple=True,
    callback=parsed_by(parse_ae_title),
    help="Accept calls from this AE title; may be repeated.",
)
@click.option(
    "--allow-address",
    multiple=True,
    callback=parsed_by(check_network),
    help="Accept calls from this address or network, such as 192.168.7.0/24; may be repeated.",
)
@click.option("--anybody", is_flag=True, help="Accept calls from every AE title and address, also beyond loopback.")
@click.option(
    "--associations",
    type=click.IntRange(1, 100),
    default=10,
    show_default=True,
    help="Maximum number of simultaneous associations.",
)
@click.option(
    "--max-object",
    type=click.IntRange(1, 2048),
    default=256,
    show_default=True,
    help="Maximum size of one object in MiB.",
)
@click.option(
    "--max-spool",
    type=click.IntRange(1),
    default=16384,
    show_default=True,
    help="Maximum size of all stored objects in MiB.",
)
@click.option(
    "--min-free", type=click.IntRange(1), default=256, show_default=True, help="Disk space in MiB that must stay free."
)
@click.option(
    "--quiet",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    help="Seconds without a new object after which a series is judged.",
)
@click.option(
    "--captures",
    type=click.IntRange(0, 50),
    default=3,
    show_default=True,
    help="Maximum number of heat maps sent for a series.",
)
@click.option(
    "--keep-hours",
    type=click.FloatRange(0),
    default=24.0,
    show_default=True,
    help="Hours for which objects stay on the disk after their result.",
)
@click.option("--show-identity", is_flag=True, help="Store PatientID in clear in the worklist, not its pseudonym.")
def listen(
    model: str | None,
    key: Path | None,
    state: Path,
    engine: EngineName,
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
    **connection: Any,
) -> None:
    """Receive CT series by C-STORE, judge each when it is complete or quiet, and send a report and heat maps back.

    An object is acknowledged once it is on the disk and in the queue of the worklist. Patients are stored under a
    pseudonym. The log on standard error holds no names. Research use only: triage, never a diagnosis.

    \b
    Example:
      edge-ct listen --model model.tflite --host 0.0.0.0 --allow-aet ORTHANC --to ORTHANC@192.168.7.2:4242
    """
    if host not in _LOOPBACK and not (allow_aet or allow_address or anybody):
        raise click.UsageError("name the allowed callers with --allow-aet or --allow-address, or give --anybody")
    peers = Connection(**connection)
    listener_options = ListenerOptions(
        title=peers.title,
        host=host,
        port=port,
        titles=allow_aet,
        addresses=allow_address,
        associations=associations,
        max_object=max_object * _MIB,
        max_memory=2 * max_object * _MIB,
        context=peers.context(server=True),
    )
    targets = peers.targets()
    log_to_stderr()
    run_until_stopped(
        state,
        open_bundle(model, key, state),
        targets,
        listener_options=listener_options,
        node_options=NodeOptions(
            quiet, captures, show_identity=show_identity, keep_seconds=3600 * keep_hours, engine=engine
        ),
        max_spool=max_spool * _MIB,
        min_free=min_free * _MIB,
        ready=lambda port: remark(f"{peers.title}@{host}:{port} listens. Research use only."),
        environment=os.environ,
    )


@click.command(short_help="Send DICOM objects, or those that wait in the outbox.")
@click.argument("sources", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))
@state_option
@connection_options
@click.option("--again", is_flag=True, help="Retry now what was given up or waits for its next try.")
def send(sources: tuple[Path, ...], state: Path, again: bool, **connection: Any) -> None:
    """Send DICOM files and folders of them. Without a PATH, send what waits in the outbox for the named targets.

    All objects pass through the outbox of the worklist: an object that cannot be sent waits there for `listen` or the
    next `send`. The exit code is 1 if an object could not be sent.

    \b
    Example:
      edge-ct send --to ORTHANC@127.0.0.1:4242
    """
    targets = Connection(**connection).targets()
    if not targets:
        raise click.UsageError("name a target with --to or --stow")
    log_to_stderr()
    with Worklist(state) as worklist:
        counts = send_files(worklist, sources, targets, retry=again)
    remark(
        f"{count_of(counts.delivered, 'object')} delivered, {counts.failed} not delivered; {counts.waiting} "
        "wait in the outbox",
    )
    if counts.failed:
        raise EdgeCTError("some objects were not delivered: see the log above; they wait in the outbox")


@click.command(short_help="De-identify CT objects for research.")
@click.argument("sources", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))
@click.option(
    "--deidentify",
    is_flag=True,
    required=True,
    help="De-identify by the Basic Profile of PS3.15; required, as there is no other export.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write the de-identified objects to.",
)
@click.option("--force", is_flag=True, help="Write into a folder that is not empty.")
@state_option
@click.pass_context
def export(
    context: click.Context, sources: tuple[Path, ...], deidentify: bool, out: Path, force: bool, state: Path
) -> None:
    """Write CT objects without patient identity, by the Basic Application Level Confidentiality Profile of PS3.15.

    PATH is a file or a folder; without one, the objects that `listen` has received and still stores are exported. The
    device key gives each patient a stable pseudonym and each object a stable new UID: never publish that key with the
    export. Pixels are not checked for text.

    \b
    Example:
      edge-ct export study/ --deidentify --out for-research
    """
    from ..pseudonym import device_key

    assert deidentify
    refuse_existing(out, force)
    silence_libraries()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = refused = 0
    for _, reason in export_files(find_sources(sources or [state / "dicom" / "in"]), out, device_key(state)):
        if reason:
            refused += 1
            click.echo(f"edge-ct: {reason}", err=True)
        else:
            written += 1
    remark(
        f"{count_of(written, 'object')} written to {out}, {refused} refused. Check them before you share them.",
    )
    if refused:
        context.exit(InputRejected.exit_code)
