"""`edge-ct ensemble` and `edge-ct evaluate`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_ct.engines.command_option import engine_option
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.reporting.counts import count_of
from edge_ct.shipped_models import complete_bundle
from edge_ct.system.progress import Progress, print_json

from ..command_options import PATH, force_option, json_option, positive_option, quiet_tensorflow

if TYPE_CHECKING:
    from .evaluate import Evaluation
    from .group_scores import GroupScores
    from .seed_study_table import SeedStudyRow


@click.command(short_help="Combine trained runs into one.")
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")
@click.option("--out", type=PATH, required=True, help="Run folder to write the ensemble to.")
@click.option(
    "--rule",
    type=click.Choice(["mean", "vote"]),
    default="mean",
    show_default=True,
    help="Combine the runs by the mean of their softmax outputs, or by majority vote (a tie is positive).",
)
@click.option(
    "--fit-weights",
    is_flag=True,
    help="Fit the weights of the mean on the validation split, regularised towards equal weights.",
)
@click.option("--data", type=PATH, help="Folder or CSV where the slices of the runs are now, if they have moved.")
@force_option
@json_option
def ensemble(
    runs: tuple[Path, ...], out: Path, rule: Any, fit_weights: bool, data: Path | None, force: bool, as_json: bool
) -> None:
    """Combine runs that were trained on the same split into an ensemble, and score all of them.

    The run folder of the ensemble also holds the table: table.md, table.csv and table.json.

    \b
    Example:
      edge-ct ensemble runs/mobilenetv2 runs/resnet50 runs/densenet169 --out runs/ensemble
      edge-ct ensemble runs/mobilenetv2 runs/customcnn --rule vote --out runs/vote
    """
    if fit_weights and rule == "vote":
        raise click.UsageError("--fit-weights needs --rule mean: a vote has no weights")
    quiet_tensorflow()
    from .ensemble import create_ensemble
    from .run_scores import print_run
    from .seed_study_table import read_table

    run = create_ensemble(runs, out, rule, fit_weights, data, force, Progress())
    rows = read_table(run.folder)
    if as_json:
        print_run(run.folder, True, rule=run.info.rule, weights=run.info.weights, members=rows[:-1])
        return
    print_run(run.folder, False)
    for row in rows:
        _print_member(row)


def _print_member(row: SeedStudyRow) -> None:
    test, train = row.parts["test"], row.parts["train"]
    weight = "" if row.weight is None else f"weight {row.weight:.3f}, "
    click.echo(
        f"  {row.name:<20} {row.params / 1e6:>6.2f} M parameters, {weight}"
        f"train accuracy {train.accuracy.text()}, test accuracy {test.accuracy.text()}, "
        f"loss {test.loss.text()}, sensitivity {test.sensitivity.text()}, "
        f"specificity {test.specificity.text()}"
    )


@click.command(short_help="Score a run or a bundle on unseen slices.")
@click.argument("target", type=PATH, metavar="BUNDLE_OR_RUN", shell_complete=complete_bundle)
@click.option(
    "--data", type=PATH, help="Folder or CSV of labelled slices; by default the slices that a run was made with."
)
@click.option(
    "--part",
    type=click.Choice(["auto", "train", "validation", "test", "all"]),
    default="auto",
    show_default=True,
    help="Part of the split to score; auto: test slices, or if there are none, slices not used in training.",
)
@click.option(
    "--by",
    type=click.Choice(["slice", "group"]),
    default="slice",
    show_default=True,
    help="Score slices only, or also the groups (patients or series) named in the CSV or in the run's split.",
)
@click.option(
    "--k",
    "ks",
    type=click.IntRange(1),
    multiple=True,
    default=(1, 2, 3),
    show_default=True,
    help="With --by group: also score the rule that at least K slices must be positive. Repeatable.",
)
@click.option(
    "--predictions", type=PATH, metavar="CSV", help="CSV to write: path, label, decision, probability of each slice."
)
@click.option(
    "--markdown",
    "as_markdown",
    is_flag=True,
    help="Print the table of decisions and the table by source as Markdown, for a README or a model card.",
)
@positive_option
@engine_option
@json_option
def evaluate(
    target: Path,
    data: Path | None,
    part: Any,
    by: str,
    ks: tuple[int, ...],
    predictions: Path | None,
    positive: str,
    engine: EngineName,
    as_markdown: bool,
    as_json: bool,
) -> None:
    """Score a run folder (Keras model, full precision) or a bundle (its TFLite model).

    Slices that the model was trained on are recognised by their pixels and left out.

    \b
    Example:
      edge-ct evaluate model.tflite --data slices/
      edge-ct evaluate accurate --data slices.csv --markdown
      edge-ct evaluate runs/ensemble --data slices.csv --by group --k 2
    """
    if target.is_dir() and engine != DEFAULT_ENGINE:
        raise click.UsageError(f"--engine {engine} applies to bundles; Keras computes a run")
    quiet_tensorflow()
    from .evaluate import evaluate as evaluate_target

    evaluation = evaluate_target(
        target, data, part, positive, Progress(), ks if by == "group" else (), predictions, engine
    )
    if as_json:
        print_json(evaluation)
    elif as_markdown:
        _print_markdown(evaluation)
    else:
        _print_evaluation(evaluation)


def _print_markdown(evaluation: Evaluation) -> None:
    from edge_ct.reporting.outcomes import outcome_markdown, source_markdown

    tables = [outcome_markdown(evaluation.outcomes)] if evaluation.outcomes else []
    tables += [source_markdown(evaluation.sources)] if evaluation.sources else []
    click.echo("\n\n".join(tables) or "the model has no decision rule, and the data name no sources")


def _print_evaluation(evaluation: Evaluation) -> None:
    from edge_ct.reporting.outcomes import DECISIONS, outcome_rows, source_rows

    click.echo(
        f"{evaluation.model}: {count_of(evaluation.n, 'slice')} scored (part: {evaluation.part}), "
        f"{evaluation.split} split; "
        f"{count_of(evaluation.left_out, 'slice')} left out"
    )
    for name in ("accuracy", "sensitivity", "specificity", "precision", "f1", "auc", "ece", "brier", "loss"):
        click.echo(f"  {name:<12} {getattr(evaluation, name).text()}")
    if rule := evaluation.decision_rule:
        click.echo(
            f"  decision rule: negative below P {rule.negative_below:.3f}, positive from P {rule.positive_from:.3f}, "
            "refer between"
        )
    if evaluation.operating_point:
        scores = evaluation.operating_point
        click.echo(
            f"  from the threshold for negative on (P >= {scores.threshold:.3f}): "
            f"sensitivity {scores.sensitivity.text()}, specificity {scores.specificity.text()}"
        )
    if evaluation.decisions:
        click.echo(f"  decisions: {_format_counts(evaluation.decisions)}")
    for cases, number, *shares in outcome_rows(evaluation.outcomes):
        text = ", ".join(f"{kind} {share}" for kind, share in zip(DECISIONS, shares, strict=True))
        click.echo(f"  of {number} {cases}: {text}")
    for source, number, auc, sensitivity, specificity, *_ in source_rows(evaluation.sources):
        click.echo(f"  {source}, n = {number}: AUC {auc}, sensitivity {sensitivity}, specificity {specificity}")
    if evaluation.groups:
        _print_groups(evaluation.groups)


def _print_groups(groups: GroupScores) -> None:
    click.echo(
        f"  {count_of(groups.n, 'group')} of {count_of(groups.slices, 'slice')}, scored at P >= "
        f"{groups.mean.threshold:.3f}"
    )
    if groups.mixed:
        shown = ", ".join(groups.mixed[:4])
        click.echo(f"    {count_of(len(groups.mixed), 'group')} with both labels left out: {shown}")
    rules = {"mean": groups.mean, **{f"{k} of n": scores for k, scores in groups.k_of_n.items()}}
    for name, scores in rules.items():
        click.echo(
            f"    {name:<8} accuracy {scores.accuracy.text()}, "
            f"sensitivity {scores.sensitivity.text()}, specificity {scores.specificity.text()}"
        )
    if groups.decisions:
        click.echo(f"    decisions: {_format_counts(groups.decisions)}")


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
