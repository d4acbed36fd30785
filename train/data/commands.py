"""`edge-ct data`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_ct.errors import InputRejected
from edge_ct.reporting.counts import count_of
from edge_ct.system.progress import Progress, print_json

from ..command_options import PATH, force_option, json_option, positive_option, seed_option

if TYPE_CHECKING:
    from .audit import Audit
    from .grouping import GroupingSummary


@click.group(short_help="Make, check, group and preview slices.")
def data() -> None:
    """Make, check, group and preview training data."""


@data.command(short_help="Write a phantom data set.")
@click.argument("out", type=PATH)
@click.option(
    "--patients",
    type=click.IntRange(2, 100_000),
    default=60,
    show_default=True,
    help="Number of patients, half of them positive.",
)
@click.option(
    "--slices", type=click.IntRange(1, 500), default=8, show_default=True, help="Number of slices per patient."
)
@click.option(
    "--size", type=click.IntRange(32, 1024), default=224, show_default=True, help="Side of a slice in pixels."
)
@seed_option
@click.option("--twins", is_flag=True, help="Draw each slice twice, without and with lesions.")
@force_option
def synth(out: Path, patients: int, slices: int, size: int, seed: int, twins: bool, force: bool) -> None:
    """Write labelled synthetic chest CT slices; slices.csv in the folder names the patients as groups.

    \b
    Example:
      edge-ct data synth phantoms --patients 60
      edge-ct train mobilenetv2 --data phantoms/slices.csv --split grouped --size 96 --out runs/phantom
    """
    from .synthesise import write_phantom_dataset

    table = write_phantom_dataset(out, patients, slices, size, seed, force, Progress(), twins)
    click.echo(f"{table}: {patients * slices * (1 + twins)} synthetic slices of {patients} phantom patients")


@data.command(short_help="Check a data set for problems.")
@click.argument("path", type=PATH, metavar="DIR_OR_CSV")
@positive_option
@click.option("--sheet", type=PATH, help="PNG file to draw the most suspicious pairs of slices to.")
@force_option
@json_option
@click.pass_context
def check(context: click.Context, path: Path, positive: str, sheet: Path | None, force: bool, as_json: bool) -> None:
    """Check for unreadable files, duplicates, contradicting labels, and properties that give the label away.

    The exit code is 3 if a file cannot be read, and 7 if there are not two classes.

    \b
    Example:
      edge-ct data check slices/
      edge-ct data check slices/ --sheet pairs.png
    """
    from .audit import check_dataset

    audit = check_dataset(path, positive, Progress(), sheet, force)
    if as_json:
        print_json(audit)
    else:
        _print_audit(audit)
        if sheet:
            click.echo(
                f"{sheet}: {count_of(len(audit.worst), 'pair')} to check"
                if audit.worst
                else "no suspicious pairs to draw"
            )
    if audit.unreadable:
        context.exit(InputRejected.exit_code)


@data.command(short_help="Group slices by patient.")
@click.argument("path", type=PATH, metavar="DIR_OR_CSV")
@click.option("--out", type=PATH, required=True, help="CSV file to write, with the columns path,label,group.")
@positive_option
@click.option(
    "--distance",
    type=click.IntRange(0, 256),
    default=30,
    show_default=True,
    help="Link slices whose difference hashes differ in at most this many of 256 bits.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1),
    default=0.85,
    show_default=True,
    help="Also link slices whose registered lungs overlap at least this much (intersection over union) and whose "
    "gradients reach --similarity.",
)
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1),
    default=0.87,
    show_default=True,
    help="Minimum cosine similarity of gradients for such a link; higher values give more and smaller groups.",
)
@click.option("--sheet", type=PATH, help="PNG file to draw the largest groups and the weakest links to.")
@click.option("--regroup", is_flag=True, help="Ignore the groups that a CSV already names.")
@force_option
@json_option
def group(
    path: Path,
    out: Path,
    positive: str,
    distance: int,
    overlap: float,
    similarity: float,
    sheet: Path | None,
    regroup: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Group slices that are likely to be of one patient, for splits that keep patients together.

    DICOM files are grouped by PatientID or else SeriesInstanceUID. Other slices are linked if their difference hashes
    agree, or if both lung shape and gradients do; slices connected by links are a group. Check the groups, edit the
    table, and train on it.

    \b
    Example:
      edge-ct data group slices/ --out groups.csv --sheet groups.png
      edge-ct train mobilenetv2 --data groups.csv --split grouped --out runs/grouped
    """
    from .grouping import write_groups
    from .similarity import LinkLimits

    limits = LinkLimits(distance, overlap, similarity)
    summary = write_groups(path, out, positive, limits, sheet, regroup, force, Progress())
    if as_json:
        print_json(summary)
        return
    _print_grouping(summary, out)
    if sheet:
        click.echo(f"{sheet}: the largest groups and the weakest links")
    _print_warnings(summary.warnings)


@data.command(short_help="Preview augmented slices.")
@click.argument("path", type=PATH, metavar="DIR_OR_CSV")
@click.option("--out", type=PATH, required=True, help="PNG file to write the contact sheet to.")
@click.option(
    "--augment",
    default="standard",
    show_default=True,
    help="Augmentation policy: none, flips, standard, paper, travel, or a .json file.",
)
@click.option(
    "--slices",
    type=click.IntRange(2, 1000),
    default=6,
    show_default=True,
    help="Number of slices, one per row; half of them are positive.",
)
@click.option(
    "--per-slice",
    type=click.IntRange(1, 100),
    default=6,
    show_default=True,
    help="Number of augmented versions of each slice.",
)
@click.option(
    "--size", type=click.IntRange(32, 1024), default=224, show_default=True, help="Side of a slice in pixels."
)
@positive_option
@seed_option
@force_option
@json_option
def preview(path: Path, out: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Draw a contact sheet of slices, each as it is and as it is augmented in the first epochs of a training.

    A policy in a file is a JSON object of ranges, such as {"rotate": 10, "flip": 0.5}; changes that it does not name
    are switched off. Use --json to print a complete policy as a template.

    \b
    Example:
      edge-ct data preview slices/ --augment travel --out sheet.png
      edge-ct data preview slices/ --augment mine.json --slices 4 --per-slice 10 --out sheet.png
    """
    from .preview import PreviewOptions, write_preview

    sheet = write_preview(path, out, PreviewOptions(**options), force, Progress())
    if as_json:
        print_json(sheet)
    else:
        click.echo(
            f"{out}: {count_of(len(sheet.slices), 'slice')} with policy {sheet.policy}, "
            f"{count_of(options['per_slice'], 'version')} of each"
        )


def _print_audit(audit: Audit) -> None:
    smallest, median, largest = audit.sides
    click.echo(f"{count_of(audit.n, 'slice')}: {', '.join(f'{count} {name}' for name, count in audit.classes.items())}")
    click.echo(
        f"formats: {_format_counts(audit.formats)}; colour types: {_format_counts(audit.modes)}; "
        f"sides: {smallest} to {largest} px (median {median:g})"
    )
    click.echo(
        f"near-duplicates: {count_of(audit.near_duplicate_pairs, 'pair')}; "
        f"{count_of(audit.slices_in_near_duplicate_groups, 'slice')} in "
        f"{count_of(audit.near_duplicate_groups, 'group')}"
    )
    click.echo(
        f"slices that look like one patient: {count_of(audit.neighbour_pairs, 'pair')}; together with the "
        "near-duplicates "
        f"{count_of(audit.slices_in_neighbour_groups, 'slice')} in {count_of(audit.neighbour_groups, 'group')}"
    )
    scores = (f"{name} {'constant' if auc is None else f'{auc:.2f}'}" for name, auc in audit.shortcuts.items())
    click.echo(f"AUC of predicting the label without the lungs: {', '.join(scores)}")
    if leak := audit.sources:
        click.echo(
            f"AUC of predicting the label by the source alone: {leak.auc:.2f}, balanced accuracy "
            f"{leak.balanced_accuracy:.0%}"
        )
    for item in audit.unreadable[:20]:
        click.echo(f"unreadable: {item.path}: {item.reason}")
    for pair in (*audit.conflicts, *audit.neighbour_conflicts)[:20]:
        click.echo(
            f"contradicting labels: {pair.first} and {pair.second} "
            f"(distance {pair.distance}, similarity {pair.similarity:.2f})"
        )
    _print_warnings(audit.warnings)


def _print_grouping(summary: GroupingSummary, out: Path) -> None:
    click.echo(
        f"{out}: {count_of(summary.n, 'slice')} in {count_of(summary.groups, 'group')}; the largest group has "
        f"{count_of(summary.largest, 'slice')}; {count_of(summary.alone, 'group')} of a single slice"
    )
    click.echo(
        f"{count_of(summary.by_dicom, 'slice')} grouped by DICOM identifiers, {summary.n - summary.by_dicom} "
        f"by similarity ({summary.without_lungs} without lungs): {summary.links} links, "
        f"{summary.discordant_links} of them between "
        "different labels"
    )
    if summary.precision is not None and summary.recall is not None:
        click.echo(
            f"compared with the groups of the data set: pairwise precision {summary.precision:.3f}, "
            f"recall {summary.recall:.3f}"
        )


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _print_warnings(warnings: list[str]) -> None:
    for warning in warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}")
    if not warnings:
        click.echo("no warnings")
