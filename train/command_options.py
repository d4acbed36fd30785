"""Options that several commands of the wing share."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

PATH = click.Path(path_type=Path)
data_option = click.option(
    "--data",
    type=PATH,
    required=True,
    help="Folder with one sub-folder per class, or CSV path,label[,group][,source][,weight].",
)
positive_option = click.option("--positive", default="COVID", show_default=True, help="Name of the positive class.")
seed_option = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of everything that is drawn at random.",
)
force_option = click.option("--force", is_flag=True, help="Overwrite an existing output.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


def quiet_tensorflow() -> None:
    """Hide TensorFlow's log messages below errors; call this before TensorFlow is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
