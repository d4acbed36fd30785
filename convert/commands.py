"""`edge-ct convert`: parse, call, print."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_ct.progress import Progress, print_json

_FORMATS = ("int8", "fp32")


@click.command(short_help="Turn a run into a verified TFLite bundle.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--int8", "variant", flag_value="int8", default="int8", help="Full integer, the default.")
@click.option("--fp32", "variant", flag_value="fp32", help="Full precision, to compare with.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The bundle to write.")
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Points of sensitivity or accuracy that may be lost on the validation split.",
)
@click.option(
    "--representative",
    type=click.IntRange(2, 10_000),
    default=200,
    show_default=True,
    help="Training slices that set the int8 ranges.",
)
@click.option(
    "--target-sensitivity",
    type=click.FloatRange(0.5, 1),
    default=0.98,
    show_default=True,
    help="Of the operating point, on the validation split.",
)
@click.option(
    "--level", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True, help="Of the indeterminate zone."
)
@click.option("--licence", default="not stated", help="Licence of the weights, for the manifest.")
@click.option("--data", type=click.Path(path_type=Path), help="Where the run's slices are, if they have moved.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws the representative slices.")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def convert(run: Path, out: Path, data: Path | None, force: bool, as_json: bool, **options: object) -> None:
    """Convert a trained run into a one-file TFLite bundle, calibrated on its own outputs and checked against fp32.

    Exit code 5, and nothing is written, where the converted model lost more than --max-drop.

    \b
    Example:
      edge-ct convert runs/mobilenetv2 --int8 --out model.tflite
    """  # fmt: skip
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from . import package

    converted = package.convert(run, out, package.Options(**options), data, force, Progress())  # type: ignore[arg-type]
    if as_json:
        print_json(converted)
        return
    gate = converted.gate
    click.echo(f"{converted.bundle}: {converted.bytes:,} bytes, {converted.variant}")
    for name, scores in (("fp32", gate.fp32), (converted.variant, gate.converted)):
        shown = "  ".join(
            f"{metric} {value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"
            for metric, value in scores.estimates().items()
            if metric in ("accuracy", "sensitivity", "specificity") and value.value is not None
        )
        click.echo(f"  {name:<5} {shown}  ({gate.split}, n = {scores.n})")
    click.echo(f"  agreement {gate.agreement:.1%}, McNemar p {gate.mcnemar_p:.2f}; gate passed")
