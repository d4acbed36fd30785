"""`edge-ct ensemble` and `edge-ct evaluate`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_ct.progress import Progress, print_json

from .command_options import PATH, force_option, json_option, positive_option, print_run, quiet_tensorflow, show


@click.command(short_help="Average trained runs into one.")
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")
@click.option("--out", type=PATH, required=True, help="The run folder to write.")
@force_option
@json_option
def ensemble(runs: tuple[Path, ...], out: Path, force: bool, as_json: bool) -> None:
    """Combine runs that were trained on the same split into an ensemble: the mean of their softmax outputs.

    \b
    Example:
      edge-ct ensemble runs/mobilenetv2 runs/customcnn --out runs/ensemble
    """
    quiet_tensorflow()
    from . import ensemble as ensembles

    print_run(ensembles.create(runs, out, force, Progress()).folder, as_json)


@click.command(short_help="Score a run or a bundle on unseen slices.")
@click.argument("target", type=PATH, metavar="BUNDLE_OR_RUN")
@click.option("--data", type=PATH, help="Folder or CSV of labelled slices; a run's own by default.")
@click.option(
    "--part",
    type=click.Choice(["auto", "train", "validation", "test", "all"]),
    default="auto",
    show_default=True,
    help="auto: the test split where the data holds it, else what was never trained on.",
)
@positive_option
@json_option
def evaluate(target: Path, data: Path | None, part: Any, positive: str, as_json: bool) -> None:
    """Score a run folder (Keras, full precision) or a bundle (the TFLite file itself).

    Slices that the model was trained on are recognised by their pixels and left out.

    \b
    Example:
      edge-ct evaluate model.tflite --data slices/
    """  # fmt: skip
    quiet_tensorflow()
    from . import evaluate as evaluation

    found = evaluation.evaluate(target, data, part, positive, Progress())
    if as_json:
        print_json(found)
        return
    click.echo(f"{found.model}: n = {found.n} ({found.part}), {found.split} split; {found.left_out} slices left out")
    for name in ("accuracy", "sensitivity", "specificity", "precision", "f1", "auc", "ece", "brier"):
        click.echo(f"  {name:<12} {show(getattr(found, name))}")
    if found.operating_point:
        at = found.operating_point
        click.echo(
            f"  at the operating point, P >= {at.threshold:.3f}: sensitivity {show(at.sensitivity)}, "
            f"specificity {show(at.specificity)}"
        )
    if found.decisions:
        click.echo(f"  decisions: {', '.join(f'{count} {name}' for name, count in found.decisions.items())}")
