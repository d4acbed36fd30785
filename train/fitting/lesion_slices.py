"""Slices with lesion masks: a table of them, phantoms, and how they join the batches of a training.

path,lesion_mask,lung_mask,group        a CSV; paths are relative to it, an empty lesion_mask is a slice without lesions
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_ct import slices
from edge_ct.errors import DataRejected, InputRejected
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.system.csv_text import read_table

from ..data.augment import Augment
from ..zoo.lesion_decoder import STRIDE

_PHANTOM_SIZE = 256  # px; about the side of the slices of public sets
_PHANTOM_SLICES = 8  # slices in the series of a phantom patient, of which two are taken


@dataclass(frozen=True, eq=False)
class LesionSlices:
    """Preprocessed slices with their lesion masks.

    Attributes:
        images: uint8 [n, s, s, 1].
        masks: uint8 [n, s, s], 255 where a pixel is lesion, in between along borders.
        groups: n patients.
        sha256: n identities of the pixels of the slices; "" for phantoms.
    """

    images: np.ndarray
    masks: np.ndarray
    groups: tuple[str, ...]
    sha256: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.groups)

    def take(self, chosen: np.ndarray) -> LesionSlices:
        """Return the slices at the indices `chosen`."""
        return LesionSlices(
            self.images[chosen],
            self.masks[chosen],
            tuple(self.groups[i] for i in chosen),
            tuple(self.sha256[i] for i in chosen),
        )

    def without(self, groups: Collection[str], sha256: Collection[str] = ()) -> LesionSlices:
        """Return the slices of other patients than `groups`, and with other pixels than those of `sha256`."""
        return self.take(
            np.array(
                [
                    index
                    for index, (group, pixels) in enumerate(zip(self.groups, self.sha256, strict=True))
                    if group not in groups and pixels not in sha256
                ],
                int,
            )
        )

    def joined(self, other: LesionSlices) -> LesionSlices:
        """Return these slices and the other ones."""
        return LesionSlices(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.masks, other.masks]),
            self.groups + other.groups,
            self.sha256 + other.sha256,
        )

    def cells(self) -> np.ndarray:
        """Return the share of each cell of the lesion map that is lesion, float32 [n, s / 8, s / 8]."""
        return np.stack([cell_shares(mask) for mask in self.masks])


def load_lesion_slices(
    table: Path, preprocess: Preprocess, on_done: Callable[[int], None] = lambda count: None
) -> LesionSlices:
    """Read the slices and masks of a CSV; a mask is cropped and resized with its slice.

    Raises:
        DataRejected: for a table, a slice or a mask that cannot be read, and for a mask of another size than its slice.
    """
    rows = read_table(table, "path,lesion_mask,group[,lung_mask]")
    size = preprocess.size
    images, masks = np.empty((len(rows), size, size, 1), np.uint8), np.zeros((len(rows), size, size), np.uint8)
    hashes = []
    for index, row in enumerate(rows):
        try:
            slice_ = slices.read(table.parent / row["path"])
        except InputRejected as error:
            raise DataRejected(f"{table}: row {index + 2}: {error}") from error
        region = preprocess.region(slice_.pixels)
        images[index] = preprocess.resized(slice_.pixels, region)
        if row["lesion_mask"]:
            mask = read_mask(table.parent / row["lesion_mask"], slice_.pixels.shape)
            masks[index] = preprocess.resized(mask, region)[:, :, 0]
        hashes.append(slice_.sha256)
        on_done(1)
    return LesionSlices(images, masks, tuple(row["group"] for row in rows), tuple(hashes))


def read_mask(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a mask file as uint8 [h, w] of 0 and 255. Raises `DataRejected` where it does not have the shape [h, w]."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise DataRejected(f"{path}: cannot be read as a picture; a mask is a PNG file, white where there is a lesion")
    if mask.shape != shape:
        raise DataRejected(
            f"{path}: the mask is {mask.shape[1]} x {mask.shape[0]} px, its slice {shape[1]} x {shape[0]} px"
        )
    return np.asarray((mask > 127) * np.uint8(255))


def phantom_lesion_slices(preprocess: Preprocess, patients: int, seed: int = 0) -> LesionSlices:
    """Draw two slices of each of `patients` phantom patients, every second one with lesions; their masks are known."""
    size = preprocess.size
    images, masks, groups = [np.empty((0, size, size, 1), np.uint8)], [np.empty((0, size, size), np.uint8)], []
    for patient in range(patients):
        for index in (2 + patient % 2, 4 + patient % 2):
            phantom = make_slice(patient, index, patient % 2 == 1, _PHANTOM_SIZE, seed, _PHANTOM_SLICES)
            region = preprocess.region(phantom.image)
            images.append(preprocess.resized(phantom.image, region)[np.newaxis])
            masks.append(preprocess.resized(phantom.lesion * np.uint8(255), region)[np.newaxis, :, :, 0])
            groups.append(phantom.patient)
    return LesionSlices(np.concatenate(images), np.concatenate(masks), tuple(groups), ("",) * len(groups))


def cell_shares(mask: np.ndarray) -> np.ndarray:
    """Compute the share of each cell of 8 x 8 pixels that is lesion: uint8 [s, s] -> float32 [s / 8, s / 8]."""
    cells = len(mask) // STRIDE
    blocks = mask.reshape(cells, STRIDE, cells, STRIDE)
    return np.asarray(blocks.mean((1, 3), dtype=np.float32) / 255)


class LesionDraws:
    """Slices with masks for each batch of a training, augmented alike, drawn from (seed, epoch, batch, place)."""

    def __init__(self, real: LesionSlices, phantoms: LesionSlices, count: int, augment: Augment, seed: int) -> None:
        """Take slices with masks for a training.

        Args:
            real: Slices of patients; each patient is drawn as often as the square root of the slices there are.
            phantoms: Phantom slices; a quarter of the draws where there are real slices as well.
            count: Number of slices with masks in a batch.
            augment: The changes that they go through.
            seed: Seed of the training.
        """
        self.count = count
        self._slices, self._augment, self._seed = real.joined(phantoms), augment, seed
        chances = np.concatenate([_by_group(real.groups), _by_group(phantoms.groups)])
        if len(real) and len(phantoms):
            chances[: len(real)] *= 0.75
            chances[len(real) :] *= 0.25
        self._chances = chances / chances.sum()

    def draw(self, epoch: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw the slices of one batch.

        Returns:
            Slices, uint8 [count, s, s, 1], and targets of the lesion map, float32 [count, s / 8, s / 8, 2]: the share
            of each cell that is lesion, and 1.
        """
        generator = np.random.default_rng((self._seed, epoch, batch, 1))
        images, targets = [], []
        for index in generator.choice(len(self._slices), self.count, p=self._chances):
            image, mask = self._augment.with_mask(self._slices.images[index], self._slices.masks[index], generator)
            assert mask is not None
            shares = cell_shares(mask)
            images.append(image)
            targets.append(np.stack([shares, np.ones_like(shares)], axis=-1))
        return np.stack(images), np.stack(targets)


def _by_group(groups: tuple[str, ...]) -> np.ndarray:
    """Compute how often each slice is drawn, float64 [n], of sum 1: a group as the square root of its size."""
    if not groups:
        return np.empty(0)
    _, place, counts = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    chances = 1 / np.sqrt(counts[place])
    return np.asarray(chances / chances.sum())
