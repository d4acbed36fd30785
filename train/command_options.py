"""What the wing's commands share: options, and how a run's scores are printed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click
import msgspec

from edge_ct.manifest import Estimate
from edge_ct.system.progress import print_json

PATH = click.Path(path_type=Path)
data_option = click.option("--data", type=PATH, required=True, help="Folder with a sub-folder a class, or a CSV "
                     "path,label[,group].")  # fmt: skip
positive_option = click.option("--positive", default="COVID", show_default=True, help="Name of the positive class.")
seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Fixes everything drawn at random."
)
force_option = click.option("--force", is_flag=True, help="Overwrite what is there.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


def print_run(folder: Path, as_json: bool, **more: object) -> None:
    from .score.run_scores import RunScores

    scores = msgspec.json.decode((folder / "metrics.json").read_bytes(), type=RunScores)
    if as_json:
        print_json({"run": str(folder), **msgspec.to_builtins(scores), **more})
        return
    click.echo(f"{folder}: {scores.model}, {scores.split} split, test n = {scores.parts['test'].n}")
    for name, estimate in scores.parts["test"].estimates().items():
        click.echo(f"  {name:<12} {show(estimate)}")


def show(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "undefined"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def quiet_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
