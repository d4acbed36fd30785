"""`edge-ct worklist`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from edge_ct.decision import Decision
from edge_ct.errors import EdgeCTError, WorklistDamaged
from edge_ct.system.files import refuse_existing, write_text
from edge_ct.system.progress import print_json

from ..command_options import state_option
from .database import FILE
from .records import Row
from .worklist import Worklist

_COLOURS = {"positive": "red", "refer": "yellow", "negative": "green", "rejected": "magenta"}
_json_option = click.option("--json", "as_json", is_flag=True, help="JSON alone on standard output.")


@click.group(short_help="Look at, review, export and verify stored results.")
def worklist() -> None:
    """Look at the results that classify, serve, watch and listen stored, most urgent first; review and export them."""


@worklist.command("list", short_help="Results, most urgent first.")
@state_option
@click.option("--open", "only_open", is_flag=True, help="Only what nobody has reviewed.")
@click.option("--decision", type=click.Choice(get_args(Decision)), help="Only results of this decision.")
@click.option("--series", help="Only this series.")
@click.option("--patient", metavar="KEY", help="Only this patient, by the pseudonymised key.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
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
    """List results: open ones first, positive by probability, refer, rejected, negative; then reviewed ones.

    \b
    Example:
      edge-ct worklist list --open
    """
    with _open(state) as stored:
        rows = stored.rows(
            state="open" if only_open else None, decision=decision, series=series, patient=patient, limit=limit
        )
        counts = stored.counts("open")
    for row in rows:
        print_json(row) if as_json else click.echo(_line(row))
    shown = ", ".join(f"{number} {name}" for name, number in counts.items())
    click.echo(f"open: {shown}. Research use only: triage, not a diagnosis.", err=True)


@worklist.command(short_help="One result with its reviews and its trail.")
@click.argument("number", type=int)
@state_option
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Write slice and heat map as PNG.")
@click.option("--force", is_flag=True, help="Overwrite the picture.")
@_json_option
def show(number: int, state: Path, picture: Path | None, force: bool, as_json: bool) -> None:
    """Show one result: the model's answer, what people said of it, and the entries of the audit trail.

    \b
    Example:
      edge-ct worklist show 17 --picture 17.png
    """
    with _open(state) as stored:
        row, reviews, trail = stored.get(number), stored.reviews(number), stored.trail(number)
        if picture:
            from . import pictures

            refuse_existing(picture, force)
            pictures.write(stored, row, picture)
    if as_json:
        print_json({"result": row, "reviews": reviews, "trail": trail})
        return
    for name in Row.__struct_fields__[:-1]:
        value = getattr(row, name)
        click.echo(f"{name:<12} {'-' if value is None else value}")
    for own in reviews:
        click.echo(f"{'review':<12} {own.time} {own.reviewer}: {own.verdict}, {own.label or 'no label'}  {own.note}")
    for entry in trail:
        click.echo(f"{'trail':<12} {entry['seq']} {entry['time']} {entry['actor']}: {entry['action']}")


@worklist.command(short_help="Sign a result off: agree, or override it.")
@click.argument("number", type=int)
@state_option
@click.option("--reviewer", required=True, help="Who reviews.")
@click.option("--agree", "verdict", flag_value="agree", help="The model is right.")
@click.option(
    "--override", "label", type=click.Choice(["positive", "negative", "unusable"]), help="It is not: this is."
)
@click.option("--note", default="", help="Why.")
def review(number: int, state: Path, reviewer: str, verdict: Any, label: Any, note: str) -> None:
    """Sign a result off. The model's answer stays; the review stands beside it, and the latest one counts.

    \b
    Example:
      edge-ct worklist review 17 --reviewer "Dr Lima" --override negative --note "motion artefact"
    """
    if (verdict is None) == (label is None):
        raise click.UsageError("either --agree or --override LABEL")
    with _open(state) as stored:
        own = stored.review(number, reviewer, verdict or "override", label, note)
    click.echo(f"{number}: {own.verdict}, {own.label or 'no label'}, {own.reviewer}, {own.time}")


@worklist.command(short_help="Write results, or labelled slices to train on.")
@state_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file, or the dataset's folder.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "json", "dataset"]),
    default="csv",
    show_default=True,
    help="A table, or a folder of slices with the labels of their reviews.",
)
@click.option("--reviewed", is_flag=True, help="Only reviewed results; a dataset holds no others anyway.")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def export(state: Path, out: Path, kind: str, reviewed: bool, force: bool) -> None:
    """Write the worklist as CSV or JSON, or its reviewed slices as a dataset for `edge-ct train --from RUN --data OUT`.

    \b
    Example:
      edge-ct worklist export --reviewed --format dataset --out reviewed/
      edge-ct train --from runs/mobilenetv2 --data reviewed/slices.csv --out runs/mobilenetv2-2
    """
    from . import export as exporting

    with _open(state) as stored:
        if kind == "dataset":
            counts = exporting.write_dataset(stored, out, force)
            said = ", ".join(f"{count} {name}" for name, count in counts.items())
            click.echo(f"{out}: {said}; table: {out / exporting.TABLE}", err=True)
            return
        refuse_existing(out, force)
        rows = stored.rows(state="reviewed" if reviewed else None, by="number")
        write_text(out, exporting.to_csv(rows) if kind == "csv" else exporting.to_json(rows))
        stored.note("export", "export", {"to": kind, "results": len(rows)})
    click.echo(f"{out}: {len(rows)} results", err=True)


@worklist.command(short_help="Check the file, the audit chain and every row.")
@state_option
@click.option("--head", metavar="HASH", help="The hash of an entry that must be there, from an earlier verification.")
@_json_option
def verify(state: Path, head: str | None, as_json: bool) -> None:
    """Check that nothing was lost or changed; exit code 9, and the first bad entry named, where something was.

    \b
    Example:
      edge-ct worklist verify
    """
    with _open(state) as stored:
        found = stored.verify(head)
    if as_json:
        print_json(found)
    if found.problem:
        raise WorklistDamaged(f"{state}: {found.problem}")
    if not as_json:
        click.echo(
            f"good: {found.results} results, {found.reviews} reviews, {found.entries} entries, head {found.head}"
        )


@worklist.command(short_help="Delete old results; the audit trail stays.")
@state_option
@click.option("--keep-days", type=click.IntRange(1), required=True, help="Results of so many days are kept.")
def prune(state: Path, keep_days: int) -> None:
    """Delete results, pictures and reviews older than so many days, and give the room back.

    \b
    Example:
      edge-ct worklist prune --keep-days 90
    """
    with _open(state) as stored:
        pruned = stored.prune(keep_days)
        used = stored.used_bytes()
    click.echo(f"{pruned} results deleted; {used / 2**20:.1f} MiB kept")


def _open(state: Path) -> Worklist:
    """The worklist that is there: a mistyped folder must not look like an empty one."""
    if not (state / FILE).exists():
        raise EdgeCTError(f"{state}: no worklist there; edge-ct classify --worklist, serve, watch and listen begin one")
    return Worklist(state)


def _line(row: Row) -> str:
    decision = click.style(f"{row.decision:<9}", fg=_COLOURS[row.decision], bold=row.state == "open")
    p = "      " if row.probability is None else f"{row.probability:6.1%}"
    said = f"  [{row.review.verdict}: {row.review.label or 'no label'}, {row.review.reviewer}]" if row.review else ""
    reason = f"  ({row.reason})" if row.reason else ""
    return f"{row.id:>6}  {decision} {p}  {row.time[:16]}  {row.patient or '-':<16}  {row.source}{reason}{said}"
