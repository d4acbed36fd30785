"""`edge-ct data`, `train`, `ensemble` and `evaluate`: parse, call, print."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_ct.errors import InputRejected
from edge_ct.manifest import Estimate
from edge_ct.progress import Progress, print_json

from .zoo import NETWORKS

_PATH = click.Path(path_type=Path)
_data = click.option("--data", type=_PATH, required=True, help="Folder with a sub-folder a class, or a CSV "
                     "path,label[,group].")  # fmt: skip
_positive = click.option("--positive", default="COVID", show_default=True, help="Name of the positive class.")
_seed = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Fixes everything drawn at random."
)
_force = click.option("--force", is_flag=True, help="Overwrite what is there.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


@click.group(short_help="Make phantom slices; check a dataset.")
def data() -> None:
    """Make phantom slices; check a dataset."""


@data.command(short_help="Write a phantom dataset.")
@click.argument("out", type=_PATH)
@click.option("--patients", type=click.IntRange(2, 100_000), default=60, show_default=True, help="Half are positive.")
@click.option("--slices", type=click.IntRange(1, 500), default=8, show_default=True, help="Slices a patient.")
@click.option("--size", type=click.IntRange(32, 1024), default=224, show_default=True, help="Side in pixels.")
@_seed
@_force
def synth(out: Path, patients: int, slices: int, size: int, seed: int, force: bool) -> None:
    """Write synthetic chest CT slices, labelled, by patient; slices.csv in the folder names the patients as groups.

    \b
    Example:
      edge-ct data synth phantoms --patients 60
      edge-ct train mobilenetv2 --data phantoms/slices.csv --split grouped --size 96 --out runs/phantom
    """
    from . import synth as synthesis

    table = synthesis.write(out, patients, slices, size, seed, force, Progress())
    click.echo(f"{patients * slices} synthetic slices of {patients} phantom patients: {table}")


@data.command(short_help="Look for what is wrong with a dataset.")
@click.argument("path", type=_PATH, metavar="DIR_OR_CSV")
@_positive
@_json
@click.pass_context
def check(context: click.Context, path: Path, positive: str, as_json: bool) -> None:
    """Look for unreadable files, duplicates, contradicting labels, and properties that give the label away.

    Exit code 3 where a file cannot be read, 7 where there are not two classes.

    \b
    Example:
      edge-ct data check slices/
    """
    from . import audit

    found = audit.check(path, positive, Progress())
    if as_json:
        print_json(found)
    else:
        _print_audit(found)
    if found.unreadable:
        context.exit(InputRejected.exit_code)


def _print_audit(found: Any) -> None:
    smallest, median, largest = found.sides
    click.echo(f"{found.n} slices: {', '.join(f'{count} {name}' for name, count in found.classes.items())}")
    click.echo(
        f"formats {found.formats}, channels {found.channels}, sides {smallest} to {largest} px (median {median:g})"
    )
    click.echo(
        f"near-duplicates: {found.near_duplicate_pairs} pairs; {found.slices_in_near_duplicate_groups} slices in "
        f"{found.near_duplicate_groups} groups"
    )
    shown = (f"{name} {'constant' if auc is None else f'{auc:.2f}'}" for name, auc in found.shortcuts.items())
    click.echo(f"label predicted from the container alone (AUC): {', '.join(shown)}")
    for item in found.unreadable[:20]:
        click.echo(f"unreadable: {item.path}: {item.reason}")
    for pair in found.conflicts[:20]:
        click.echo(f"contradicting labels: {pair.first} and {pair.second} (distance {pair.distance})")
    for warning in found.warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}")
    if not found.warnings:
        click.echo("nothing to warn of")


@click.command(short_help="Train a network on labelled slices.")
@click.argument("network", type=click.Choice(NETWORKS))
@_data
@click.option("--out", type=_PATH, required=True, help="The run folder to write.")
@click.option(
    "--weights",
    default="none",
    show_default=True,
    help="none, imagenet (downloaded), or a file of Keras MobileNetV2 weights without top.",
)
@click.option("--size", type=click.IntRange(1, 1024), default=224, show_default=True, help="Side of the input, pixels.")
@click.option("--alpha", type=click.FloatRange(0.1, 2), default=1.0, show_default=True, help="Width of MobileNetV2.")
@click.option(
    "--split",
    type=click.Choice(["random", "grouped"]),
    default="random",
    show_default=True,
    help="grouped keeps patients, or else near-duplicates, together.",
)
@click.option("--validation", type=click.FloatRange(0.01, 0.5), default=0.15, show_default=True, help="Share.")
@click.option("--test", type=click.FloatRange(0.01, 0.5), default=0.2, show_default=True, help="Share.")
@click.option("--epochs", type=click.IntRange(1), default=24, show_default=True, help="At most.")
@click.option(
    "--patience",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Epochs without a lower validation loss before stopping.",
)
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True, help="Slices a step.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=5e-4,
    show_default=True,
    help="Peak, after warm-up and before cosine decay.",
)
@click.option("--dropout", type=click.FloatRange(0, 0.9), default=0.2, show_default=True, help="Before the class map.")
@click.option("--augment", default="standard", show_default=True, help="Policy: none, flips or standard.")
@_positive
@_seed
@click.option("--resume", is_flag=True, help="Go on with the run at --out after its last finished epoch.")
@_force
@_json
def train(data: Path, out: Path, resume: bool, force: bool, as_json: bool, **options: Any) -> None:
    """Train a network: mobilenetv2 or customcnn. The best weights by validation loss are kept and scored.

    \b
    Example:
      edge-ct train mobilenetv2 --data slices/ --weights weights.h5 --out runs/mobilenetv2
      edge-ct train mobilenetv2 --data slices/ --weights weights.h5 --out runs/mobilenetv2 --resume
    """  # fmt: skip
    _quiet_tensorflow()
    from . import fit

    run = fit.train(data, out, fit.Options(**options), resume, force, Progress())
    _print_run(run.folder, as_json)


@click.command(short_help="Average trained runs into one.")
@click.argument("runs", type=_PATH, nargs=-1, required=True, metavar="RUN...")
@click.option("--out", type=_PATH, required=True, help="The run folder to write.")
@_force
@_json
def ensemble(runs: tuple[Path, ...], out: Path, force: bool, as_json: bool) -> None:
    """Combine runs that were trained on the same split into an ensemble: the mean of their softmax outputs.

    \b
    Example:
      edge-ct ensemble runs/mobilenetv2 runs/customcnn --out runs/ensemble
    """
    _quiet_tensorflow()
    from . import ensemble as ensembles

    _print_run(ensembles.create(runs, out, force, Progress()).folder, as_json)


@click.command(short_help="Score a run or a bundle on slices it has not seen.")
@click.argument("target", type=_PATH, metavar="BUNDLE_OR_RUN")
@click.option("--data", type=_PATH, help="Folder or CSV of labelled slices; a run's own by default.")
@click.option(
    "--part",
    type=click.Choice(["auto", "train", "validation", "test", "all"]),
    default="auto",
    show_default=True,
    help="auto: the test split where the data holds it, else what was never trained on.",
)
@_positive
@_json
def evaluate(target: Path, data: Path | None, part: Any, positive: str, as_json: bool) -> None:
    """Score a run folder (Keras, full precision) or a bundle (the TFLite file itself).

    Slices that the model was trained on are recognised by their pixels and left out.

    \b
    Example:
      edge-ct evaluate model.tflite --data slices/
    """  # fmt: skip
    _quiet_tensorflow()
    from . import evaluate as evaluation

    found = evaluation.evaluate(target, data, part, positive, Progress())
    if as_json:
        print_json(found)
        return
    click.echo(f"{found.model}: n = {found.n} ({found.part}), {found.split} split; {found.left_out} slices left out")
    for name in ("accuracy", "sensitivity", "specificity", "precision", "f1", "auc", "ece", "brier"):
        click.echo(f"  {name:<12} {_show(getattr(found, name))}")
    if found.operating_point:
        at = found.operating_point
        click.echo(
            f"  at the operating point, P >= {at.threshold:.3f}: sensitivity {_show(at.sensitivity)}, "
            f"specificity {_show(at.specificity)}"
        )
    if found.decisions:
        click.echo(f"  decisions: {', '.join(f'{count} {name}' for name, count in found.decisions.items())}")


def _print_run(folder: Path, as_json: bool) -> None:
    from .report import RunScores

    scores = msgspec.json.decode((folder / "metrics.json").read_bytes(), type=RunScores)
    if as_json:
        print_json({"run": str(folder), **msgspec.to_builtins(scores)})
        return
    click.echo(f"{folder}: {scores.model}, {scores.split} split, test n = {scores.parts['test'].n}")
    for name, estimate in scores.parts["test"].estimates().items():
        click.echo(f"  {name:<12} {_show(estimate)}")


def _show(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "undefined"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _quiet_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
