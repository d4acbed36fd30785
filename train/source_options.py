"""Options of `edge-ct train` for slices of several sources, and for a network with a lesion map."""

from __future__ import annotations

from typing import Any

import click

from .command_options import PATH

_OPTIONS = (
    click.option(
        "--crop",
        type=click.Choice(["none", "lungs"]),
        default="none",
        show_default=True,
        help="Crop each slice to the rectangle around its lungs before it is resized.",
    ),
    click.option(
        "--test-source",
        default="",
        metavar="NAME",
        help="Source that is left out and tested on, with --split source.",
    ),
    click.option(
        "--balance",
        type=click.Choice(["none", "sources"]),
        default="none",
        show_default=True,
        help="Draw both classes equally often, and within a class each source by the square root of its size.",
    ),
    click.option(
        "--main-source",
        default="",
        metavar="NAME",
        help="Source that is half of each batch, with --balance sources.",
    ),
    click.option(
        "--lesions",
        type=PATH,
        help="CSV path,lesion_mask,lung_mask,group of slices with lesion masks: the network gets a lesion map.",
    ),
    click.option(
        "--lesion-phantoms",
        type=click.IntRange(0, 10_000),
        default=0,
        show_default=True,
        help="Number of phantom patients whose lesion masks are learned as well.",
    ),
    click.option(
        "--lesion-slices",
        type=click.IntRange(1),
        default=8,
        show_default=True,
        help="Number of slices with lesion masks in a batch.",
    ),
    click.option(
        "--lesion-weight",
        type=click.FloatRange(0, 100),
        default=1.0,
        show_default=True,
        help="Weight of the lesion map in the loss.",
    ),
)


def source_options(command: Any) -> Any:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_source_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a training with these in the form that it stores.

    Raises:
        click.UsageError: Options do not go together.
    """
    if (options["split"] == "source") != bool(options["test_source"]):
        raise click.UsageError("--split source and --test-source NAME go together")
    if options["main_source"] and options["balance"] != "sources":
        raise click.UsageError("--main-source needs --balance sources")
    lesions = options["lesions"]
    return {**options, "lesions": "" if lesions is None else str(lesions)}
