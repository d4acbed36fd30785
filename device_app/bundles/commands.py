"""`edge-ct bundle`: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from edge_ct.bundle import Bundle, read_bundle
from edge_ct.classifier import Classifier
from edge_ct.errors import ModelRejected
from edge_ct.reporting.counts import count_of
from edge_ct.shipped_models import complete_bundle, find_bundle
from edge_ct.system.files import refuse_existing, write_bytes
from edge_ct.system.progress import print_json
from edge_ct.trust import signature
from edge_ct.trust.opening import is_shipped, try_once

from .operators import count_operators
from .summary import summarise


@click.group(short_help="Inspect, verify, sign or export a bundle.")
def bundle() -> None:
    """Inspect, verify, sign or export a bundle."""


@bundle.command(short_help="Show the manifest and the operators of a bundle.")
@click.argument("path", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
@click.option(
    "--operators", "with_operators", is_flag=True, help="Add the operators and the signing key to the JSON output."
)
def inspect(path: str, as_json: bool, with_operators: bool) -> None:
    """Show a bundle's manifest: network, decision rule, metrics, data and licence; and its operators.

    Each operator is listed with its type and with the targets that do not support it: the CPU delegate XNNPACK (the
    operator then runs on slower kernels), LiteRT for Microcontrollers, and the Coral Edge TPU.

    \b
    Example:
      edge-ct bundle inspect model.tflite
    """
    opened = read_bundle(find_bundle(path))
    operators, key = count_operators(opened.model, path), signature.signing_key(opened)
    if as_json:
        added = {"operators": msgspec.to_builtins(operators), "signed_by": key} if with_operators else {}
        print_json(msgspec.to_builtins(opened.manifest) | added)
        return
    for name, text in summarise(opened, operators, key):
        click.echo(f"{name:<16} {text}")


@bundle.command(short_help="Verify seal, tensors, golden slices and signature.")
@click.argument("path", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option(
    "--key", type=click.Path(path_type=Path), help="Public key that the bundle must be signed with; a .pub file."
)
def verify(path: str, key: Path | None) -> None:
    """Verify a bundle's seal, schema and tensors, and run its golden slices. Exit code 4 if anything is wrong.

    With --key, the bundle must also be signed with that key and unchanged since; a bundle without a signature fails.
    Without --key, a signature is not checked.

    \b
    Example:
      edge-ct bundle verify model.tflite
      edge-ct bundle verify model.tflite --key maker.pub
    """
    opened = read_bundle(find_bundle(path))
    signed = f", signed with key {signature.verify_signature(opened, key)}" if key else ""
    _check_golden(opened)
    click.echo(f"{opened.identity}: good ({count_of(len(opened.manifest.golden), 'golden slice')} as expected{signed})")


@bundle.command(short_help="Generate a pair of keys to sign bundles with.")
@click.argument("name", type=click.Path(path_type=Path))
def keygen(name: Path) -> None:
    """Generate NAME.key, which signs bundles and is readable by its owner only, and NAME.pub, which verifies them.

    Existing files are never overwritten. Keep the private key off the device.

    \b
    Example:
      edge-ct bundle keygen maker
    """
    private, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    click.echo(f"{private}, {public}: key {signature.generate_keys(private, public)}")


@bundle.command(short_help="Sign a bundle with a private key.")
@click.argument("path", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option(
    "--key", type=click.Path(path_type=Path), required=True, help="Private key to sign with, made by bundle keygen."
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write the signed bundle to."
)
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
def sign(path: str, key: Path, out: Path, force: bool) -> None:
    """Sign all bytes of a bundle with Ed25519. A signature that the bundle already has is replaced.

    \b
    Example:
      edge-ct bundle sign model.tflite --key maker.key --out signed.tflite
    """
    refuse_existing(out, force)
    opened = read_bundle(find_bundle(path))
    _check_golden(opened)
    write_bytes(out, signature.sign_bundle(opened, key))
    click.echo(f"{out}: signed with key {signature.signing_key(read_bundle(out))}")


@bundle.command(short_help="Write the graph of a bundle in another format.")
@click.argument("path", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option(
    "--onnx",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="ONNX file to write; the manifest is written beside it as JSON.",
)
@click.option("--force", is_flag=True, help="Overwrite the files if they exist.")
def export(path: str, out: Path, force: bool) -> None:
    """Write the graph of a bundle as ONNX, with its quantised operators, for other runtimes. Needs the extra onnx.

    The file has no seal, no signature and no golden slices, and other runtimes round differently: compare it with the
    bundle on the golden slices before you use it.

    \b
    Example:
      edge-ct bundle export model.tflite --onnx model.onnx
    """
    from .onnx_export import to_onnx

    manifest = out.with_suffix(".json")
    refuse_existing(out, force)
    refuse_existing(manifest, force)
    opened = read_bundle(find_bundle(path))
    write_bytes(out, to_onnx(opened))
    write_bytes(manifest, opened.member("manifest.json"))
    click.echo(f"{out}, {manifest}")


def _check_golden(opened: Bundle) -> None:
    """Run the golden slices. Raises `ModelRejected` if one comes out differently, or if there are none."""
    if not opened.manifest.golden:
        raise ModelRejected(f"{opened.source}: it has no golden slices; make it again with edge-ct convert")
    if is_shipped(opened):
        Classifier(opened).check_golden()
    else:
        try_once(opened, memory=None)
