"""`edge-ct watch`: parse, call, print."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from edge_ct.decision import Decision
from edge_ct.engines.names import EngineName
from edge_ct.errors import InputRejected
from edge_ct.reporting.counts import count_of
from edge_ct.system import native_output
from edge_ct.system.files import one_line
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
from ..watchdog import watchdog

if TYPE_CHECKING:
    from ..worklist.records import Row
    from .folder_events import FolderEvents

# A slice that a worker judges when SIGTERM comes has this many seconds; its file is judged again at the next start.
_STOP_SECONDS = 3.0
_NAMED = 3  # files of a kind that a line names


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
@click.pass_context
def watch(
    context: click.Context,
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

    A file is judged once, when it is complete, also across restarts. Nothing in DIR is moved or changed, and links in
    it are not followed. A line is printed when its result is on the disk. With --once, the exit code is 3 if DIR does
    not exist or something in it could not be read. Research use only: triage, not a diagnosis.

    \b
    Example:
      edge-ct watch /media/usb --model model.tflite --keep-days 90
    """
    from ..judging.incidents import MAX_ENDS
    from ..judging.pool import open_judge
    from ..worklist.worklist import Worklist
    from .hot_folder import Watch

    stop = threading.Event()
    _stop_on_sigterm(stop)
    with contextlib.ExitStack() as stack:
        # First of all: worker processes are forked before files are opened.
        judge = open_judge(open_bundle(model, key, state), workers, threads, engine)
        stack.enter_context(judge)
        worklist = stack.enter_context(Worklist(state))
        judge.incidents = worklist.quarantine(MAX_ENDS)
        people = stack.enter_context(native_output.captured_native_stderr())
        watching = Watch(folder, worklist, judge, settle, people, events=_open_events(stack))
        if folder.is_dir() and not is_quiet():
            people(f"watching {one_line(str(folder.resolve()))}; links in it are not followed")
        stack.enter_context(watchdog(lambda: not judge.broken, os.environ))
        logger, handler = logging.getLogger("edge_ct.judging"), _LineHandler(people)
        logger.addHandler(handler)
        # Before the descriptor that it writes to is closed, and perhaps used for another file.
        stack.callback(logger.removeHandler, handler)
        counts: Counter[Decision] = Counter()
        try:
            for added in watching.run(stop, interval, keep_days, once, delete_unreviewed):
                row = added.row
                counts[row.decision] += 1
                if as_json:
                    print_json(row)
                else:
                    if counts.total() == 1:
                        click.echo(heading("slice", numbered=True))
                    click.echo(_row(row))
        except SystemExit:  # SIGTERM: the slices that are being judged are judged again at the next start.
            pass
        finally:
            if not is_quiet():
                people(_closing_line(folder, counts))
        if once and watching.unread:
            people(_unread_line(watching.unread))
            context.exit(InputRejected.exit_code)


class _LineHandler(logging.Handler):
    """Prints what is logged, a worker's end for example, while native libraries are silenced."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(one_line(record.getMessage()))


def _unread_line(names: list[str]) -> str:
    shown = ", ".join(one_line(name) for name in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names)} of the files and folders could not be read: {shown}"


def _open_events(stack: contextlib.ExitStack) -> FolderEvents | None:
    """Return what reports changes of a folder; None on systems that do not."""
    from .folder_events import FolderEvents

    try:
        return stack.enter_context(contextlib.closing(FolderEvents()))
    except (OSError, AttributeError):
        return None


def _stop_on_sigterm(stop: threading.Event) -> None:
    """Set `stop` on SIGTERM; end the command a little later if it is still judging a slice then."""

    def ask(number: int, frame: object) -> None:
        stop.set()
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, lambda number, frame: sys.exit(0))
            signal.setitimer(signal.ITIMER_REAL, _STOP_SECONDS)

    signal.signal(signal.SIGTERM, ask)


def _row(row: Row) -> str:
    reason = f"  ({row.reason})" if row.reason else ""
    return text_row(row.decision, row.probability, f"{row.source}{reason}", number=row.id)


def _closing_line(folder: Path, counts: Counter[Decision]) -> str:
    decisions = ", ".join(f"{counts[decision]} {decision}" for decision in get_args(Decision))
    return f"{folder}: {count_of(counts.total(), 'result')} stored: {decisions}. Research use only."
