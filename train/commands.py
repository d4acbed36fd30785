"""`edge-ct models` and `edge-ct train`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_ct.errors import EdgeCTError
from edge_ct.system.progress import Progress, print_json

from . import continual_commands as continual
from .command_options import (
    PATH,
    data_option,
    force_option,
    json_option,
    positive_option,
    print_run,
    quiet_tensorflow,
    seed_option,
)
from .study.commands import NetworkNames, is_study, one_fold, run_study, study_options, take
from .zoo import build


class NetworkName(click.ParamType[str]):
    """A network of the zoo; an unknown name is answered with the nearest ones."""

    name = "network"

    def convert(self, value: str, param: click.Parameter | None, context: click.Context | None) -> str:
        """Called by click."""
        try:
            return build.find(value.lower()).name
        except EdgeCTError as error:
            self.fail(str(error), param, context)


@click.command(short_help="List the networks that can be trained.")
@click.argument("names", type=NetworkName(), nargs=-1, metavar="[NETWORK]...")
@click.option(
    "--size",
    type=click.IntRange(1, 1024),
    default=build.DEFAULT_SIZE,
    show_default=True,
    help=f"Side in pixels at which multiply-accumulates are counted; Garg et al. use {build.PAPER_SIZE}.",
)
@json_option
def models(names: tuple[str, ...], size: int, as_json: bool) -> None:
    """List the networks of both studies (all of them takes about a minute: each is built to be counted).

    \b
    Example:
      edge-ct models
      edge-ct models mobilenetv2 resnet50 --size 380 --json
    """
    quiet_tensorflow()
    from .zoo import catalogue

    found = catalogue.describe(names, size, Progress())
    if as_json:
        print_json(found)
        return
    click.echo(f"{'network':<28}{'parameters':>12}{'MACs':>10}{'size':>6}{'least':>7}  class map  int8  QAT")
    for one in found:
        click.echo(
            f"{one.name:<28}{one.params / 1e6:>10.2f} M{one.macs / 1e9:>8.2f} G{one.size:>6}{one.minimum:>7}  "
            f"{'yes' if one.class_map else 'no':<9}  {'yes' if one.int8 else 'no':<4}  {one.qat}"
        )


@click.command(short_help="Train a network on labelled slices.")
@click.argument("networks", type=NetworkNames(), nargs=-1, metavar="NETWORK...")
@data_option
@click.option("--out", type=PATH, required=True, help="The run folder to write; of a study, the folder of its runs.")
@click.option(
    "--weights",
    default="none",
    show_default=True,
    help="none, imagenet (downloaded), or a file of Keras' three-channel weights without top; for several networks, "
    "{network} in its path stands for their names.",
)
@click.option("--size", type=click.IntRange(1, 1024), default=224, show_default=True, help="Side of the input, pixels.")
@click.option("--alpha", type=click.FloatRange(0.1, 2), default=1.0, show_default=True, help="Width of MobileNetV2.")
@click.option(
    "--split",
    type=click.Choice(["random", "grouped"]),
    default="random",
    show_default=True,
    help="grouped keeps patients together, or else slices that look like one patient's.",
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
@click.option(
    "--schedule",
    type=click.Choice(["cosine", "plateau", "constant"]),
    default="cosine",
    show_default=True,
    help="Of the learning rate: warm-up and half a cosine; cut when validation loss stalls; or neither.",
)
@click.option(
    "--freeze",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Epochs at the start in which only the head is trained.",
)
@click.option(
    "--dropout",
    type=click.FloatRange(0, 0.9),
    default=0.2,
    show_default=True,
    help="In the head; at 0 EfficientNet's blocks are not dropped either.",
)
@click.option(
    "--augment",
    default="standard",
    show_default=True,
    help="Policy: none, flips, standard, paper, travel, or a .json file (edge-ct data preview --json shows one).",
)
@click.option("--class-weights", is_flag=True, help="Weigh a slice by how rare its class is.")
@click.option(
    "--label-smoothing",
    type=click.FloatRange(0, 0.5),
    default=0.0,
    show_default=True,
    help="Share of a label that is spread over both classes.",
)
@click.option(
    "--clip", type=click.FloatRange(0), default=0.0, show_default=True, help="Largest norm of the gradient; 0: any."
)
@click.option(
    "--ema",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Decay of a moving average of the weights, which is validated and kept; 0: none.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16", "mixed_float16"]),
    default="float32",
    show_default=True,
    help="To compute in; weights stay float32.",
)
@click.option("--tensorboard", is_flag=True, help="Logs for TensorBoard in the run folder.")
@click.option("--teacher", default="", help="A run or ensemble whose soft targets are learned too: distillation.")
@click.option(
    "--temperature", type=click.FloatRange(0.1, 20), default=2.0, show_default=True, help="Of the soft targets."
)
@click.option(
    "--mixing", type=click.FloatRange(0, 1), default=0.7, show_default=True, help="Share of the soft targets."
)
@continual.continual_options
@positive_option
@study_options
@seed_option
@click.option(
    "--split-seed",
    type=click.IntRange(0),
    help="Draws the split alone, where networks of several --seeds are to share it; by default --seed.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run at --out after its last finished epoch. (A study does so without being asked.)",
)
@force_option
@json_option
def train(
    networks: tuple[tuple[str, ...], ...],
    data: Path,
    out: Path,
    resume: bool,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network; edge-ct models lists them. The best weights by validation loss are kept and scored.

    Several networks (or all, garg: the 40 of Garg et al., seed-study: four), folds or rounds make a study: one run
    folder a training below --out, and tables with the papers' figures beside ours. The same command again goes on with
    a study that was cut short.

    \b
    Example:
      edge-ct train mobilenetv2 --data slices/ --weights weights.h5 --out runs/mobilenetv2
      edge-ct train mobilenetv2 --data slices/ --weights weights.h5 --out runs/mobilenetv2 --resume
      edge-ct train resnet50 modified-resnet50 --data slices/ --folds 5 --rounds 10 --out study
      edge-ct train mobilenetv2 --data slices/ --folds 5 --fold 2 --out runs/fold-2
      edge-ct train garg --data slices/ --folds 5 --rounds 10 --cluster auto --out study
      edge-ct train --from runs/mobilenetv2 --data new/ --out runs/mobilenetv2-2
    """  # fmt: skip
    names, asked = tuple(dict.fromkeys(name for group in networks for name in group)), take(options)
    start, replay = continual.take(options)
    if (start is None) == (not names):
        raise click.UsageError("name a NETWORK to train, or a run to train further with --from")
    fold = {} if start else one_fold(names, asked)
    study = not fold and is_study(names, asked)
    if start and (study or asked["fold"]):
        raise click.UsageError("--from trains one run further; folds, rounds and clusters are a study's")
    if study and options["split_seed"] is not None:
        raise click.UsageError("--split-seed is for a single training; a study splits by --seed")
    options.update(fold)
    quiet_tensorflow()
    from . import fit
    from .data.augment import policy
    from .fitting.options import Options

    if options["augment"].endswith(".json"):  # its values, not its name, are what a resumed run must agree on
        options["policy"] = policy(options["augment"])
    if study:
        return run_study(names, data, out, Options("", **options), force and not resume, as_json, asked)
    if start:
        return continual.go_on(start, replay, data, out, options, resume, force, as_json)
    run = fit.train(data, out, Options(*names, **options), resume, force, Progress())
    return print_run(run.folder, as_json)
