"""What int8 bundles of folds say of the slices that they did not learn from: it calibrates a network that knows all.

A network that has learned from every slice has none left to be calibrated on. Networks of the same recipe, each trained
on all but a fold, stand for it: each judges its own fold, and all judgements together are the calibration cases
(cross-fitting, as in Chernozhukov et al. 2018).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.dataset import Dataset, load_images
from edge_ct.errors import DataRejected
from edge_ct.lesions import strongest_lesion
from edge_ct.manifest import LesionEvidence
from edge_ct.network_analysis.outliers import read_outlier_detector
from edge_ct.reporting.counts import count_of
from edge_ct.run import SplitTable
from edge_ct.system.progress import Progress


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The outputs of the bundles of folds on the slices of their test parts.

    Attributes:
        split: How the folds were divided.
        labels: 0 or 1, [n].
        logits: float32 [n, 2].
        trusted: Whether the label of a slice is trusted, that is, of weight 1 in the data table; bool [n].
        lesions: What `strongest_lesion` gives for each slice, float64 [n]; None for networks without a lesion map.
        distances: Distance of each slice by its bundle's outlier detector, float64 [n]; NaN without a detector.
        sources: Source of each slice, [n]; empty where the sources are not known.
    """

    split: Literal["random", "grouped", "source"]
    labels: np.ndarray
    logits: np.ndarray
    trusted: np.ndarray
    lesions: np.ndarray | None
    distances: np.ndarray
    sources: tuple[str, ...] = ()


def run_folds(paths: Sequence[str], dataset: Dataset, table: SplitTable, progress: Progress) -> OutOfFold:
    """Run the bundle of each fold on its test part.

    Args:
        paths: The bundles.
        dataset: All slices.
        table: The split table of the network that is to be calibrated, in the order of the dataset.
        progress: Where progress is shown.

    Raises:
        DataRejected: The bundles are of different networks or splits, or a slice is in the test part of two of them.
        ModelRejected: A bundle cannot be read.
    """
    bundles = [read_bundle(Path(path)) for path in paths]
    first = bundles[0].manifest
    tested: set[str] = set()
    labels, logits, tested_rows, lesions, distances = [], [], [], [], []
    for bundle in bundles:
        manifest = bundle.manifest
        same = (manifest.network.architecture, manifest.network.alpha, manifest.preprocess, manifest.data.split)
        if same != (first.network.architecture, first.network.alpha, first.preprocess, first.data.split):
            raise DataRejected(
                f"{bundle.source}: its network, preprocessing or split is not that of {bundles[0].source}"
            )
        text = bundle.member("split.csv").decode()
        parts = {row["sha256"]: row["part"] for row in csv.DictReader(text.splitlines())}
        rows = [i for i, sha256 in enumerate(table.sha256) if parts.get(sha256[:16]) == "test"]
        if not rows:
            raise DataRejected(
                f"{bundle.source}: its test split holds none of the run's slices; "
                "name the bundles of this recipe's folds"
            )
        if again := tested & {table.sha256[i] for i in rows}:
            raise DataRejected(
                f"{bundle.source}: {count_of(len(again), 'slice')} of its test split are in that of another bundle"
            )
        tested |= {table.sha256[i] for i in rows}
        classifier, detector = Classifier(bundle), read_outlier_detector(bundle)
        with progress.bar(f"judging the fold of {Path(bundle.source).name}", 2 * len(rows)) as on_done:
            images = load_images(dataset.take(rows), manifest.preprocess, on_done).images
            for row, image in zip(rows, images, strict=True):
                outputs = classifier.infer(image)[1]
                labels.append(int(table.labels[row]))
                tested_rows.append(row)
                logits.append(outputs.logits)
                lesions.append(None if outputs.lesion_map is None else strongest_lesion(outputs.lesion_map))
                distances.append(np.nan if detector is None else detector.distance(outputs.embedding))
                on_done(1)
    if first.data.split not in ("random", "grouped", "source"):
        raise DataRejected(
            f"{bundles[0].source}: a {first.data.split} split has no folds; "
            "name bundles of a random, grouped or source split"
        )
    return OutOfFold(
        first.data.split,
        np.array(labels),
        np.stack(logits),
        table.trusted[tested_rows],
        None if None in lesions else np.array(lesions, np.float64),
        np.array(distances, np.float64),
        tuple(table.sources[row] for row in tested_rows) if table.sources else (),
    )


def read_lesion_evidence(table: Path) -> LesionEvidence:
    """Read how good the lesion maps of the folds are from a CSV with a row for each patient and a row `all`.

    Raises:
        DataRejected: The file is missing or has other columns.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = {row["group"]: row for row in csv.DictReader(file)}
        total = rows["all"]
        return LesionEvidence(
            int(total["slices"]),
            len(rows) - 1,
            float(total["dice"]),
            float(total["pointing_game"] or 0),
            float(total["share_error"]),
        )
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataRejected(f"{table}: not a table of lesion maps, or damaged; make it again") from error
