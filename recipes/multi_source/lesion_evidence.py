"""The lesion map of each fold against the masks of patients that the fold's model did not learn from."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from edge_ct.classifier import Classifier
from edge_ct.errors import DataRejected
from edge_ct.imaging.lung_box import find_lung_fields
from edge_ct.lesions import dice, lesion_probabilities, lesion_share, pointing_game
from edge_ct.manifest import LesionEvidence
from edge_ct.slices import read
from edge_ct.system.csv_text import read_table, to_csv
from edge_ct.system.files import write_text
from edge_ct.system.progress import Progress

from ..resumable import is_up_to_date
from .source_tables import MASK_COLUMNS

_COLUMNS = ("group", "slices", "with_lesion", "dice", "pointing_game", "share", "true_share", "share_error")


def measure_lesion_maps(
    lesions: Path, held_out: Mapping[Path, frozenset[str]], table: Path, progress: Progress
) -> LesionEvidence:
    """Compare lesion maps with masks, each patient with the map of a bundle that did not learn from them.

    Args:
        lesions: CSV of slices with lesion masks; slices without a lung mask do not take part.
        held_out: Bundle -> the patients that it was tested on.
        table: The CSV to write, one row for each patient; if it is newer than the bundles, it is read.
        progress: Where to show progress.

    Raises:
        DataRejected: No patient of the masks is held out in any bundle, or a mask cannot be read.
    """
    if not is_up_to_date(table, held_out):
        rows = [row for row in read_table(lesions, MASK_COLUMNS) if row["lung_mask"]]
        by_group: dict[str, list[tuple[np.ndarray, np.ndarray, float, float]]] = {}
        for bundle, groups in held_out.items():
            mine = [row for row in rows if row["group"] in groups and row["group"] not in by_group]
            if not mine:
                continue
            classifier = Classifier(bundle)
            with progress.bar(f"lesion maps of {bundle.name}", len(mine)) as on_done:
                for row in mine:
                    by_group.setdefault(row["group"], []).append(_compare(classifier, row))
                    on_done(1)
        if not by_group:
            raise DataRejected(f"{lesions}: no patient with masks is in the test split of a fold")
        write_text(
            table,
            to_csv(
                _COLUMNS,
                [_row(group, found) for group, found in sorted(by_group.items())]
                + [_row("all", [one for found in by_group.values() for one in found])],
            ),
        )
    return _evidence(table)


def _compare(classifier: Classifier, row: dict[str, str]) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Return P(lesion) and the true share of each cell, float [h, w], the lesion share and the true one."""
    slice_ = read(Path(row["path"]))
    lung = _read_mask(row["lung_mask"], slice_.pixels.shape)
    lesion = _read_mask(row["lesion_mask"], slice_.pixels.shape) if row["lesion_mask"] else np.zeros_like(lung)
    preprocess, lungs = classifier.manifest.preprocess, find_lung_fields(slice_.pixels)
    region = preprocess.region_around(lungs, *slice_.pixels.shape)
    lesion_map = classifier.infer(preprocess.resized(slice_.pixels, region))[1].lesion_map
    if lesion_map is None:
        raise DataRejected(f"{classifier.bundle.source}: the bundle has no lesion map")
    cells = len(lesion_map)
    side = preprocess.size // cells
    shown = preprocess.resized(lesion * np.uint8(255), region)[:, :, 0]
    truth = shown.reshape(cells, side, cells, side).mean((1, 3)) / 255
    share = 0.0 if lungs is None else lesion_share(lesion_map, lungs, region, slice_.pixels.shape)
    return lesion_probabilities(lesion_map), truth, share, float(lesion.sum() / max(1, int((lung | lesion).sum())))


def _read_mask(path: str, shape: tuple[int, ...]) -> np.ndarray:
    mask = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    if mask is None or mask.shape != shape:
        raise DataRejected(f"{path}: not a mask of the size of its slice")
    return np.asarray(mask > 127, np.uint8)


def _row(group: str, found: list[tuple[np.ndarray, np.ndarray, float, float]]) -> tuple[object, ...]:
    p, truth = np.stack([one[0] for one in found]), np.stack([one[1] for one in found])
    shares, true_shares = np.array([one[2] for one in found]), np.array([one[3] for one in found])
    hits, taking_part = pointing_game(p, truth)
    return (
        group,
        len(found),
        taking_part,
        f"{dice(p, truth):.4f}",
        f"{hits / taking_part:.4f}" if taking_part else "",
        f"{shares.mean():.4f}",
        f"{true_shares.mean():.4f}",
        f"{np.abs(shares - true_shares).mean():.4f}",
    )


def _evidence(table: Path) -> LesionEvidence:
    with table.open(newline="", encoding="utf-8") as file:
        *patients, total = csv.DictReader(file)
    return LesionEvidence(
        int(total["slices"]),
        len(patients),
        float(total["dice"]),
        float(total["pointing_game"] or 0),
        float(total["share_error"]),
    )
