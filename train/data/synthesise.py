"""Phantom datasets: synthetic slices by patient, for the demo and the tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2

from edge_ct.errors import EdgeCTError
from edge_ct.phantom import make_patients
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import fresh_folder, refuse_existing, write_bytes, write_text
from edge_ct.system.progress import QUIET, Progress

CLASSES = ("non-COVID", "COVID")
TABLE = "slices.csv"
NOTE = "SYNTHETIC.txt"


def write(
    out: Path,
    patients: int,
    slices: int,
    size: int,
    seed: int,
    force: bool = False,
    progress: Progress = QUIET,
    twins: bool = False,
) -> Path:
    """Write `patients` phantom patients of `slices` slices each, half of them positive, as a dataset folder.

    twins: as `phantom.make_patients`; all patients are both, and a group has both labels.

    Returns the path of its CSV, which names the patients as groups. Written beside `out` and renamed, so that a run cut
    short leaves nothing that looks complete.
    """
    refuse_existing(out, force)
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    rows = []
    with progress.bar("making phantom slices", patients * slices * (1 + twins)) as on_done:
        for phantom in make_patients(patients, slices, size, seed, twins):
            label = CLASSES[phantom.positive]
            name = f"{label}/{phantom.patient}-{phantom.index:02d}.png"
            encoded, content = cv2.imencode(".png", phantom.image)
            if not encoded:
                raise EdgeCTError(f"{name}: cannot be encoded")
            write_bytes(unfinished / name, content.tobytes())
            rows.append((name, label, phantom.patient))
            on_done(1)
    write_text(unfinished / TABLE, to_csv(("path", "label", "group"), rows))
    note = "SYNTHETIC: phantom slices drawn by edge-ct from random numbers. They show no person.\n"
    write_text(unfinished / NOTE, note)
    fresh_folder(out, NOTE)
    out.rmdir()
    unfinished.rename(out)
    return out / TABLE
