"""How accurate and how fast the trials of a recipe are: width and size of a network beside its time.

python -m edge_ct.recipes.multi_source.speed_study RECIPE RUNS OUT.csv [--reference accurate]

The trials must have been made: `python -m edge_ct.recipes.multi_source.commands RECIPE ... --stages trials`, which
resumes after a kill. Their bundles are timed in turns on one thread, so that other load meets all of them;
`of_reference` is the median over the rounds of a bundle's processor time to that of the reference.
"""

from __future__ import annotations

import csv
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time

import click
import numpy as np

from edge_ct.classifier import Classifier
from edge_ct.cli import run_program
from edge_ct.errors import EdgeCTError
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text
from edge_ct.system.host import instruction_sets

from .source_recipe import SourceRecipe, read_source_recipe

QUALITY = (
    "n",
    *(f"{name}{end}" for name in ("auc", "accuracy", "sensitivity", "specificity") for end in ("", "_low", "_high")),
)
_VECTORS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimd", "asimddp", "i8mm")
_QUERIES, _WARM_UP = 40, 10


def time_bundles(bundles: Mapping[str, Path], rounds: int) -> dict[str, np.ndarray]:
    """Time bundles in turns.

    Args:
        bundles: Name -> bundle.
        rounds: Number of rounds.

    Returns:
        For each bundle the processor milliseconds of one inference on one thread in each round, [rounds].
    """
    classifiers = {name: Classifier(path) for name, path in bundles.items()}
    images = {}
    for name, classifier in classifiers.items():
        size = classifier.manifest.preprocess.size
        # The time does not depend on the content of the slice.
        images[name] = np.zeros((size, size, 1), np.uint8)
        for _ in range(_WARM_UP):
            classifier.infer(images[name])
    times: dict[str, list[float]] = {name: [] for name in classifiers}
    for _ in range(rounds):
        for name, classifier in classifiers.items():
            begun = process_time()
            for _ in range(_QUERIES):
                classifier.infer(images[name])
            times[name].append(1000 * (process_time() - begun) / _QUERIES)
    return {name: np.array(values) for name, values in times.items()}


def trial_bundles(recipe: SourceRecipe, runs: Path) -> dict[str, Path]:
    """Return the bundle of each trial that has been made, in the first of its folds."""
    found: dict[str, Path] = {}
    for name in recipe.trials:
        for fold in recipe.trial_folds:
            made = sorted((runs / "trials" / name).glob(f"{fold}-int8*.tflite"))
            if made:
                found.setdefault(name, made[0])
    return found


def study_rows(recipe: SourceRecipe, runs: Path, reference: str, rounds: int) -> list[dict[str, object]]:
    """Return one row for each trial and fold.

    Args:
        recipe: The recipe with the trials.
        runs: The folder in which it was carried out.
        reference: The trial that the times are compared with.
        rounds: Number of rounds in which bundles are timed.

    Raises:
        EdgeCTError: The trials, or the reference, have not been made.
    """
    bundles, table = trial_bundles(recipe, runs), runs / "trials.csv"
    if reference not in bundles or not table.is_file():
        raise EdgeCTError(f"{runs}: the trial {reference} has not been made; run the recipe with --stages trials first")
    times = time_bundles(bundles, rounds)
    vectors = " ".join(name for name in _VECTORS if name in instruction_sets())
    rows: list[dict[str, object]] = []
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            trial = row["model"]
            if (row["slices"], row["by"]) != ("all", "probability") or trial not in bundles:
                continue
            rows.append(
                {"trial": trial, "varies": row["varies"], "fold": row["split"]}
                | {name: row[name] for name in QUALITY}
                | {
                    "bytes": bundles[trial].stat().st_size,
                    "model_ms": f"{np.median(times[trial]):.3f}",
                    "of_reference": f"{np.median(times[trial] / times[reference]):.3f}",
                    "architecture": platform.machine(),
                    "vectors": vectors,
                }
            )
    return rows


def write_study(out: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write the rows as CSV."""
    write_text(out, to_csv(tuple(rows[0]), (row.values() for row in rows)))


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("runs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--reference", default="accurate", show_default=True, help="Trial whose time the other times are divided by."
)
@click.option("--rounds", type=click.IntRange(3), default=15, show_default=True, help="Number of rounds to measure.")
def command(recipe: Path, runs: Path, out: Path, reference: str, rounds: int) -> None:
    """Write to OUT how accurate and how fast the trials of RECIPE are that were made in the folder RUNS."""
    rows = study_rows(read_source_recipe(recipe), runs, reference, rounds)
    write_study(out, rows)
    click.echo(f"{out}: {len(rows)} rows")


if __name__ == "__main__":
    run_program(command)
