"""The slices of a run, read when they are first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_ct.dataset import Dataset, load_images
from edge_ct.errors import DataRejected
from edge_ct.run import Run
from edge_ct.system.progress import QUIET, Progress

from .cross_fit import run_folds

# With fewer cases of a class, neither ranges nor calibration nor gate would mean anything.
MINIMUM_CASES = 5


class RunSlices:
    """The slices of a run by split; every step of a conversion takes its slices from here.

    Attributes:
        run: The run.
        table: Its `split.csv`.
        preprocess: Its preprocessing.
        progress: Where progress is shown.
        calibration_split: The split that calibrates and is compared with fp32: `validation`; for a network that was
            trained on every slice `train`, which is compared only.
        out_of_fold: What calibrates a network that was trained on every slice.
        fuse_lesions: Whether the lesion map may take part in the decision.
    """

    def __init__(
        self,
        run: Run,
        data: Path | None = None,
        progress: Progress = QUIET,
        folds: Sequence[str] = (),
        fuse_lesions: bool = False,
    ) -> None:
        """Find the slices of a run.

        Args:
            run: The run.
            data: Where its slices are now, if they have moved.
            progress: Where progress is shown.
            folds: Bundles of folds that calibrate a network that was trained on every slice.
            fuse_lesions: Whether the lesion map may take part in the decision.

        Raises:
            DataRejected: There are no slices, or too few to convert with.
        """
        self.run, self.progress = run, progress
        self.table, self.preprocess = run.split(), run.info.preprocess
        self._dataset: Dataset = run.dataset(data)
        self._images: dict[str, np.ndarray] = {}
        self.fuse_lesions = fuse_lesions
        self._check("train", "draw representative slices from")
        self.calibration_split, self.out_of_fold = "validation", None
        if folds:
            self.calibration_split = "train"
            self.out_of_fold = run_folds(folds, self._dataset, self.table, progress)
        else:
            self._check("validation", "calibrate on")

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split, 0 or 1, int8 [n]."""
        return np.asarray(self.table.labels[self.table.where(split)])

    def trusted(self, split: str) -> np.ndarray:
        """Return which labels of a split have the full weight of 1, bool [n]."""
        return np.asarray(self.table.trusted[self.table.where(split)])

    def images(self, split: str) -> np.ndarray:
        """Return all slices of a split, uint8 [n, s, s, 1].

        Raises:
            DataRejected: A slice has changed since training.
        """
        if split not in self._images:
            self._images[split] = self._read(self.table.where(split), f"reading {split} slices")
        return self._images[split]

    def representative(self, count: int, seed: int, sets: int = 1) -> list[np.ndarray]:
        """Draw disjoint sets of representative slices from the training split.

        Half of each set is of each class, spread over as many groups as there are. A set is smaller, and a progress
        line says so, if there are not enough slices.

        Args:
            count: Number of slices per set.
            seed: Seed of the choice.
            sets: Number of sets.

        Returns:
            One array per set, uint8 [n, s, s, 1].

        Raises:
            DataRejected: A class has too few slices for so many sets.
        """
        indices = self.representative_indices(count, seed, sets)
        smallest = min(len(members) for members in indices)
        if smallest < count:
            self.progress.say(f"only {smallest} of {count} representative slices: the training split has no more")
        images = self._read(np.concatenate(indices), "reading representative slices")
        return np.split(images, np.cumsum([len(members) for members in indices])[:-1])

    def representative_indices(self, count: int, seed: int, sets: int = 1) -> list[np.ndarray]:
        """Draw the same sets as `representative`, as indices of `split.csv`."""
        train, generator = self.table.where("train"), np.random.default_rng(seed)
        chosen: list[list[np.ndarray]] = [[] for _ in range(sets)]
        for label in (0, 1):
            members = self._spread_over_groups(generator.permutation(train[self.table.labels[train] == label]))
            wanted = min(-(-count // 2), len(members) // sets)
            if wanted == 0:
                raise DataRejected(f"too few training slices for {sets} disjoint sets of representative slices")
            for number in range(sets):
                chosen[number].append(members[number * wanted : (number + 1) * wanted])
        return [np.concatenate(parts) for parts in chosen]

    def _spread_over_groups(self, indices: np.ndarray) -> np.ndarray:
        """Keep the order, but put the first slice of every group before the second of any, and so of every source."""
        counts: dict[str, int] = {}
        turns = []
        for index in indices:
            group = self.table.groups[index] or f"slice {index}"
            turns.append(counts.get(group, 0))
            counts[group] = turns[-1] + 1
        spread = np.asarray(indices[np.argsort(turns, kind="stable")])
        if not self.table.sources:
            return spread
        # Every source takes part: one slice of each in turn.
        ranks: dict[str, int] = {}
        turns = []
        for index in spread:
            source = self.table.sources[index]
            turns.append(ranks.get(source, 0))
            ranks[source] = turns[-1] + 1
        return np.asarray(spread[np.argsort(turns, kind="stable")])

    def _check(self, split: str, purpose: str) -> None:
        labels = self.labels(split)
        if len(labels) == 0:
            raise DataRejected(
                f"{self.run.folder}: the run has no {split} split to {purpose}; a network that was trained on every "
                "slice is calibrated with --cross-fit"
            )
        for name, label in zip(self.run.info.classes, (0, 1), strict=True):
            if (count := int((labels == label).sum())) < MINIMUM_CASES:
                raise DataRejected(
                    f"{self.run.folder}: too few slices to {purpose}: {count} of class {name} in the {split} split, "
                    f"but at least {MINIMUM_CASES} are needed"
                )

    def _read(self, indices: np.ndarray, label: str) -> np.ndarray:
        dataset = self._dataset.take(indices)
        with self.progress.bar(label, len(dataset)) as on_done:
            images = load_images(dataset, self.preprocess, on_done)
        for index, sha256 in zip(indices, images.sha256, strict=True):
            if self.table.sha256[index] != sha256:
                raise DataRejected(
                    f"{self.table.paths[index]}: its pixels are not those that the run was trained on; "
                    "name the original data with --data"
                )
        return images.images
