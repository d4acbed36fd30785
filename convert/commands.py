"""`edge-ct convert`: parse, call, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from edge_ct.system.files import refuse_existing
from edge_ct.system.progress import Progress, print_json

_FORMATS = {
    "fp32": "Full precision, to compare with.",
    "fp16": "Weights of 16-bit floats: half the bytes, the arithmetic of fp32.",
    "dynamic": "Weights of 8-bit integers, arithmetic on floats.",
    "int8": "Full integer, the default.",
    "int16x8": "Activations of 16-bit integers on 8-bit weights.",
}


def _formats(command: Any) -> Any:
    for name, text in reversed(_FORMATS.items()):
        command = click.option(f"--{name}", f"format_{name}", is_flag=True, help=text)(command)
    return command


@click.command(short_help="Turn a run into a verified TFLite bundle.")
@click.argument("run", type=click.Path(path_type=Path))
@_formats
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The bundle to write; of several formats a folder, or a name with {variant} in it.",
)
@click.option(
    "--float-io/--int-io",
    default=False,
    help="Take and give float32, slices normalised by the caller; or bytes, the default.",
)
@click.option(
    "--fixed-batch/--any-batch",
    default=True,
    show_default=True,
    help="One slice at a time, for which runtimes are fastest; or as many as the caller asks for.",
)
@click.option(
    "--slim",
    type=click.FloatRange(0.05, 0.75),
    metavar="FRACTION",
    help="First remove that share of MobileNetV2's expansion channels, 0.05 to 0.75, and fine-tune: faster.",
)
@click.option(
    "--prune",
    type=click.FloatRange(0.5, 0.9),
    metavar="SHARE",
    help="Then set that share of the weights to zero, 0.5 to 0.9, while fine-tuning: compresses better, seldom faster.",
)
@click.option(
    "--qat",
    type=click.IntRange(1, 100),
    metavar="EPOCHS",
    help="Then train so long with the roundings of the int8 file in place; zeros stay zeros.",
)
@click.option("--sparse", is_flag=True, help="Store kernels without the zeros of --prune: fewer bytes on the disk.")
@click.option(
    "--fine-tune",
    type=click.IntRange(1, 100),
    default=4,
    show_default=True,
    metavar="EPOCHS",
    help="Of --slim and --prune, each.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Points of sensitivity or accuracy that may be lost on the validation split.",
)
@click.option(
    "--max-sensitivity-drop",
    type=click.FloatRange(0, 100),
    help="Points of sensitivity that may be lost, where that is to be another number than --max-drop.",
)
@click.option(
    "--agreement",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Least share of validation slices on which fp32 and the converted model agree.",
)
@click.option("--reference", metavar="RUN", help="A run or an ensemble with the same split to compare with as well.")
@click.option(
    "--report-only",
    is_flag=True,
    help="Write what fails the gate too, as NAME.gate-failed.tflite, to be looked at; the exit code stays 5.",
)
@click.option(
    "--representative",
    type=click.IntRange(2, 10_000),
    default=200,
    show_default=True,
    help="Training slices that set the integer ranges, half of each class.",
)
@click.option(
    "--quantizer",
    type=click.Choice(["tensorflow", "ai-edge"]),
    default="tensorflow",
    show_default=True,
    help="What makes integer files.",
)
@click.option(
    "--calibration",
    type=click.Choice(["minmax", "moving-average", "mse"]),
    default="minmax",
    show_default=True,
    help="How ranges come from the slices; all but minmax with --quantizer ai-edge.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="LAYER=fp32|int16",
    help="Compute a layer in float or 16 bits, with --quantizer ai-edge. Can be given again.",
)
@click.option(
    "--auto-mixed",
    is_flag=True,
    help="Move the int8 layers that add most noise back to float until the gate passes; with --quantizer ai-edge.",
)
@click.option("--stability", is_flag=True, help="Convert to int8 with a second, disjoint calibration set too.")
@click.option(
    "--debug",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare integer files with float layer by layer: a table, and this plot (PNG or SVG).",
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
def convert(
    run: Path, out: Path, data: Path | None, force: bool, as_json: bool, debug: Path | None, **options: Any
) -> None:
    """Convert a trained run into one-file TFLite bundles, each calibrated on its own outputs and checked against fp32.

    Exit code 5, and nothing is written, where the converted model lost more than --max-drop. Of several formats those
    that pass are written, and the exit code is 5 where one does not.

    \b
    Example:
      edge-ct convert runs/mobilenetv2 --int8 --out model.tflite
      edge-ct convert runs/mobilenetv2 --fp32 --fp16 --int8 --out models/
      edge-ct convert runs/mobilenetv2 --slim 0.3 --qat 2 --out small.tflite
      edge-ct convert runs/mobilenetv2 --quantizer ai-edge --auto-mixed --debug layers.png --out model.tflite
    """  # fmt: skip
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from . import pipeline, report
    from .quantise.ai_edge import parse_keep
    from .shrink.steps import Steps

    asked = tuple(name for name in _FORMATS if options.pop(f"format_{name}"))
    slim, prune, qat = (options.pop(name) or 0 for name in ("slim", "prune", "qat"))
    steps = Steps(slim, prune, qat, options.pop("fine_tune"), options["seed"])
    steps.check(asked or ("int8",), options["sparse"], options["quantizer"])
    options["keep"] = parse_keep(options["keep"])
    settings = pipeline.Options(variants=asked or ("int8",), **options)  # type: ignore[arg-type]
    if debug:
        refuse_existing(debug, force)
    made = pipeline.convert_all(run, out, settings, data, force, Progress(), steps, debug is not None)
    if debug:
        from . import plots

        plots.draw_layers(*made.worst_layers(), debug)
    if len(made.bundles) == 1:
        made.enforce()
    if as_json:
        print_json(made.document())
    else:
        click.echo(report.of(made))
    made.enforce()
