"""Figures 4 to 7 of Garg et al. 2020, of networks that are trained on phantoms from random weights.

    python -m edge_ct.recipes.paper_figures --out figures [--networks "resnet50 modified-resnet50"]
        [--options "--size 96 --batch 16"]

takes hours on two cores. The recipe is paper_figures.json; the same call resumes after a kill.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from edge_ct.cli import run_program
from edge_ct.errors import EdgeCTError
from edge_ct.system.child_command import run_command
from edge_ct.system.progress import Progress

from .recipe_file import read_recipe_file

RECIPE = Path(__file__).with_suffix(".json")


class FiguresRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to train for the figures.

    Attributes:
        phantoms: Options of `edge-ct data synth`.
        train: Options of `edge-ct train` for every network.
        networks: Network -> further options of `edge-ct train`.
    """

    phantoms: tuple[str, ...]
    train: tuple[str, ...]
    networks: dict[str, tuple[str, ...]]


def read_figures_recipe(path: Path = RECIPE) -> FiguresRecipe:
    """Read the recipe; raises `EdgeCTError` if it is not valid."""
    return read_recipe_file(path, FiguresRecipe)


def figure_commands(
    recipe: FiguresRecipe, out: Path, networks: Sequence[str], options: Sequence[str]
) -> list[list[str]]:
    """Return the commands that make the figures, in order.

    Args:
        recipe: The recipe.
        out: Folder of the results.
        networks: Networks to train; empty means all of the recipe.
        options: Options of `edge-ct train` that go after those of the recipe.

    Raises:
        EdgeCTError: A network is not in the recipe.
    """
    networks = networks or list(recipe.networks)
    if unknown := [name for name in networks if name not in recipe.networks]:
        raise EdgeCTError(f"{', '.join(unknown)}: not in the recipe; its networks are {', '.join(recipe.networks)}")
    phantoms, runs = out / "phantoms", out / "runs"
    commands = [] if phantoms.is_dir() else [["data", "synth", str(phantoms), *recipe.phantoms]]
    for name in networks:
        words = ["train", name, "--data", str(phantoms / "slices.csv"), *recipe.train, *recipe.networks[name], *options]
        commands.append([*words, "--out", str(runs / name), "--resume"])
    folders = [str(runs / name) for name in networks]
    return [*commands, ["explain", "figures", *folders, "--out", str(out / "pictures"), "--force"]]


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("figures"),
    show_default=True,
    help="Folder for phantoms, runs and pictures; name it again to resume.",
)
@click.option("--networks", default="", help="Networks to train, separated by spaces; all of the recipe by default.")
@click.option(
    "--options",
    default="--size 72 --batch 8",
    show_default=True,
    help="Options of `edge-ct train` that go after those of the recipe.",
)
def command(out: Path, networks: str, options: str) -> None:
    """Train the networks of paper_figures.json on phantoms and draw figures 4 to 7 of Garg et al. 2020."""
    progress = Progress()
    for words in figure_commands(read_figures_recipe(), out, networks.split(), shlex.split(options)):
        progress.say(f"\nedge-ct {shlex.join(words)}")
        click.echo(run_command(words).text, nl=False)


if __name__ == "__main__":
    run_program(command)
