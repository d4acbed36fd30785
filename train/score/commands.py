"""`edge-ct ensemble` and `edge-ct evaluate`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_ct.system.progress import Progress, print_json

from ..command_options import PATH, force_option, json_option, positive_option, print_run, quiet_tensorflow, show


@click.command(short_help="Combine trained runs into one.")
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")
@click.option("--out", type=PATH, required=True, help="The run folder to write.")
@click.option(
    "--rule",
    type=click.Choice(["mean", "vote"]),
    default="mean",
    show_default=True,
    help="Mean of softmax, or majority vote, in which a tie is positive.",
)
@click.option("--fit-weights", is_flag=True, help="Of the mean, on the validation part; held towards equal ones.")
@click.option("--data", type=PATH, help="Where the runs' slices are, if they have moved.")
@force_option
@json_option
def ensemble(
    runs: tuple[Path, ...], out: Path, rule: Any, fit_weights: bool, data: Path | None, force: bool, as_json: bool
) -> None:
    """Combine runs that were trained on the same split into an ensemble, and score it beside them.

    The table is written into the run folder too: table.md, table.csv, table.json.

    \b
    Example:
      edge-ct ensemble runs/mobilenetv2 runs/resnet50 runs/densenet169 --out runs/ensemble
      edge-ct ensemble runs/mobilenetv2 runs/customcnn --rule vote --out runs/vote
    """  # fmt: skip
    if fit_weights and rule == "vote":
        raise click.UsageError("--fit-weights belongs to --rule mean")
    quiet_tensorflow()
    from . import ensemble as ensembles
    from . import seed_study_table

    run = ensembles.create(runs, out, rule, fit_weights, data, force, Progress())
    rows = seed_study_table.read(run.folder)
    if as_json:
        print_run(run.folder, True, rule=run.info.rule, weights=run.info.weights, members=rows[:-1])
        return
    print_run(run.folder, False)
    for row in rows:
        test, train = row.parts["test"], row.parts["train"]
        click.echo(
            f"  {row.name:<20} {row.params / 1e6:>6.2f} M{'' if row.weight is None else f'  weight {row.weight:.3f}'}  "
            f"train accuracy {show(train.accuracy)}, test accuracy {show(test.accuracy)}, loss {show(test.loss)}, "
            f"sensitivity {show(test.sensitivity)}, specificity {show(test.specificity)}"
        )


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
@click.option(
    "--by",
    type=click.Choice(["slice", "group"]),
    default="slice",
    show_default=True,
    help="group: score patients or series too, those that the CSV or the run's split names.",
)
@click.option(
    "--k",
    "ks",
    type=click.IntRange(1),
    multiple=True,
    default=(1, 2, 3),
    show_default=True,
    help="With --by group: how many slices must be positive, beside the mean of all.",
)
@click.option("--predictions", type=PATH, metavar="CSV", help="Write path, label, decision, probability of each slice.")
@positive_option
@json_option
def evaluate(
    target: Path,
    data: Path | None,
    part: Any,
    by: str,
    ks: tuple[int, ...],
    predictions: Path | None,
    positive: str,
    as_json: bool,
) -> None:
    """Score a run folder (Keras, full precision) or a bundle (the TFLite file itself).

    Slices that the model was trained on are recognised by their pixels and left out.

    \b
    Example:
      edge-ct evaluate model.tflite --data slices/
      edge-ct evaluate runs/ensemble --data slices.csv --by group --k 2
    """  # fmt: skip
    quiet_tensorflow()
    from . import evaluate as evaluation

    found = evaluation.evaluate(target, data, part, positive, Progress(), ks if by == "group" else (), predictions)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found.model}: n = {found.n} ({found.part}), {found.split} split; {found.left_out} slices left out")
    for name in ("accuracy", "sensitivity", "specificity", "precision", "f1", "auc", "ece", "brier", "loss"):
        click.echo(f"  {name:<12} {show(getattr(found, name))}")
    if found.operating_point:
        at = found.operating_point
        click.echo(
            f"  at the operating point, P >= {at.threshold:.3f}: sensitivity {show(at.sensitivity)}, "
            f"specificity {show(at.specificity)}"
        )
    if found.decisions:
        click.echo(f"  decisions: {', '.join(f'{count} {name}' for name, count in found.decisions.items())}")
    if found.groups:
        groups = found.groups
        left = f"; {len(groups.mixed)} with both labels left out: {', '.join(groups.mixed[:4])}" * bool(groups.mixed)
        click.echo(f"  groups: n = {groups.n}, of {groups.slices} slices, P >= {groups.mean.threshold:.3f}{left}")
        for name, own in {"mean": groups.mean, **{f"{k} of n": own for k, own in groups.k_of_n.items()}}.items():
            click.echo(
                f"    {name:<8} accuracy {show(own.accuracy)}, sensitivity {show(own.sensitivity)}, "
                f"specificity {show(own.specificity)}"
            )
        if groups.decisions:
            click.echo(f"    decisions: {', '.join(f'{count} {name}' for name, count in groups.decisions.items())}")
