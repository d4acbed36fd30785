"""`edge-ct classify`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_ct.classifier import Result
from edge_ct.engines.names import EngineName
from edge_ct.errors import InputRejected
from edge_ct.lesions import describe_share_column
from edge_ct.system.files import one_line
from edge_ct.system.progress import print_json, remark
from edge_ct.trust.opening import open_bundle

from ..command_options import (
    DECISION_COLOURS,
    engine_option,
    key_option,
    model_option,
    state_option,
    threads_option,
    workers_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..judging.rollup import Summary


@click.command(short_help="Judge CT slices without a network.")
@click.argument("sources", nargs=-1, required=True, metavar="PATH...")
@model_option
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line on standard output.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on standard output.")
@click.option(
    "--by",
    type=click.Choice(["slice", "series", "patient"]),
    default="slice",
    show_default=True,
    help="Show one row per slice, series or patient.",
)
@click.option("--series", metavar="NAME", help="Treat all slices as one series with this name.")
@click.option(
    "--heatmap",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write a picture of each slice and its heat map to this folder.",
)
@click.option(
    "--maps",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.npz",
    help="Write the heat maps as numbers, in a NumPy archive.",
)
@click.option(
    "--heatmap-seconds",
    type=click.FloatRange(0.1, 600),
    default=2.0,
    show_default=True,
    help="Maximum time in seconds for the heat map of a slice if the network has no class map.",
)
@click.option("--worklist", "record", is_flag=True, help="Store each result in the worklist before it is printed.")
@state_option
@click.option("--patient", metavar="ID", help="Identifier of the patient of all slices; only its pseudonym is stored.")
@threads_option
@workers_option
@engine_option
@click.pass_context
def classify(
    context: click.Context,
    sources: tuple[str, ...],
    model: str | None,
    key: Path | None,
    as_json: bool,
    as_csv: bool,
    by: str,
    series: str | None,
    heatmap: Path | None,
    maps: Path | None,
    heatmap_seconds: float,
    record: bool,
    state: Path,
    patient: str | None,
    threads: int,
    workers: int | None,
    engine: EngineName,
) -> None:
    """Judge PNG, JPEG, TIFF or DICOM slices: files, folders, globs in quotes, or - for one image on standard input.

    The decision on a slice is positive, negative, refer (too close to call) or rejected (cannot be judged). A series,
    or the patient of DICOM objects, is judged by the mean probability of its slices; the number of positive slices is
    shown beside it. DICOM slices without lung, localisers and derived images are rejected and do not vote. Each frame
    of an Enhanced CT object is a slice.

    A patient is shown by a pseudonym, which is the same in every run if the folder --state holds a device key. The exit
    code is 3 if a file cannot be read or is not CT, and 0 if slices were read and rejected. Research use only: triage,
    not a diagnosis.

    \b
    Example:
      edge-ct classify slice.png --model model.tflite
      edge-ct classify study/ --model model.tflite --worklist --heatmap maps/
      edge-ct classify 'export/**/*.dcm' --model model.tflite --by series --json
    """
    from ..judging import rollup
    from .results import ClassifyOptions, open_results

    if as_json and as_csv:
        raise click.UsageError("give either --json or --csv")
    bundle = open_bundle(model, key, state)
    options = ClassifyOptions(
        state=state,
        record=record,
        series=series,
        patient=patient,
        heatmaps=heatmap,
        budget=heatmap_seconds,
        maps=maps,
        threads=threads,
        workers=workers,
        engine=engine,
    )
    with open_results(bundle, sources, options) as (results, tally):
        _print_results(results, by == "slice", as_json, as_csv)
    # JSON and CSV hold one kind of row; the table shows slices, series and patients.
    whole = by == "slice" and not (as_json or as_csv)
    if whole or by == "series":
        summaries = tally.all_series(bundle)
        _print_rolled(summaries, rollup.SeriesSummary, as_json, as_csv)
        _say_if_none(summaries, by)
    if whole or by == "patient":
        patients = tally.all_patients(bundle)
        _print_rolled(patients, rollup.PatientSummary, as_json, as_csv)
        _say_if_none(patients, by)
    if not (as_json or as_csv) and bundle.manifest.tensors.lesion_map is not None:
        click.echo(describe_share_column(bundle.manifest.lesions), err=True)
    for line in tally.left_out:
        remark(line)
    remark(str(tally))
    if tally.unread:
        context.exit(InputRejected.exit_code)


def _say_if_none(rolled: Sequence[Summary], by: str) -> None:
    if not rolled and by != "slice":
        remark(f"no {by} to show: only DICOM files name their {by}; name it with --{by}")


def _print_results(results: Iterator[Result], shown: bool, as_json: bool, as_csv: bool) -> None:
    """Print each result when it is there; results that are not shown are judged all the same."""
    from .results import csv_lines

    if shown and as_csv:
        for line in csv_lines(results):
            click.echo(line, nl=False)
        return
    for result in results:
        if shown:
            print_json(result) if as_json else click.echo(_row(result))


def _row(result: Result) -> str:
    decision = click.style(f"{result.decision:<9}", fg=DECISION_COLOURS[result.decision], bold=True)
    p = "      " if result.probability is None else f"{result.probability:6.1%}"
    reason = f"  ({result.reason})" if result.reason else ""
    return f"{decision} {p}{_lungs(result.lesion_share)}  {one_line(result.source)}{one_line(reason)}"


def _lungs(share: float | None) -> str:
    """Return the column of the lesion share, empty where it was not measured."""
    return "" if share is None else f"  lungs {share:4.0%}"


def _print_rolled(rolled: Sequence[Summary], kind: type[Summary], as_json: bool, as_csv: bool) -> None:
    from ..judging import rollup

    if as_csv:
        click.echo("".join(rollup.csv_table(kind, rolled)), nl=False)
        return
    for summary in rolled:
        print_json(summary) if as_json else click.echo(_rolled(summary))


def _rolled(summary: Summary) -> str:
    decision = click.style(f"{summary.decision:<9}", fg=DECISION_COLOURS[summary.decision], bold=True)
    p = "      " if summary.probability is None else f"{summary.probability:6.1%}"
    rejected = f", {summary.rejected_slices} rejected" if summary.rejected_slices else ""
    reason = f"  ({summary.reason})" if summary.reason else ""
    who = (
        f"series {summary.series}"
        if isinstance(summary.series, str)
        else f"patient {summary.patient or 'without a name'}"
    )
    counts = f"{summary.positive_slices} of {summary.slices} positive{rejected}"
    notes = f"  [{'; '.join(summary.notes)}]" if summary.notes else ""
    return f"{decision} {p}{_lungs(summary.lesion_share)}  {who}: {counts}{reason}{notes}"
