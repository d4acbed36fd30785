"""`edge-ct models` and `edge-ct train`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_ct.errors import EdgeCTError
from edge_ct.system.progress import Progress, print_json

from .command_options import (
    PATH,
    data_option,
    force_option,
    json_option,
    positive_option,
    quiet_tensorflow,
    seed_option,
)
from .continual_commands import continual_options, take_continual_options, train_further
from .source_options import source_options, take_source_options
from .study.commands import (
    NetworkNames,
    is_study,
    run_study,
    single_fold_options,
    study_options,
    take_study_options,
)
from .zoo.architectures import DEFAULT_SIZE, PAPER_SIZE, find


class NetworkName(click.ParamType[str]):
    """Name of a network; for an unknown name, the error suggests the nearest ones."""

    name = "network"

    def convert(self, value: str, param: click.Parameter | None, context: click.Context | None) -> str:
        """Return the network's name in lower case (called by click)."""
        try:
            return find(value.lower()).name
        except EdgeCTError as error:
            self.fail(str(error), param, context)


@click.command(short_help="List the networks that can be trained.")
@click.argument("names", type=NetworkName(), nargs=-1, metavar="[NETWORK]...")
@click.option(
    "--size",
    type=click.IntRange(1, 1024),
    default=DEFAULT_SIZE,
    show_default=True,
    help=f"Side of the input in pixels, for counting multiply-accumulates; Garg et al. use {PAPER_SIZE}.",
)
@json_option
def models(names: tuple[str, ...], size: int, as_json: bool) -> None:
    """List the networks of both studies with their parameters and multiply-accumulates (MACs).

    Every network is built in order to count it; all of them take about a minute.

    \b
    Example:
      edge-ct models
      edge-ct models mobilenetv2 resnet50 --size 380 --json
    """
    quiet_tensorflow()
    from .zoo.catalogue import summarise_networks

    summaries = summarise_networks(names, size, Progress())
    if as_json:
        print_json(summaries)
        return
    click.echo(f"{'network':<28}{'parameters':>12}{'MACs':>10}{'size':>6}{'min size':>10}  class map  int8  QAT")
    for network in summaries:
        click.echo(
            f"{network.name:<28}{network.params / 1e6:>10.2f} M{network.macs / 1e9:>8.2f} G{network.size:>6}"
            f"{network.minimum:>10}  {'yes' if network.class_map else 'no':<9}  {'yes' if network.int8 else 'no':<4}  "
            f"{network.qat}"
        )


@click.command(short_help="Train a network on labelled slices.")
@click.argument("networks", type=NetworkNames(), nargs=-1, metavar="NETWORK...")
@data_option
@click.option(
    "--out", type=PATH, required=True, help="Run folder to write; for a study, the folder that holds its runs."
)
@click.option(
    "--weights",
    default="none",
    show_default=True,
    help="Initial weights: none (random), imagenet (downloaded), a file of Keras' three-channel weights without the "
    "top, or the folder of a finished run of the same network. With several networks, {network} in the path stands for "
    "each name.",
)
@click.option(
    "--size", type=click.IntRange(1, 1024), default=224, show_default=True, help="Side of the input in pixels."
)
@click.option(
    "--alpha", type=click.FloatRange(0.1, 2), default=1.0, show_default=True, help="Width multiplier of MobileNetV2."
)
@click.option(
    "--split",
    type=click.Choice(["random", "grouped", "source", "none"]),
    default="random",
    show_default=True,
    help="Split slices at random; keep each patient (or group of similar slices) in one part; test on one source; or "
    "train on every slice.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0.01, 0.5),
    default=0.15,
    show_default=True,
    help="Fraction of slices used for validation.",
)
@click.option(
    "--test",
    type=click.FloatRange(0.01, 0.5),
    default=0.2,
    show_default=True,
    help="Fraction of slices used for testing.",
)
@click.option("--epochs", type=click.IntRange(1), default=24, show_default=True, help="Maximum number of epochs.")
@click.option(
    "--keep",
    type=click.Choice(["best", "last"]),
    default="best",
    show_default=True,
    help="Weights that the run keeps: those of the epoch with the lowest validation loss, or of the last epoch.",
)
@click.option(
    "--average-start",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="With --weights RUN: keep the mean of the trained weights and those of RUN, which count with this weight.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Number of epochs without a lower validation loss before training stops.",
)
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True, help="Number of slices in a batch.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=5e-4,
    show_default=True,
    help="Peak learning rate, reached after warm-up and before decay.",
)
@click.option(
    "--schedule",
    type=click.Choice(["cosine", "plateau", "constant"]),
    default="cosine",
    show_default=True,
    help="Learning-rate schedule: warm-up and cosine decay, reduction when the validation loss stalls, or constant.",
)
@click.option(
    "--freeze",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of epochs at the start in which only the head is trained.",
)
@click.option(
    "--dropout",
    type=click.FloatRange(0, 0.9),
    default=0.2,
    show_default=True,
    help="Dropout rate in the head; 0 also switches off EfficientNet's stochastic depth.",
)
@click.option(
    "--augment",
    default="standard",
    show_default=True,
    help="Augmentation policy: none, flips, standard, paper, travel, or a .json file (edge-ct data preview --json "
    "prints one).",
)
@click.option("--class-weights", is_flag=True, help="Weight slices inversely to the frequency of their class.")
@click.option(
    "--label-smoothing",
    type=click.FloatRange(0, 0.5),
    default=0.0,
    show_default=True,
    help="Fraction of each label that is spread evenly over both classes.",
)
@click.option(
    "--clip",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Maximum norm of the gradient; 0 means no limit.",
)
@click.option(
    "--ema",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Decay of a moving average of the weights, which is validated and saved; 0 means no average.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16", "mixed_float16"]),
    default="float32",
    show_default=True,
    help="Numerical precision of the computation; weights stay float32.",
)
@click.option("--tensorboard", is_flag=True, help="Write logs for TensorBoard to the run folder.")
@click.option("--teacher", default="", help="Run or ensemble to distil: its predictions become soft targets.")
@click.option(
    "--temperature",
    type=click.FloatRange(0.1, 20),
    default=2.0,
    show_default=True,
    help="With --teacher: temperature of the soft targets.",
)
@click.option(
    "--mixing",
    type=click.FloatRange(0, 1),
    default=0.7,
    show_default=True,
    help="With --teacher: weight of the soft targets in the loss.",
)
@continual_options
@source_options
@positive_option
@study_options
@seed_option
@click.option(
    "--split-seed",
    type=click.IntRange(0),
    help="Seed of the split alone, to share one split among runs with different --seed; by default --seed.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the run at --out after its last finished epoch. (A study always continues.)",
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
    """Train a network; `edge-ct models` lists them. The weights with the lowest validation loss are kept and scored.

    Several networks (or a group: all, garg for the 40 of Garg et al., seed-study for four), folds or rounds make a
    study: --out then holds one run folder per training, and tables with the papers' figures beside ours. The same
    command continues an interrupted study.

    \b
    Example:
      edge-ct train mobilenetv2 --data slices/ --weights weights.h5 --out runs/mobilenetv2
      edge-ct train mobilenetv2 --data slices/ --weights weights.h5 --out runs/mobilenetv2 --resume
      edge-ct train resnet50 modified-resnet50 --data slices/ --folds 5 --rounds 10 --out study
      edge-ct train mobilenetv2 --data slices/ --folds 5 --fold 2 --out runs/fold-2
      edge-ct train garg --data slices/ --folds 5 --rounds 10 --cluster auto --out study
      edge-ct train --from runs/mobilenetv2 --data new/ --out runs/mobilenetv2-2
    """
    names = tuple(dict.fromkeys(name for group in networks for name in group))
    study_values = take_study_options(options)
    start, replay = take_continual_options(options)
    if (start is None) == (not names):
        raise click.UsageError("name a NETWORK to train, or with --from a run to train further")
    fold = {} if start else single_fold_options(names, study_values)
    study = not fold and is_study(names, study_values)
    if start and (study or study_values["fold"]):
        raise click.UsageError("--from trains a single run further; it does not go with folds, rounds or clusters")
    if study and options["split_seed"] is not None:
        raise click.UsageError("--split-seed is for a single training; the splits of a study are drawn with --seed")
    quiet_tensorflow()
    from .fit import train as train_network
    from .fitting.options import TrainingOptions, with_policy_file
    from .score.run_scores import print_run

    options = with_policy_file({**take_source_options(options), **fold})
    if study:
        run_study(names, data, out, TrainingOptions("", **options), force and not resume, as_json, study_values)
    elif start:
        train_further(start, replay, data, out, options, resume, force, as_json)
    else:
        run = train_network(data, out, TrainingOptions(names[0], **options), resume, force, Progress())
        print_run(run.folder, as_json)
