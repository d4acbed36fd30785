"""`edge-ct watch`: parse, call, print."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from edge_ct.decision import Decision
from edge_ct.engines.names import EngineName
from edge_ct.reporting.counts import count_of
from edge_ct.system import native_output
from edge_ct.system.progress import is_quiet, print_json
from edge_ct.trust.opening import open_bundle

from ..command_options import (
    delete_unreviewed_option,
    engine_option,
    keep_days_option,
    key_option,
    model_option,
    state_option,
    threads_option,
    workers_option,
)
from ..text_rows import heading, text_row

if TYPE_CHECKING:
    from ..worklist.records import Row


@click.command(short_help="Judge slices as they arrive in a folder.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@model_option
@key_option
@state_option
@keep_days_option
@delete_unreviewed_option
@click.option(
    "--interval",
    type=click.FloatRange(0.05, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two scans of the folder.",
)
@click.option(
    "--settle",
    type=click.FloatRange(0.05, 3600),
    default=3.0,
    show_default=True,
    help="Seconds for which a file must be unchanged before it is judged.",
)
@click.option("--once", is_flag=True, help="Exit when every file in the folder is judged.")
@click.option("--json", "as_json", is_flag=True, help="Print each stored row as one line of JSON.")
@threads_option
@workers_option
@engine_option
def watch(
    folder: Path,
    model: str | None,
    key: Path | None,
    state: Path,
    keep_days: int | None,
    delete_unreviewed: bool,
    interval: float,
    settle: float,
    once: bool,
    as_json: bool,
    threads: int,
    workers: int | None,
    engine: EngineName,
) -> None:
    """Judge slices as they arrive in DIR (a USB stick, a modality's export) and store each result in the worklist.

    A file is judged once, when it is complete, also across restarts. Nothing in DIR is moved or changed. A line is
    printed when its result is on the disk. Research use only: triage, not a diagnosis.

    \b
    Example:
      edge-ct watch /media/usb --model model.tflite --keep-days 90
    """
    from ..judging.incidents import MAX_ENDS
    from ..judging.pool import open_judge
    from ..worklist.worklist import Worklist
    from .hot_folder import Watch

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    with contextlib.ExitStack() as stack:
        # First of all: worker processes are forked before files are opened.
        judge = open_judge(open_bundle(model, key, state), workers, threads, engine)
        stack.enter_context(judge)
        worklist = stack.enter_context(Worklist(state))
        judge.incidents = worklist.quarantine(MAX_ENDS)
        people = stack.enter_context(native_output.captured_native_stderr())
        watching = Watch(folder, worklist, judge, settle, people)
        counts: Counter[Decision] = Counter()
        try:
            for added in watching.run(stop, interval, keep_days, once, delete_unreviewed):
                row = added.row
                if as_json:
                    print_json(row)
                else:
                    if not counts:
                        click.echo(heading("slice", numbered=True))
                    click.echo(_row(row))
                counts[row.decision] += 1
        finally:
            if not is_quiet():
                people(_closing_line(folder, counts))


def _row(row: Row) -> str:
    reason = f"  ({row.reason})" if row.reason else ""
    return text_row(row.decision, row.probability, f"{row.source}{reason}", number=row.id)


def _closing_line(folder: Path, counts: Counter[Decision]) -> str:
    decisions = ", ".join(f"{counts[decision]} {decision}" for decision in get_args(Decision))
    return f"{folder}: {count_of(counts.total(), 'result')} stored: {decisions}. Research use only."
