"""`edge-ct train --from RUN`: its options, and what it prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edge_ct.reporting.counts import count_of
from edge_ct.system.progress import Progress

from .command_options import PATH

_DECORATORS = (
    click.option("--from", "start", type=PATH, help="Run to train further on new slices, instead of a NETWORK."),
    click.option(
        "--replay",
        type=PATH,
        help="With --from: where the run's own slices are now; by default where they were during its training.",
    ),
    click.option(
        "--replay-share",
        type=click.FloatRange(0, 0.95),
        default=0.5,
        show_default=True,
        help="With --from: fraction of the training slices that are replayed from the run's own slices.",
    ),
)


def continual_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --from, --replay and --replay-share to a command."""
    for decorate in reversed(_DECORATORS):
        command = decorate(command)
    return command


def take_continual_options(options: dict[str, Any]) -> tuple[Path | None, Path | None]:
    """Remove --from and --replay from the values of a command's options and return them."""
    start, replay = options.pop("start"), options.pop("replay")
    if replay and not start:
        raise click.UsageError("--replay needs --from: only a run that is trained further replays slices")
    return start, replay


def train_further(
    start: Path,
    replay: Path | None,
    data: Path,
    out: Path,
    options: dict[str, Any],
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Train a run further and print the scores on old and new slices, before and after.

    Args:
        start: Run folder to start from.
        replay: Folder or CSV of the run's own slices; None for where they were.
        data: Folder or CSV of new slices.
        out: Run folder to write.
        options: Values of the command's other options, including defaults.
        resume: True to continue the run at `out`.
        force: True to replace what is at `out`.
        as_json: True to print JSON.
    """
    from .continual import FIXED_OPTIONS, Change, continue_run, derive_options
    from .score.run_scores import print_run

    context = click.get_current_context()
    given = {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) not in (ParameterSource.DEFAULT, None) or (name == "policy" and value)
    }
    if fixed := sorted(given.keys() & set(FIXED_OPTIONS)):
        raise click.UsageError(f"--{fixed[0]} cannot be changed with --from; it stays as it is in {start}")
    run, result = continue_run(data, out, derive_options(start, given), replay, resume, force, Progress())
    if as_json:
        print_run(run.folder, True, continual=result)
        return

    def show(name: str, change: Change | None) -> None:
        if change is None:
            click.echo(f"  {name} test slices: none found; name their folder with --replay")
            return
        click.echo(f"  {change.after.n} {name} test slices; McNemar p = {change.mcnemar_p:.2g}")
        after = change.after.estimates()
        for metric, before in change.before.estimates().items():
            click.echo(f"    {metric:<12} {before.text()} -> {after[metric].text()}")

    click.echo(
        f"{run.folder}: {run.name}, trained on {count_of(result.learned, 'slice')}, {result.replayed} of them replayed"
    )
    show("old", result.old)
    show("new", result.new)
