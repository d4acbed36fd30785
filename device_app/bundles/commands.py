"""`edge-ct bundle`: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from edge_ct import signature
from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.manifest import Gate
from edge_ct.shipped_models import find_bundle
from edge_ct.system.files import refuse_existing, write_bytes
from edge_ct.system.progress import print_json

from . import operators


@click.group(short_help="Look into a bundle, verify or sign it.")
def bundle() -> None:
    """Look into a bundle, verify or sign it."""


@bundle.command(short_help="What a bundle says of itself.")
@click.argument("path", metavar="BUNDLE")
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON.")
@click.option("--operators", "with_operators", is_flag=True, help="With --json, operators and signing key beside it.")
def inspect(path: str, as_json: bool, with_operators: bool) -> None:
    """Print a bundle's manifest: network, decision rule, metrics, data, licence; and its operators.

    Operators are listed with their types, and with the targets that do not take them: the CPU delegate XNNPACK (the
    rest runs on plain kernels), LiteRT for Microcontrollers, and Coral's Edge TPU.

    \b
    Example:
      edge-ct bundle inspect model.tflite
    """
    opened = read_bundle(find_bundle(path))
    manifest = opened.manifest
    found, key = operators.of(opened.model, path), signature.signing_key(opened)
    if as_json:
        beside = {"operators": msgspec.to_builtins(found), "signed_by": key} if with_operators else {}
        print_json(msgspec.to_builtins(manifest) | beside)
        return
    zone = manifest.zone
    lines = [
        ("model", f"{opened.identity}, {len(opened.content):,} bytes, {manifest.network.parameters:,} parameters"),
        ("classes", " / ".join(manifest.classes)),
        ("input", f"grey uint8 {manifest.preprocess.size} x {manifest.preprocess.size}"),
        ("operating point", f"P >= {manifest.operating_point.threshold:.3f} for a sensitivity of "
         f"{manifest.operating_point.target_sensitivity:.0%}"),
        ("refer between", "never (no zone)" if zone is None else "{:.3f} and {:.3f}, at the {:.0%} level".format(
            *sorted((zone.positive_from, zone.negative_to)), zone.level)),
        ("data", f"{manifest.data.name}, {manifest.data.split} split, {manifest.data.counts}"),
        ("gate", _gate(manifest.gate)),
        ("rejects", "by its pixels alone" if manifest.outliers is None else
         f"by its pixels, and in doubt by a distance that {manifest.outliers.rate:.1%} of "
         f"{manifest.outliers.cases} {manifest.outliers.split} slices exceed"),
        ("signed by", f"key {key}, to be checked with bundle verify --key" if key else "nobody"),
        ("licence", manifest.licence),
        ("use", manifest.intended_use),
    ]  # fmt: skip
    for name, text in lines:
        click.echo(f"{name:<16} {text}")
    for variant, metrics in manifest.metrics.items():
        shown = (
            f"{name} {'undefined' if metrics[name].value is None else format(metrics[name].value, '.3f')}"
            for name in ("accuracy", "sensitivity", "specificity", "auc")
        )
        click.echo(f"{'test, ' + variant:<16} {', '.join(shown)} (n = {manifest.metrics_n}, {manifest.data.split})")
    for one in found:
        click.echo(f"{'operator':<16} {one.count:4d} x {one.name} {one.type}{_left_out(one)}")


def _gate(gate: Gate | None) -> str:
    if gate is None:
        return "none"
    said = "passed" if gate.passed else "FAILED, written to be looked at"
    return f"{said}: at most {gate.max_drop:g} points lost on {gate.split}, agreement {gate.agreement:.1%}"


def _left_out(one: operators.Operator) -> str:
    takers = {"XNNPACK": one.xnnpack, "microcontrollers": one.micro, "Edge TPU": one.edge_tpu}
    missing = [name for name, takes in takers.items() if not takes]
    return f"  (not on {', '.join(missing)})" if missing else ""


@bundle.command(short_help="Check a bundle's seal, tensors, golden slices, signature.")
@click.argument("path", metavar="BUNDLE")
@click.option("--key", type=click.Path(path_type=Path), help="The public key it must be signed with.")
def verify(path: str, key: Path | None) -> None:
    """Check a bundle's seal, schema and tensors, and run its golden slices; exit code 4 where anything is off.

    With --key, also that it was signed with that key and not changed since; a bundle whose signature was taken out
    fails. Without, a signature is not looked at.

    \b
    Example:
      edge-ct bundle verify model.tflite
      edge-ct bundle verify model.tflite --key maker.pub
    """
    opened = read_bundle(find_bundle(path))
    signed = f", signed with key {signature.verify_signature(opened, key)}" if key else ""
    classifier = Classifier(opened)
    classifier.check_golden()
    click.echo(f"{classifier.identity}: good ({len(classifier.manifest.golden)} golden slices as expected{signed})")


@bundle.command(short_help="Make a pair of keys to sign with.")
@click.argument("name", type=click.Path(path_type=Path))
def keygen(name: Path) -> None:
    """Make NAME.key, which signs and which its owner alone can read, and NAME.pub, which verifies.

    Neither overwrites anything. Keep the first off the device.

    \b
    Example:
      edge-ct bundle keygen maker
    """
    private, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    click.echo(f"{private}, {public}: key {signature.generate_keys(private, public)}")


@bundle.command(short_help="Sign a bundle.")
@click.argument("path", metavar="BUNDLE")
@click.option("--key", type=click.Path(path_type=Path), required=True, help="The private key.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The signed bundle.")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def sign(path: str, key: Path, out: Path, force: bool) -> None:
    """Sign a bundle with Ed25519, over every byte of it. A signature that it had is replaced.

    \b
    Example:
      edge-ct bundle sign model.tflite --key maker.key --out signed.tflite
    """
    refuse_existing(out, force)
    opened = read_bundle(path)
    Classifier(opened).check_golden()
    write_bytes(out, signature.sign_bundle(opened, key))
    click.echo(f"{out}: signed with key {signature.signing_key(read_bundle(out))}")
