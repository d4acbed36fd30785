"""`edge-ct train --from RUN`: its options, and what it prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edge_ct.system.progress import Progress

from .command_options import PATH, print_run, show

_DECORATORS = (
    click.option("--from", "start", type=PATH, help="A run to train further on new slices, instead of NETWORK."),
    click.option(
        "--replay", type=PATH, help="With --from: where the run's own slices are now; by default where they were."
    ),
    click.option(
        "--replay-share",
        type=click.FloatRange(0, 0.95),
        default=0.5,
        show_default=True,
        help="With --from: share of old slices among those that are learned from.",
    ),
)


def continual_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --from, --replay and --replay-share; `take` takes their values out of the command's."""
    for decorate in reversed(_DECORATORS):
        command = decorate(command)
    return command


def take(options: dict[str, Any]) -> tuple[Path | None, Path | None]:
    """--from and --replay, removed from `options`."""
    start, replay = options.pop("start"), options.pop("replay")
    if replay and not start:
        raise click.UsageError("--replay belongs to --from")
    return start, replay


def go_on(
    start: Path,
    replay: Path | None,
    data: Path,
    out: Path,
    options: dict[str, Any],
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Train further and print both sets' scores before and after. options: of the command, defaults included."""
    from . import continual

    context = click.get_current_context()
    given = {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) not in (ParameterSource.DEFAULT, None) or (name == "policy" and value)
    }
    if fixed := sorted(given.keys() & set(continual.FIXED)):
        raise click.UsageError(f"--{fixed[0]} is what it is in {start}")
    run, found = continual.go_on(data, out, continual.options(start, given), replay, resume, force, Progress())
    if as_json:
        print_run(run.folder, True, continual=found)
        return
    click.echo(f"{run.folder}: {run.name}, learned from {found.learned} slices, {found.replayed} of them replayed")
    for name, change in (("old", found.old), ("new", found.new)):
        if change is None:
            click.echo(f"  {name} slices, test part: none found; say where they are with --replay")
            continue
        click.echo(f"  {name} slices, test n = {change.after.n}; McNemar p = {change.mcnemar_p:.2g}")
        after = change.after.estimates()
        for metric, before in change.before.estimates().items():
            click.echo(f"    {metric:<12} {show(before)} -> {show(after[metric])}")
