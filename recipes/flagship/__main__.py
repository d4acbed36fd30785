"""Make the shipped models from a recipe, or resume.

python -m edge_ct.recipes.flagship RECIPE --data SLICES --weights FOLDER --out RUNS
    [--splits random,grouped] [--folds 1,2] [--ship FOLDER [--card CARD.md]]
"""

from __future__ import annotations

from pathlib import Path

import click

from edge_ct.cli import run_program
from edge_ct.system.progress import Progress

from .pipeline import Flagship
from .recipe import SPLITS, Split, read_recipe

_FOLDER = click.Path(path_type=Path, file_okay=False)


def _parse_splits(context: click.Context, parameter: click.Parameter, value: str) -> tuple[Split, ...]:
    names = tuple(value.split(","))
    if not names or not set(names) <= set(SPLITS):
        raise click.BadParameter("write random, grouped, or both with a comma between them")
    return tuple(split for split in SPLITS if split in names)


def _parse_folds(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in value.split(",") if word)
    except ValueError as error:
        raise click.BadParameter("write numbers with commas between them, such as 1,2") from error


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder or CSV of labelled slices.")
@click.option("--weights", type=_FOLDER, help="Folder of the weights files that the recipe names.")
@click.option(
    "--out",
    type=_FOLDER,
    required=True,
    help="Folder for runs, bundles and evidence; name it again to resume.",
)
@click.option(
    "--splits",
    default="random,grouped",
    show_default=True,
    callback=_parse_splits,
    help="Splits to carry out, separated by commas.",
)
@click.option(
    "--folds", default="", callback=_parse_folds, help="Folds to carry out, from 1, such as 1,2; all folds by default."
)
@click.option("--ship", "into", type=_FOLDER, help="Afterwards copy the bundles that the recipe ships to this folder.")
@click.option(
    "--card",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Model card to put into the shipped bundles; needs --ship.",
)
@click.option("--only-ship", is_flag=True, help="Ship what has been made, and make nothing else.")
def command(
    recipe: Path,
    data: Path,
    weights: Path | None,
    out: Path,
    splits: tuple[Split, ...],
    folds: tuple[int, ...],
    into: Path | None,
    card: Path | None,
    only_ship: bool,
) -> None:
    """Make the shipped models from the JSON file RECIPE, or resume."""
    if (card or only_ship) and not into:
        raise click.UsageError("--card and --only-ship need --ship")
    flagship = Flagship(read_recipe(recipe), data, weights, out, Progress())
    if not only_ship:
        flagship.make(splits, folds)
    if into:
        flagship.ship(into, card.read_text(encoding="utf-8") if card else "")


if __name__ == "__main__":
    run_program(command)
