"""`edge-ct data`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_ct.errors import InputRejected
from edge_ct.system.progress import Progress, print_json

from ..command_options import PATH, force_option, json_option, positive_option, seed_option


@click.group(short_help="Make, check, group and preview slices.")
def data() -> None:
    """Make, check, group and preview slices."""


@data.command(short_help="Write a phantom dataset.")
@click.argument("out", type=PATH)
@click.option("--patients", type=click.IntRange(2, 100_000), default=60, show_default=True, help="Half are positive.")
@click.option("--slices", type=click.IntRange(1, 500), default=8, show_default=True, help="Slices a patient.")
@click.option("--size", type=click.IntRange(32, 1024), default=224, show_default=True, help="Side in pixels.")
@seed_option
@click.option("--twins", is_flag=True, help="Each slice twice, without lesions and with them.")
@force_option
def synth(out: Path, patients: int, slices: int, size: int, seed: int, twins: bool, force: bool) -> None:
    """Write synthetic chest CT slices, labelled, by patient; slices.csv in the folder names the patients as groups.

    \b
    Example:
      edge-ct data synth phantoms --patients 60
      edge-ct train mobilenetv2 --data phantoms/slices.csv --split grouped --size 96 --out runs/phantom
    """
    from . import synthesise as synthesis

    table = synthesis.write(out, patients, slices, size, seed, force, Progress(), twins)
    click.echo(f"{patients * slices * (1 + twins)} synthetic slices of {patients} phantom patients: {table}")


@data.command(short_help="Look for what is wrong with a dataset.")
@click.argument("path", type=PATH, metavar="DIR_OR_CSV")
@positive_option
@click.option("--sheet", type=PATH, help="Draw the pairs to look at: a PNG to write.")
@force_option
@json_option
@click.pass_context
def check(context: click.Context, path: Path, positive: str, sheet: Path | None, force: bool, as_json: bool) -> None:
    """Look for unreadable files, duplicates, contradicting labels, and properties that give the label away.

    Exit code 3 where a file cannot be read, 7 where there are not two classes.

    \b
    Example:
      edge-ct data check slices/
      edge-ct data check slices/ --sheet pairs.png
    """
    from . import audit

    found = audit.check(path, positive, Progress(), sheet, force)
    if as_json:
        print_json(found)
    else:
        _print_audit(found)
        if sheet:
            click.echo(f"{sheet}: {len(found.worst)} pairs to look at" if found.worst else "no pairs to draw")
    if found.unreadable:
        context.exit(InputRejected.exit_code)


@data.command(short_help="Group slices by patient, as far as it can be told.")
@click.argument("path", type=PATH, metavar="DIR_OR_CSV")
@click.option("--out", type=PATH, required=True, help="The table to write, a CSV path,label,group.")
@positive_option
@click.option(
    "--distance",
    type=click.IntRange(0, 256),
    default=30,
    show_default=True,
    help="Link slices whose difference hashes differ in so many of 256 bits at most.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1),
    default=0.85,
    show_default=True,
    help="Link slices whose registered lungs overlap at least so much (intersection over union) ...",
)
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1),
    default=0.87,
    show_default=True,
    help="... and whose gradients are at least so similar (cosine). More makes more, smaller groups.",
)
@click.option("--sheet", type=PATH, help="Draw the largest groups and the weakest links: a PNG to write.")
@click.option("--regroup", is_flag=True, help="Leave the groups of a CSV that has some out of account.")
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
    """Group slices that are likely to be one patient's, for splits that keep them together.

    DICOM: PatientID, else SeriesInstanceUID, is the group. Other slices are linked where their difference hashes agree,
    or where lung shape and gradients do; linked slices, and what they are linked with, are a group. Look at the groups,
    edit the table, and train on it.

    \b
    Example:
      edge-ct data group slices/ --out groups.csv --sheet groups.png
      edge-ct train mobilenetv2 --data groups.csv --split grouped --out runs/grouped
    """
    from . import grouping
    from .similarity import Limits

    limits = Limits(distance, overlap, similarity)
    found = grouping.write(path, out, positive, limits, sheet, regroup, force, Progress())
    if as_json:
        print_json(found)
        return
    click.echo(
        f"{out}: {found.n} slices in {found.groups} groups; the largest has {found.largest}, {found.alone} have 1"
    )
    click.echo(
        f"{found.by_dicom} grouped by DICOM identifiers, {found.n - found.by_dicom} compared "
        f"({found.without_lungs} without lungs): {found.links} links, {found.discordant_links} between two labels"
    )
    if found.precision is not None and found.recall is not None:
        click.echo(f"against the groups it had: pairwise precision {found.precision:.3f}, recall {found.recall:.3f}")
    if sheet:
        click.echo(f"{sheet}: the largest groups and the weakest links")
    _print_warnings(found.warnings)


@data.command(short_help="Draw what augmentation makes of slices.")
@click.argument("path", type=PATH, metavar="DIR_OR_CSV")
@click.option("--out", type=PATH, required=True, help="The contact sheet to write, a PNG.")
@click.option(
    "--augment",
    default="standard",
    show_default=True,
    help="Policy: none, flips, standard, paper, travel, or a .json file of one.",
)
@click.option("--slices", type=click.IntRange(2, 1000), default=6, show_default=True, help="Rows; half are positive.")
@click.option("--per-slice", type=click.IntRange(1, 100), default=6, show_default=True, help="Versions of each slice.")
@click.option("--size", type=click.IntRange(32, 1024), default=224, show_default=True, help="Side in pixels.")
@positive_option
@seed_option
@force_option
@json_option
def preview(path: Path, out: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Draw slices, each as it is and as training draws it in its first epochs, on a contact sheet.

    A policy of your own is a JSON object of ranges, such as {"rotate": 10, "flip": 0.5}; what it leaves out is off.
    With --json the policy is printed in full, to begin from.

    \b
    Example:
      edge-ct data preview slices/ --augment travel --out sheet.png
      edge-ct data preview slices/ --augment mine.json --slices 4 --per-slice 10 --out sheet.png
    """
    from . import preview as previews

    sheet = previews.write(path, out, previews.Options(**options), force, Progress())
    if as_json:
        print_json(sheet)
    else:
        click.echo(
            f"{out}: {len(sheet.slices)} slices through {sheet.policy}, versions of each: {options['per_slice']}"
        )


def _print_audit(found: Any) -> None:
    smallest, median, largest = found.sides
    click.echo(f"{found.n} slices: {', '.join(f'{count} {name}' for name, count in found.classes.items())}")
    click.echo(f"formats {found.formats}, modes {found.modes}, sides {smallest} to {largest} px (median {median:g})")
    click.echo(
        f"near-duplicates: {found.near_duplicate_pairs} pairs; {found.slices_in_near_duplicate_groups} slices in "
        f"{found.near_duplicate_groups} groups"
    )
    click.echo(
        f"like one patient's: {found.neighbour_pairs} pairs; with the near-duplicates "
        f"{found.slices_in_neighbour_groups} slices in {found.neighbour_groups} groups"
    )
    shown = (f"{name} {'constant' if auc is None else f'{auc:.2f}'}" for name, auc in found.shortcuts.items())
    click.echo(f"label predicted without the lungs (AUC): {', '.join(shown)}")
    for item in found.unreadable[:20]:
        click.echo(f"unreadable: {item.path}: {item.reason}")
    for pair in (*found.conflicts, *found.neighbour_conflicts)[:20]:
        click.echo(
            f"contradicting labels: {pair.first} and {pair.second} "
            f"(distance {pair.distance}, similarity {pair.similarity:.2f})"
        )
    _print_warnings(found.warnings)


def _print_warnings(warnings: list[str]) -> None:
    for warning in warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}")
    if not warnings:
        click.echo("nothing to warn of")
