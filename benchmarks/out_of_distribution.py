"""What a bundle rejects that is not a CT slice, and passes that is one.

    python -m edge_ct.benchmarks.out_of_distribution BUNDLE --slices SLICES --series DICOM_FOLDER \\
        --others XRAYS --others PHOTOGRAPHS --out out-of-distribution.csv

writes one row a folder: the number of pictures that were treated as expected, with a Wilson interval. Slices that the
bundle was trained or calibrated on are left out. A file that cannot be read does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal

import click
import msgspec

from edge_ct import slices
from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.cli import run_program
from edge_ct.errors import EdgeCTError, InputRejected
from edge_ct.held_out import parts_known_to_bundle
from edge_ct.imaging.slice_check import check_slice
from edge_ct.imaging.slice_files import list_slices
from edge_ct.metrics import wilson
from edge_ct.reporting.counts import count_of
from edge_ct.system.csv_text import estimate_columns, to_csv
from edge_ct.system.files import write_text
from edge_ct.system.progress import QUIET, Progress

Expected = Literal["passed", "rejected"]
Outcome = Literal["passed", "rejected_by_pixels", "rejected_by_network", "unreadable", "left_out"]


def measure(
    path: Path, passing: Iterable[Path], rejecting: Iterable[Path], progress: Progress = QUIET
) -> list[dict[str, object]]:
    """Judge the pictures of several folders and return one row a folder.

    Args:
        path: The bundle.
        passing: Folders of CT slices, which should pass.
        rejecting: Folders of other pictures, which should be rejected.
        progress: Where to show progress.

    Raises:
        EdgeCTError: A folder holds no picture that can be judged.
    """
    classifier = Classifier(read_bundle(path))
    known = parts_known_to_bundle(classifier.bundle)
    folders: list[tuple[Expected, Path]] = [("passed", folder) for folder in passing]
    folders += [("rejected", folder) for folder in rejecting]
    rows = []
    for expected, folder in folders:
        counts: Counter[Outcome] = Counter()
        paths = list_slices(folder).paths
        with progress.bar(folder.name, len(paths)) as on_done:
            for source in paths:
                counts[_outcome(classifier, source, known if expected == "passed" else {})] += 1
                on_done(1)
        rows.append(_row(classifier, folder, expected, counts))
    return rows


def _outcome(classifier: Classifier, source: Path, known: Mapping[str, str]) -> Outcome:
    """Judge one file; `known` maps the beginning of a slice's pixel identity to the part that the bundle used it in."""
    try:
        slice_ = slices.read(source)
    except InputRejected:
        return "unreadable"
    if known.get(slice_.sha256[:16]) in ("train", "validation"):
        return "left_out"
    if check_slice(slice_.pixels, slice_.colour).reason:
        return "rejected_by_pixels"
    return "rejected_by_network" if classifier.judge_slice(slice_).result.decision == "rejected" else "passed"


def _row(classifier: Classifier, folder: Path, expected: Expected, counts: Counter[Outcome]) -> dict[str, object]:
    rejected = counts["rejected_by_pixels"] + counts["rejected_by_network"]
    n = rejected + counts["passed"]
    if not n:
        raise EdgeCTError(
            f"{folder}: no picture to judge: {count_of(counts['unreadable'], 'unreadable file')}, and the "
            "bundle was trained "
            f"or calibrated on {counts['left_out']}"
        )
    right = counts["passed"] if expected == "passed" else rejected
    return {
        "model": classifier.manifest.name,
        "set": folder.name,
        "expected": expected,
        "n": n,
        "as_expected": right,
        **estimate_columns("share", msgspec.to_builtins(wilson(right, n))),
        "rejected_by_pixels": counts["rejected_by_pixels"],
        "rejected_by_network": counts["rejected_by_network"],
        "unreadable": counts["unreadable"],
        "left_out": counts["left_out"],
        "model_sha256": sha256(classifier.bundle.model).hexdigest(),
    }


_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--slices", "slice_folders", type=_FOLDER, multiple=True, help="Folder of slices that should pass.")
@click.option("--series", type=_FOLDER, multiple=True, help="Folder of DICOM slices with lung that should pass.")
@click.option("--others", type=_FOLDER, multiple=True, help="Folder of other pictures that should be rejected.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="CSV file to write the counts to.")
def command(
    bundle: Path, slice_folders: tuple[Path, ...], series: tuple[Path, ...], others: tuple[Path, ...], out: Path
) -> None:
    """Count how many CT slices BUNDLE passes, and how many other pictures it rejects."""
    rows = measure(bundle, (*slice_folders, *series), others, Progress())
    if not rows:
        raise click.UsageError("name at least one folder with --slices, --series or --others")
    write_text(out, to_csv(tuple(rows[0]), (row.values() for row in rows)))


if __name__ == "__main__":
    run_program(command)
