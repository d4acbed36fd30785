"""What a bundle rejects of what is no slice, and passes of what is one.

    python -m edge_ct.benchmarks.out_of_distribution BUNDLE --slices SLICES --series DICOM_FOLDER \\
        --others XRAYS --others PHOTOGRAPHS --out out-of-distribution.csv

A row a folder: how many were treated as they should be, with a Wilson interval. Of SLICES those that the bundle was
trained and calibrated on are left out. A file that cannot be read counts as neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from edge_ct import slices
from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.cli import run_program
from edge_ct.errors import EdgeCTError, InputRejected
from edge_ct.held_out import parts_known_to_bundle
from edge_ct.imaging.slice_check import check_slice
from edge_ct.metrics import wilson
from edge_ct.slices import Slice
from edge_ct.system.csv_text import estimate_columns, to_csv
from edge_ct.system.files import write_text
from edge_ct.system.progress import QUIET, Progress


def measure(
    path: Path, passing: Iterable[Path], rejecting: Iterable[Path], progress: Progress = QUIET
) -> list[dict[str, object]]:
    """A row a folder. passing: of slices; rejecting: of anything else. Raises `EdgeCTError` for an empty one."""
    classifier = Classifier(read_bundle(path))
    known, rows = parts_known_to_bundle(classifier.bundle), []
    for expected, folders in (("passed", passing), ("rejected", rejecting)):
        for folder in folders:
            pixels, network, passed, unreadable, left_out = [0] * 5
            found = slices.find(folder)
            with progress.bar(folder.name, len(found)) as on_done:
                for source in found:
                    on_done(1)
                    try:
                        one = slices.read(source)
                    except InputRejected:
                        unreadable += 1
                        continue
                    if expected == "passed" and known.get(one.sha256[:16]) in ("train", "validation"):
                        left_out += 1
                    elif check_slice(one.pixels, one.colour).reason:
                        pixels += 1
                    elif _judged(classifier, one):
                        passed += 1
                    else:
                        network += 1
            n, right = pixels + network + passed, passed if expected == "passed" else pixels + network
            if not n:
                raise EdgeCTError(f"{folder}: nothing to look at: {unreadable} unreadable, {left_out} known files")
            rows.append(
                {
                    "model": classifier.manifest.name,
                    "set": folder.name,
                    "expected": expected,
                    "n": n,
                    "as_expected": right,
                    **estimate_columns("share", msgspec.to_builtins(wilson(right, n))),
                    "rejected_by_pixels": pixels,
                    "rejected_by_network": network,
                    "unreadable": unreadable,
                    "left_out": left_out,
                }
            )
    return rows


def _judged(classifier: Classifier, one: Slice) -> bool:
    return classifier.judge_slice(one).result.decision != "rejected"


_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--slices", "known", type=_FOLDER, multiple=True, help="Slices, to be passed.")
@click.option("--series", type=_FOLDER, multiple=True, help="DICOM slices that show lung, to be passed.")
@click.option("--others", type=_FOLDER, multiple=True, help="Anything else, to be rejected.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The CSV to write.")
def command(
    bundle: Path, known: tuple[Path, ...], series: tuple[Path, ...], others: tuple[Path, ...], out: Path
) -> None:
    """Count what is rejected that should be, and passed that should be."""
    rows = measure(bundle, (*known, *series), others, Progress())
    if not rows:
        raise click.UsageError("name folders with --slices, --series or --others")
    write_text(out, to_csv(tuple(rows[0]), (row.values() for row in rows)))


if __name__ == "__main__":
    run_program(command)
