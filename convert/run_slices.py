"""The slices of a run that conversion works with, read when they are first asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_ct.dataset import Dataset, load_images
from edge_ct.errors import DataRejected
from edge_ct.run import Run
from edge_ct.system.progress import QUIET, Progress

# Fewer of a class, and neither ranges nor calibration nor gate would mean anything.
MINIMUM_CASES = 5


class Material:
    """A run's slices by part. Every step of a conversion, shrinking ones too, takes its slices from here.

    run, table (split.csv), preprocess, progress: for whoever needs them.
    """

    def __init__(self, run: Run, data: Path | None = None, progress: Progress = QUIET) -> None:
        """data: where the run's slices are now, if they have moved. Raises `DataRejected`: no or too few slices."""
        self.run, self.progress = run, progress
        self.table, self.preprocess = run.split(), run.info.preprocess
        self._dataset: Dataset = run.dataset(data)
        self._images: dict[str, np.ndarray] = {}
        for part, purpose in (("train", "draw representative slices from"), ("validation", "calibrate on")):
            self._check(part, purpose)

    def labels(self, part: str) -> np.ndarray:
        """0 or 1, int8 [n]."""
        return np.asarray(self.table.labels[self.table.where(part)])

    def images(self, part: str) -> np.ndarray:
        """All slices of `part`, uint8 [n, s, s, 1]. Raises `DataRejected` where they have changed since training."""
        if part not in self._images:
            self._images[part] = self._read(self.table.where(part), f"reading {part}")
        return self._images[part]

    def representative(self, count: int, seed: int, sets: int = 1) -> list[np.ndarray]:
        """Disjoint sets of `count` slices of the training part, uint8 [n, s, s, 1]: half of each class, spread over
        as many groups as there are. Fewer, and said so, where there are not enough."""
        indices = self.representative_indices(count, seed, sets)
        smallest = min(len(own) for own in indices)
        if smallest < count:
            self.progress.say(f"only {smallest} of {count} representative slices: the training split has no more")
        everything = self._read(np.concatenate(indices), "reading representative")
        return np.split(everything, np.cumsum([len(own) for own in indices])[:-1])

    def representative_indices(self, count: int, seed: int, sets: int = 1) -> list[np.ndarray]:
        """The same as indices of split.csv."""
        train, generator = self.table.where("train"), np.random.default_rng(seed)
        chosen: list[list[np.ndarray]] = [[] for _ in range(sets)]
        for label in (0, 1):
            own = self._spread(generator.permutation(train[self.table.labels[train] == label]))
            wanted = min(-(-count // 2), len(own) // sets)
            if wanted == 0:
                raise DataRejected(f"too few training slices for {sets} disjoint sets of representative ones")
            for number in range(sets):
                chosen[number].append(own[number * wanted : (number + 1) * wanted])
        return [np.concatenate(one) for one in chosen]

    def _spread(self, indices: np.ndarray) -> np.ndarray:
        """In the same order, but the first of every group before the second of any."""
        seen: dict[str, int] = {}
        turns = []
        for index in indices:
            group = self.table.groups[index] or f"slice {index}"
            turns.append(seen.get(group, 0))
            seen[group] = turns[-1] + 1
        return np.asarray(indices[np.argsort(turns, kind="stable")])

    def _check(self, part: str, purpose: str) -> None:
        labels = self.labels(part)
        if len(labels) == 0:
            raise DataRejected(f"{self.run.folder}: the run has no {part} split to {purpose}")
        for name, label in zip(self.run.info.classes, (0, 1), strict=True):
            if (found := int((labels == label).sum())) < MINIMUM_CASES:
                raise DataRejected(
                    f"{self.run.folder}: too few slices to {purpose}: {found} of class {name} in the {part} split, "
                    f"at least {MINIMUM_CASES} are needed"
                )

    def _read(self, indices: np.ndarray, label: str) -> np.ndarray:
        dataset = self._dataset.take(indices)
        with self.progress.bar(label, len(dataset)) as on_done:
            images = load_images(dataset, self.preprocess, on_done)
        for index, sha256 in zip(indices, images.sha256, strict=True):
            if self.table.sha256[index] != sha256:
                raise DataRejected(f"{self.table.paths[index]}: its pixels are not those the run was trained on")
        return images.images
