"""`edge-ct classify`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_ct.classifier import Result
from edge_ct.engines.names import EngineName
from edge_ct.errors import InputRejected
from edge_ct.lesions import describe_share_column
from edge_ct.reporting.counts import count_of
from edge_ct.system.progress import Progress, print_json, remark
from edge_ct.trust.opening import open_bundle

from ..command_options import (
    engine_option,
    key_option,
    model_option,
    state_option,
    threads_option,
    workers_option,
)
from ..text_rows import heading, text_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_ct.bundle import Bundle

    from ..cluster.archive import ArchiveOptions
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
@click.option(
    "--cluster",
    metavar="auto|HOST:PORT",
    help="Judge an archive on the Ray cluster at this address, into --out; auto: the cluster in RAY_ADDRESS, or if "
    "that is not set, this machine.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --cluster: folder for the results, as Parquet files; the same command goes on after a kill.",
)
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
    cluster: str | None,
    out: Path | None,
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
      edge-ct classify /archive --model model.tflite --cluster auto --out results.parquet
    """
    from .results import ClassifyOptions, open_results

    if as_json and as_csv:
        raise click.UsageError("give either --json or --csv")
    if cluster or out:
        local = {"--csv": as_csv, "--by": by != "slice", "--series": series, "--heatmap": heatmap, "--maps": maps}
        local |= {"--worklist": record, "--patient": patient}
        if not (cluster and out):
            raise click.UsageError(
                "--cluster and --out go together: results of a cluster are a folder of Parquet files"
            )
        _refuse_local_options([name for name, value in local.items() if value])
        from edge_ct.system.cluster_command_options import cluster_address

        from ..cluster.archive import ArchiveOptions

        archive_options = ArchiveOptions(out, threads, workers, engine)
        bundle = open_bundle(model, key, state)
        _classify_on_cluster(context, sources, bundle, cluster_address(cluster), archive_options, as_json)
        return
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
    lungs = bundle.manifest.tensors.lesion_map is not None
    with open_results(bundle, sources, options) as (results, tally):
        _print_results(results, by == "slice", as_json, as_csv, lungs)
    # JSON and CSV hold one kind of row; the table shows slices, series and patients.
    whole = by == "slice" and not (as_json or as_csv)
    shows_shares = by == "slice" and tally.has_judged
    for kind, summarise in (("series", tally.all_series), ("patient", tally.all_patients)):
        if whole or by == kind:
            summaries = summarise(bundle)
            _print_rolled(summaries, kind, as_json, as_csv, lungs)
            _say_if_none(summaries, by)
            shows_shares |= any(summary.lesion_share is not None for summary in summaries)
    if lungs and shows_shares and not (as_json or as_csv):
        remark(describe_share_column(bundle.manifest.lesions))
    for line in tally.left_out:
        remark(line)
    remark(str(tally))
    if tally.unread:
        context.exit(InputRejected.exit_code)


def _refuse_local_options(given: Sequence[str]) -> None:
    if given:
        raise click.UsageError(f"{given[0]} does not go with --cluster, which writes one row for each slice to --out")


def _classify_on_cluster(
    context: click.Context,
    sources: tuple[str, ...],
    bundle: Bundle,
    address: str | None,
    options: ArchiveOptions,
    as_json: bool,
) -> None:
    """Judge an archive on a Ray cluster, and print the counts."""
    from ..cluster.archive import classify_archive

    study = classify_archive(bundle, sources, address, options, Progress())
    if as_json:
        print_json(study)
    else:
        shown = ", ".join(f"{number} {name}" for name, number in study.counts.items())
        click.echo(f"{options.out}: {count_of(study.slices, 'slice')} of {count_of(study.files, 'file')}: {shown}")
    if study.unread:
        context.exit(InputRejected.exit_code)


def _say_if_none(rolled: Sequence[Summary], by: str) -> None:
    if not rolled and by != "slice":
        remark(f"no {by} to show: only DICOM files name their {by}; name it with --{by}")


def _print_results(results: Iterator[Result], shown: bool, as_json: bool, as_csv: bool, lungs: bool) -> None:
    """Print each result when it is there; results that are not shown are judged all the same."""
    from .results import csv_lines

    if shown and as_csv:
        for line in csv_lines(results):
            click.echo(line, nl=False)
        return
    for number, result in enumerate(results):
        if not shown:
            continue
        if as_json:
            print_json(result)
            continue
        if not number:
            click.echo(heading("slice", lungs=lungs))
        click.echo(_row(result, lungs))


def _row(result: Result, lungs: bool) -> str:
    reason = f"  ({result.reason})" if result.reason else ""
    text = f"{result.source}{reason}"
    return text_row(result.decision, result.probability, text, lungs=lungs, lesion_share=result.lesion_share)


def _print_rolled(rolled: Sequence[Summary], by: str, as_json: bool, as_csv: bool, lungs: bool) -> None:
    from ..judging import rollup

    if as_csv:
        kind: type[Summary] = rollup.SeriesSummary if by == "series" else rollup.PatientSummary
        click.echo("".join(rollup.csv_table(kind, rolled)), nl=False)
        return
    if rolled and not as_json:
        click.echo(heading(by, lungs=lungs))
    for summary in rolled:
        print_json(summary) if as_json else click.echo(_rolled(summary, lungs))


def _rolled(summary: Summary, lungs: bool) -> str:
    series = isinstance(summary.series, str)
    who = f"series {summary.series}" if series else f"patient {summary.patient or 'without a name'}"
    rejected = f", {summary.rejected_slices} rejected" if summary.rejected_slices else ""
    counts = f"{summary.positive_slices} of {count_of(summary.slices, 'slice')} positive{rejected}"
    reason = f"  ({summary.reason})" if summary.reason else ""
    notes = f"  [{'; '.join(summary.notes)}]" if summary.notes else ""
    text = f"{who}: {counts}{reason}{notes}"
    return text_row(summary.decision, summary.probability, text, lungs=lungs, lesion_share=summary.lesion_share)
