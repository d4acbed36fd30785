"""Several runs averaged into one: the mean of their softmax outputs, as in the seed study."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_ct import run as runs
from edge_ct.errors import DataRejected
from edge_ct.files import fresh_folder, refuse_existing
from edge_ct.manifest import Network
from edge_ct.progress import QUIET, Progress
from edge_ct.run import Run

from . import report
from .predict import run_probabilities


def create(members: Sequence[Path], out: Path, force: bool = False, progress: Progress = QUIET) -> Run:
    """Combine finished runs of one split of one dataset into an ensemble run at `out`.

    Raises `DataRejected` where the members were not trained on the same split of the same slices.
    """
    if len(members) < 2:
        raise DataRejected("an ensemble needs at least two runs")
    refuse_existing(out, force)
    opened = [runs.load_finished(folder) for folder in members]
    first, table = opened[0], opened[0].split()
    for other in opened[1:]:
        if other.info.classes != first.info.classes:
            raise DataRejected(f"{other.folder}: classes {other.info.classes}, not {first.info.classes}")
        if other.split().part_of() != table.part_of():
            raise DataRejected(f"{other.folder}: another split than {first.folder}; train both with the same seed")
    fresh_folder(out, "run.json")
    info = msgspec.structs.replace(
        first.info,
        kind="ensemble",
        network=Network("ensemble", None, sum(run.info.network.parameters for run in opened)),
        options={"members": [run.name for run in opened], "rule": "mean of softmax"},
        members=tuple(os.path.relpath(run.folder.resolve(), out.resolve()) for run in opened),
        finished=True,
    )
    run = Run(out, info)
    runs.write_split(out / "split.csv", table)
    report.write(out, table, run_probabilities(run, run.dataset(), progress), info)
    runs.save_info(out, info)
    return run
