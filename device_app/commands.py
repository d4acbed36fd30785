"""`edge-ct classify` and `edge-ct bundle`: parse, call, print."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from edge_ct import bundle as bundles
from edge_ct import quiet
from edge_ct.classifier import Classifier, Result
from edge_ct.errors import InputRejected, ModelRejected
from edge_ct.progress import print_json

_COLOURS = {"positive": "red", "refer": "yellow", "negative": "green", "rejected": "magenta"}


@click.command(short_help="Judge CT slices, offline.")
@click.argument("sources", nargs=-1, required=True, metavar="PATH...")
@click.option("--model", metavar="BUNDLE", help="The bundle to use. No model is shipped with this version.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
@click.option("--heatmap", type=click.Path(path_type=Path, file_okay=False), help="Write overlays to this folder.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Threads of the interpreter.")
@click.pass_context
def classify(
    context: click.Context,
    sources: tuple[str, ...],
    model: str | None,
    as_json: bool,
    heatmap: Path | None,
    threads: int,
) -> None:
    """Judge PNG, JPEG, TIFF or DICOM slices: files, folders, or - for one image on standard input.

    Each slice is positive, negative, refer (too close to call) or rejected (cannot be judged). A file that cannot be
    read is a rejected row; the exit code is then 3. Research use only: triage, never a diagnosis.

    \b
    Example:
      edge-ct classify slice.png --model model.tflite
      edge-ct classify study/ --model model.tflite --json --heatmap maps/
    """
    from . import judging

    if model is None:
        raise ModelRejected("no model is shipped with this version; name a bundle with --model")
    classifier = Classifier(model, threads)
    if heatmap and classifier.manifest.tensors.class_map is None:
        click.echo(f"no heat maps: {classifier.manifest.network.architecture} has no class map", err=True)
        heatmap = None
    counts: Counter[str] = Counter()
    with quiet.native_stderr():
        for judgement in judging.judge_all(classifier, sources):
            result = judgement.result
            counts[result.decision] += 1
            print_json(result) if as_json else click.echo(_row(result))
            if heatmap:
                from . import heatmap as pictures

                pictures.write(judgement, classifier.manifest.calibration, heatmap)
    summary = ", ".join(f"{counts[name]} {name}" for name in _COLOURS)
    click.echo(f"{summary}. Research use only: triage, not a diagnosis.", err=True)
    if counts["rejected"]:
        context.exit(InputRejected.exit_code)


def _row(result: Result) -> str:
    decision = click.style(f"{result.decision:<9}", fg=_COLOURS[result.decision], bold=True)
    p = "      " if result.probability is None else f"{result.probability:6.1%}"
    reason = f"  ({result.reason})" if result.reason else ""
    return f"{decision} {p}  {result.source}{reason}"


@click.group(short_help="Look into a bundle, or verify it.")
def bundle() -> None:
    """Look into a bundle, or verify it."""


@bundle.command(short_help="What a bundle says of itself.")
@click.argument("path", metavar="BUNDLE")
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON.")
def inspect(path: str, as_json: bool) -> None:
    """Print a bundle's manifest: network, decision rule, metrics, data, licence.

    \b
    Example:
      edge-ct bundle inspect model.tflite
    """
    opened = bundles.read(path)
    manifest = opened.manifest
    if as_json:
        print_json(manifest)
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


@bundle.command(short_help="Check a bundle's seal, tensors and golden slices.")
@click.argument("path", metavar="BUNDLE")
def verify(path: str) -> None:
    """Check a bundle's seal, schema and tensors, and run its golden slices; exit code 4 where anything is off.

    \b
    Example:
      edge-ct bundle verify model.tflite
    """
    classifier = Classifier(path)
    classifier.check_golden()
    click.echo(f"{classifier.identity}: good ({len(classifier.manifest.golden)} golden slices as expected)")
