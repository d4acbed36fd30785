"""Make the shipped models from a recipe, or resume.

python -m edge_ct.recipes.multi_source.commands RECIPE --data FOLDER --weights FOLDER --out RUNS
    [--splits grouped,source] [--folds 2] [--models accurate] [--stages folds,final]
    [--results benchmarks/results] [--card docs/model-card.md] [--ship device_app/models]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_ct.cli import run_program
from edge_ct.system.progress import Progress

from .bundle_shipping import ship_bundles
from .cross_fit_pipeline import STAGES, CrossFitPipeline
from .published_results import publish_results
from .source_model_card import write_model_card
from .source_recipe import SOURCE_SPLITS, read_source_recipe

_FOLDER = click.Path(path_type=Path, file_okay=False)


def _some_of(known: tuple[str, ...]) -> Any:
    def parse(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
        names = tuple(word for word in value.split(",") if word)
        if known and not set(names) <= set(known):
            raise click.BadParameter(f"write some of {', '.join(known)}, with commas between them")
        return names

    return parse


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data", type=_FOLDER, required=True, help="Folder that the paths in the recipe are relative to.")
@click.option("--weights", type=_FOLDER, help="Folder of the weights files that the recipe names.")
@click.option("--out", type=_FOLDER, required=True, help="Folder of the results; name it again to resume.")
@click.option(
    "--splits",
    default=",".join(SOURCE_SPLITS),
    show_default=True,
    callback=_some_of(SOURCE_SPLITS),
    help="Splits whose folds are made, separated by commas.",
)
@click.option(
    "--folds",
    "most_folds",
    type=click.IntRange(1),
    help="Maximum number of folds of the grouped and of the random split to make and to use; all by default.",
)
@click.option(
    "--models", default="", callback=_some_of(()), help="Models to make, such as accurate,fast; all by default."
)
@click.option(
    "--stages",
    default=",".join(STAGES),
    show_default=True,
    callback=_some_of(STAGES),
    help="Stages to carry out, separated by commas.",
)
@click.option("--results", type=_FOLDER, help="Afterwards write the tables of results to this folder.")
@click.option(
    "--card",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Model card to write from the results, and to put into the bundles that are shipped; needs --results.",
)
@click.option("--ship", "into", type=_FOLDER, help="Afterwards copy the final bundles to this folder.")
def command(
    recipe: Path,
    into: Path | None,
    results: Path | None,
    card: Path | None,
    out: Path,
    most_folds: int | None,
    models: tuple[str, ...],
    **options: Any,
) -> None:
    """Make the models of the JSON file RECIPE, or resume; with --stages '' only write and ship what has been made."""
    if card and not results:
        raise click.UsageError("--card needs --results")
    content, progress = read_source_recipe(recipe), Progress()
    pipeline = CrossFitPipeline(content, options["data"], options["weights"], out, progress, most_folds)
    pipeline.make(options["splits"], models, options["stages"])
    names, text = models or tuple(content.models), ""
    bundles = {name: pipeline.bundle(name) for name in names}
    if into:  # a model that was shipped before and is not made this time gets the new card
        shipped = {name: into / f"{name}.tflite" for name in content.models if name not in names}
        found = bundles | {name: bundle for name, bundle in shipped.items() if bundle.is_file()}
        bundles = {name: found[name] for name in content.models if name in found}
    if results:
        publish_results(pipeline, names, results, progress)
    if card and results:
        text = write_model_card(card, bundles, results)
    if into:
        ship_bundles(bundles, content, into, progress, text)


if __name__ == "__main__":
    run_program(command)
