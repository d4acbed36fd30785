"""`edge-ct worklist`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from edge_ct.decision import Decision
from edge_ct.errors import EdgeCTError, WorklistDamaged
from edge_ct.reporting.counts import count_of
from edge_ct.system.files import one_line
from edge_ct.system.progress import print_json, remark

from ..command_options import delete_unreviewed_option, state_option
from ..text_rows import heading, text_row
from .database import FILE, LARGEST_NUMBER
from .reader import WorklistReader
from .records import Row
from .retention import MAX_KEEP_DAYS
from .worklist import Worklist

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


@click.group(short_help="List, review, export and verify stored results.")
def worklist() -> None:
    """List, review, export and verify the results that classify, serve, watch and listen have stored."""


@worklist.command("list", short_help="List results, most urgent first.")
@state_option
@click.option("--open", "only_open", is_flag=True, help="List only results without a review.")
@click.option("--decision", type=click.Choice(get_args(Decision)), help="List only results with this decision.")
@click.option("--series", help="List only results of this series.")
@click.option("--patient", metavar="KEY", help="List only results of this patient, given by the pseudonymised key.")
@click.option(
    "--limit",
    type=click.IntRange(1, LARGEST_NUMBER),
    default=100,
    show_default=True,
    help="Maximum number of results to list.",
)
@_json_option
def list_(
    state: Path,
    only_open: bool,
    decision: Decision | None,
    series: str | None,
    patient: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List results in the order of review.

    Open results come first: positive ones by falling probability, then refer, rejected and negative. Reviewed results
    follow.

    \b
    Example:
      edge-ct worklist list --open
    """
    with _open_to_read(state) as stored:
        rows = stored.rows(
            state="open" if only_open else None, decision=decision, series=series, patient=patient, limit=limit
        )
        counts = stored.counts("open")
    if rows and not as_json:
        click.echo(heading(f"{'time (UTC)':<16}  {'patient':<16}  slice", numbered=True))
    for row in rows:
        print_json(row) if as_json else click.echo(_line(row))
    open_results = ", ".join(f"{number} {name}" for name, number in counts.items())
    remark(
        f"{count_of(len(rows), 'result')} listed. Open in the whole worklist: {open_results}. "
        "Research use only: triage, not a diagnosis."
    )


@worklist.command(short_help="Show one result with its reviews and audit entries.")
@click.argument("number", type=int)
@state_option
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the slice beside its heat map to this PNG file.",
)
@click.option("--force", is_flag=True, help="Overwrite the picture if it exists.")
@_json_option
def show(number: int, state: Path, picture: Path | None, force: bool, as_json: bool) -> None:
    """Show one result: the model's answer, its reviews, and its entries in the audit trail.

    \b
    Example:
      edge-ct worklist show 17 --picture 17.png
    """
    with _open_to_read(state) as stored:
        row, reviews, trail = stored.get(number), stored.reviews(number), stored.trail(number)
        if picture:
            from .export import write_picture

            write_picture(stored, row, picture, force)
    if as_json:
        print_json({"result": row, "reviews": reviews, "trail": trail})
        return
    for name in Row.__struct_fields__[:-1]:
        value = getattr(row, name)
        click.echo(f"{name:<12} {'-' if value is None else value}")
    for review in reviews:
        label = review.label or "no label"
        click.echo(f"{'review':<12} {review.time} {review.reviewer}: {review.verdict}, {label}  {review.note}")
    for entry in trail:
        click.echo(f"{'trail':<12} {entry['seq']} {entry['time']} {entry['actor']}: {entry['action']}")


@worklist.command("review", short_help="Review a result: agree, or override the decision.")
@click.argument("number", type=int)
@state_option
@click.option("--reviewer", required=True, help="Name of the reviewer, stored with the review.")
@click.option("--agree", "verdict", flag_value="agree", help="Agree with the model's decision.")
@click.option(
    "--override",
    "label",
    type=click.Choice(["positive", "negative", "unusable"]),
    help="Override the model's decision with this label.",
)
@click.option("--note", default="", help="A remark that is stored with the review.")
def review_(number: int, state: Path, reviewer: str, verdict: Any, label: Any, note: str) -> None:
    """Review a result. The model's answer is kept; the review is stored beside it, and the latest review counts.

    \b
    Example:
      edge-ct worklist review 17 --reviewer "Dr Lima" --override negative --note "motion artefact"
    """
    if (verdict is None) == (label is None):
        raise click.UsageError("give either --agree or --override LABEL")
    with _open(state) as stored:
        review = stored.review(number, reviewer, verdict or "override", label, note)
    click.echo(f"{number}: {review.verdict}, {review.label or 'no label'}, {review.reviewer}, {review.time}")


@worklist.command("export", short_help="Export results, or labelled slices to train on.")
@state_option
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The file to write; for a dataset, the folder."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "json", "dataset"]),
    default="csv",
    show_default=True,
    help="Write a table of results, or a dataset of slices with the labels of their reviews.",
)
@click.option("--reviewed", is_flag=True, help="Export only reviewed results; a dataset never holds others.")
@click.option("--force", is_flag=True, help="Overwrite the file, or the dataset, if it exists.")
def export_(state: Path, out: Path, kind: str, reviewed: bool, force: bool) -> None:
    """Export the worklist as CSV or JSON, or its labelled slices as a dataset.

    `edge-ct train --from RUN --data OUT/slices.csv` continues the training of a run with such a dataset.

    \b
    Example:
      edge-ct worklist export --reviewed --format dataset --out reviewed/
      edge-ct train --from runs/mobilenetv2 --data reviewed/slices.csv --out runs/mobilenetv2-2
    """
    from . import export

    with _open(state) as stored:
        if kind == "dataset":
            counts = export.write_dataset(stored, out, force)
            classes = ", ".join(f"{count} {name}" for name, count in counts.items())
            remark(f"{out}: {classes}; table: {out / export.TABLE}")
        else:
            count = export.write_table(stored, out, kind, "reviewed" if reviewed else None, force)
            remark(f"{out}: {count_of(count, 'result')}")


@worklist.command("verify", short_help="Verify the file, the audit trail and every result.")
@state_option
@click.option(
    "--head", metavar="HASH", help="Hash that an earlier verification printed; its entry must still be in the trail."
)
@_json_option
def verify_(state: Path, head: str | None, as_json: bool) -> None:
    """Verify that no result, review or audit entry was lost or changed.

    Exit code 9 if there is a problem; the message names up to 20 results, reviews and entries that are not as edge-ct
    wrote them. Note the head that is printed and give it to a later verification, which then also finds that the whole
    folder was replaced by an older copy.

    \b
    Example:
      edge-ct worklist verify
    """
    with _open_to_read(state) as stored:
        verification = stored.verify(head)
    if as_json:
        print_json(verification)
    if verification.problem:
        raise WorklistDamaged(f"{state}: {'; '.join(verification.problems)}")
    if not as_json:
        counts = (
            f"{count_of(verification.results, 'result')}, {count_of(verification.reviews, 'review')}, "
            f"{count_of(verification.entries, 'entry', 'entries')}"
        )
        click.echo(f"good: {counts}, head {verification.head}")
        unbound = verification.entries if verification.bound is None else verification.bound - 1
        if unbound:
            remark(
                f"Entries 1 to {unbound} were written by an earlier version: they are not bound to the device key, and "
                "pictures of that time are compared with nothing older than the upgrade."
            )


@worklist.command("prune", short_help="Delete old results; the audit trail is kept.")
@state_option
@click.option(
    "--keep-days",
    type=click.IntRange(1, MAX_KEEP_DAYS),
    required=True,
    help="Delete results that are older than this number of days.",
)
@delete_unreviewed_option
@click.option(
    "--trust-clock",
    is_flag=True,
    help="Confirm that the clock and all dates of the worklist are right, also across gaps in its audit trail.",
)
def prune_(state: Path, keep_days: int, delete_unreviewed: bool, trust_clock: bool) -> None:
    """Delete old results with their pictures and reviews, and return the space to the file system.

    Results that nobody has reviewed are kept. The age of a result is the time that the audit trail has seen pass: a gap
    of more than 8 days between two entries does not count, because the clock may have been wrong before it. While the
    clock is behind the trail, or more than 8 days ahead of it, nothing is deleted and the exit code is 1.

    \b
    Example:
      edge-ct worklist prune --keep-days 90
    """
    with _open(state) as stored:
        pruned = stored.prune(keep_days, unreviewed=delete_unreviewed, trust_clock=trust_clock)
        used = stored.used_bytes()
    refusal = pruned.refusal()
    if refusal:
        raise EdgeCTError(f"{state}: {refusal}; if the clock is right, confirm that with --trust-clock")
    click.echo(f"{count_of(pruned.deleted, 'result')} deleted; {used / 2**20:.1f} MiB kept")
    for note in pruned.remarks():
        remark(note)


@worklist.command(short_help="List files that ended worker processes, or release one.")
@state_option
@click.option("--release", metavar="SHA256", help="Let this file be judged again, given by the start of its SHA-256.")
@_json_option
def quarantine(state: Path, release: str | None, as_json: bool) -> None:
    """List the files over which worker processes have ended.

    A file over which two have ended is not judged again: each time it is met, it is a rejected slice whose reason
    begins with "quarantined". Look at it with the tool of its format before you release it.

    \b
    Example:
      edge-ct worklist quarantine
      edge-ct worklist quarantine --release 3b4c19ff
    """
    from ..judging.incidents import MAX_ENDS

    with _open(state) if release else _open_to_read(state) as stored:
        held = stored.quarantine(MAX_ENDS)
        files = [held.release(release)] if release else held.files()
    for file in files:
        if as_json:
            print_json(file)
        else:
            status = "released" if release else "quarantined" if file.quarantined else "watched"
            ends = count_of(file.ends, "end")
            click.echo(f"{status:<11}  {file.sha256[:12]}  {ends}  {one_line(file.source)}  ({file.reason})")


def _open(state: Path) -> Worklist:
    """Open the worklist to change it."""
    _check_exists(state)
    return Worklist(state)


def _open_to_read(state: Path) -> WorklistReader:
    """Open the worklist without changing it, on a read-only disk as well."""
    _check_exists(state)
    return WorklistReader.open(state)


def _check_exists(state: Path) -> None:
    """Refuse a folder without a worklist: a mistyped folder must not look like an empty worklist."""
    if not (state / FILE).exists():
        raise EdgeCTError(
            f"{state}: no worklist in this folder; name another with --state, or begin one with edge-ct classify "
            "--worklist, serve, watch or listen"
        )


def _line(row: Row) -> str:
    review = f"  [{row.review.verdict}: {row.review.label or 'no label'}, {row.review.reviewer}]" if row.review else ""
    reason = f"  ({row.reason})" if row.reason else ""
    lungs = "" if row.lesion_share is None else f"  lungs {row.lesion_share:.0%}"
    text = f"{row.time[:16]}  {row.patient or '-':<16}  {row.source}{lungs}{reason}{review}"
    return text_row(row.decision, row.probability, text, number=row.id, bold=row.state == "open")
