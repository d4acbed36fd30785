"""The command `edge-ct convert`: parse, call, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from edge_ct.system.files import refuse_existing
from edge_ct.system.progress import Progress, print_json

_FORMATS = {
    "fp32": "Make a full-precision file, for comparison.",
    "fp16": "Make a file with 16-bit float weights: half the bytes, same arithmetic as fp32.",
    "dynamic": "Make a file with 8-bit integer weights and float arithmetic.",
    "int8": "Make a full-integer file; this is the default.",
    "int16x8": "Make a file with 16-bit integer activations and 8-bit weights.",
}


def _format_options(command: Any) -> Any:
    for name, text in reversed(_FORMATS.items()):
        command = click.option(f"--{name}", f"format_{name}", is_flag=True, help=text)(command)
    return command


@click.command(short_help="Turn a run into a verified TFLite bundle.")
@click.argument("run", type=click.Path(path_type=Path))
@_format_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Bundle to write; for several formats a folder, or a name with {variant} in it.",
)
@click.option(
    "--float-io/--int-io",
    default=False,
    help="Make input and outputs float32, with slices normalised by the caller; by default the input takes bytes.",
)
@click.option(
    "--fixed-batch/--any-batch",
    default=True,
    show_default=True,
    help="Take one slice at a time, which runtimes run fastest, or as many as the caller asks for.",
)
@click.option(
    "--slim",
    type=click.FloatRange(0.05, 0.75),
    metavar="FRACTION",
    help="Remove this fraction of MobileNetV2's expansion channels, 0.05 to 0.75, and fine-tune: makes it faster.",
)
@click.option(
    "--prune",
    type=click.FloatRange(0.5, 0.9),
    metavar="SHARE",
    help="Set this share of the weights to zero while training, 0.5 to 0.9: the file compresses better.",
)
@click.option(
    "--qat",
    type=click.IntRange(1, 100),
    metavar="EPOCHS",
    help="Epochs of quantisation-aware training after the other steps; pruned weights stay zero.",
)
@click.option("--sparse", is_flag=True, help="Store kernels without the zeros that --prune makes: fewer bytes on disk.")
@click.option(
    "--fine-tune",
    type=click.IntRange(1, 100),
    default=4,
    show_default=True,
    metavar="EPOCHS",
    help="Epochs of fine-tuning after --slim and of training during --prune.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Largest allowed loss of sensitivity and accuracy on the validation split, in percentage points.",
)
@click.option(
    "--max-sensitivity-drop",
    type=click.FloatRange(0, 100),
    help="Largest allowed loss of sensitivity in percentage points, if it differs from --max-drop.",
)
@click.option(
    "--agreement",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Smallest allowed share of validation slices on which fp32 and the converted model agree.",
)
@click.option("--reference", metavar="RUN", help="Run or ensemble with the same split to compare with as well.")
@click.option(
    "--report-only",
    is_flag=True,
    help="Also write what fails the gate, as NAME.gate-failed.tflite, for inspection; the exit code stays 5.",
)
@click.option(
    "--representative",
    type=click.IntRange(2, 10_000),
    default=200,
    show_default=True,
    help="Number of training slices that set the integer ranges, half of each class.",
)
@click.option(
    "--quantizer",
    type=click.Choice(["tensorflow", "ai-edge"]),
    default="tensorflow",
    show_default=True,
    help="Quantiser that makes the integer and dynamic files.",
)
@click.option(
    "--calibration",
    type=click.Choice(["minmax", "moving-average", "mse"]),
    default="minmax",
    show_default=True,
    help="How ranges are derived from the slices; all but minmax need --quantizer ai-edge.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="LAYER=fp32|int16",
    help="Compute a layer in float or 16 bits, may be repeated; needs --quantizer ai-edge.",
)
@click.option(
    "--auto-mixed",
    is_flag=True,
    help="Move the int8 layers that add most noise to float until the gate passes; needs --quantizer ai-edge.",
)
@click.option(
    "--stability", is_flag=True, help="Convert to int8 again with a second, disjoint calibration set, and show both."
)
@click.option(
    "--debug",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare integer files with float layer by layer, print a table and draw this plot (PNG or SVG).",
)
@click.option(
    "--target-sensitivity",
    type=click.FloatRange(0.5, 0.999),
    default=0.98,
    show_default=True,
    help="Share of positives that must not be called negative.",
)
@click.option(
    "--target-specificity",
    type=click.FloatRange(0.5, 0.999),
    default=0.95,
    show_default=True,
    help="Share of negatives that must not be called positive.",
)
@click.option(
    "--cross-fit",
    multiple=True,
    metavar="BUNDLE",
    help="Int8 bundle of a fold of the same recipe, once for each fold: a network that was trained on every slice is "
    "calibrated on what they say of their test parts.",
)
@click.option(
    "--fuse-lesions", is_flag=True, help="Let the lesion map take part in the decision if that lowers the log loss."
)
@click.option(
    "--lesion-evidence", default="", metavar="CSV", help="Table of the folds' lesion maps against masks, to store."
)
@click.option("--licence", default="not stated", help="Licence of the weights, for the manifest.")
@click.option("--data", type=click.Path(path_type=Path), help="Where the slices of the run are, if they have moved.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed for choosing representative slices and for training.",
)
@click.option("--force", is_flag=True, help="Overwrite existing files at the target.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def convert(
    run: Path, out: Path, data: Path | None, force: bool, as_json: bool, debug: Path | None, **settings: Any
) -> None:
    """Convert a trained run into one-file TFLite bundles, each calibrated on its own outputs and compared with fp32.

    If the converted model lost more than --max-drop, nothing is written and the exit code is 5. Of several formats,
    those that pass are written, and the exit code is 5 if one does not.

    \b
    Example:
      edge-ct convert runs/mobilenetv2 --int8 --out model.tflite
      edge-ct convert runs/mobilenetv2 --fp32 --fp16 --int8 --out models/
      edge-ct convert runs/mobilenetv2 --slim 0.3 --qat 2 --out small.tflite
      edge-ct convert runs/mobilenetv2 --quantizer ai-edge --auto-mixed --debug layers.png --out model.tflite
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from .options import options_from_flags
    from .pipeline import convert_all
    from .report import describe_conversion

    options = options_from_flags(settings)
    if debug:
        refuse_existing(debug, force)
    conversion = convert_all(run, out, options, data, force, Progress(), debug is not None)
    if debug:
        from .plots import draw_layer_errors

        draw_layer_errors(*conversion.worst_layers(), debug)
    if len(conversion.bundles) == 1:
        conversion.enforce()
    if as_json:
        print_json(conversion.document())
    else:
        click.echo(describe_conversion(conversion))
    conversion.enforce()
