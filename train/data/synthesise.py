"""Phantom data sets: synthetic slices of synthetic patients, for the demo and the tests."""

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
TABLE_NAME = "slices.csv"
NOTE_NAME = "SYNTHETIC.txt"


def write_phantom_dataset(
    out: Path,
    patients: int,
    slices: int,
    size: int,
    seed: int,
    force: bool = False,
    progress: Progress = QUIET,
    twins: bool = False,
) -> Path:
    """Write a phantom data set, in which half of the patients are positive.

    It is written beside `out` and renamed, so that an interrupted call leaves nothing that looks complete.

    Args:
        out: Folder to write.
        patients: Number of patients.
        slices: Slices per patient.
        size: Side of a slice in pixels.
        seed: Seed of the phantoms.
        force: True to replace what is at `out`.
        progress: Where to report progress.
        twins: True to draw every slice twice, without and with lesions; then a patient has both labels.

    Returns:
        Path of the CSV table, which names the patients as groups.
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
                raise EdgeCTError(f"{name}: cannot be encoded as PNG")
            write_bytes(unfinished / name, content.tobytes())
            rows.append((name, label, phantom.patient))
            on_done(1)
    write_text(unfinished / TABLE_NAME, to_csv(("path", "label", "group"), rows))
    note = "SYNTHETIC: phantom slices drawn by edge-ct from random numbers. They show no person.\n"
    write_text(unfinished / NOTE_NAME, note)
    fresh_folder(out, NOTE_NAME)
    out.rmdir()
    unfinished.rename(out)
    return out / TABLE_NAME
