"""Fit the weights of `edge_ct.imaging.slice_check`: slices against X-rays and photographs, each seen in many ways.

    python scripts/fit_slice_check.py SLICES.csv OTHERS_FOLDER

prints them as they stand there. Run once, for the project; a user's training does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from edge_ct import slices
from edge_ct.imaging.exact_resize import resize_exact
from edge_ct.imaging.slice_check import Measurements, measure, thumbnail, without_frame
from edge_ct.phantom import make_slice
from edge_ct.train.data.augment import Augment

# How else a slice may come: wider than `travel`, up to where it could still be read.
AS_SLICES = Augment(
    rotate=12, shear=5, scale=0.15, shift=0.06, flip=0.5, skew=0.05, crop=0.2, border=0.2, window=0.35, level=0.15,
    gamma=0.45, blur=1.2, grain=14, markings=0.4, downsample=0.5, jpeg=20,
)  # fmt: skip
AS_OTHERS = Augment(
    rotate=12, scale=0.2, shift=0.1, flip=0.5, crop=0.4, border=0.15, window=0.4, level=0.15, gamma=0.45, blur=1.2,
    grain=10, markings=0.2, downsample=0.5, jpeg=20, invert=0.15,
)  # fmt: skip
# Where the dark lies is told from few pictures, and differs with the field of view: counted by half.
GREYS = ("split", "spread", "between", "slopes", "edges", "whole", "pieces")
VARIANTS, PHANTOMS = 12, 600


def fit(measured: np.ndarray, is_slice: np.ndarray, weights: np.ndarray) -> tuple[Measurements, float]:
    """Weights and bias of `picture`. measured: float [n, 11]; is_slice: bool [n]; weights: of the samples, [n].

    The mean of two logistic regressions, one of all measurements and one of the greys alone.
    """
    columns = [np.arange(measured.shape[1]), np.flatnonzero(np.isin(Measurements._fields, GREYS))]
    total, bias = np.zeros(measured.shape[1]), 0.0
    for own in columns:
        scaler = StandardScaler().fit(measured[:, own])
        model = LogisticRegression(C=0.1, max_iter=3000)
        model.fit(scaler.transform(measured[:, own]), is_slice, weights)
        slopes = model.coef_[0] / scaler.scale_
        total[own] += slopes / len(columns)
        bias += (model.intercept_[0] - slopes @ scaler.mean_) / len(columns)
    return Measurements(*total.tolist()), float(bias)


def seen(pixels: np.ndarray, ways: Augment, times: int, generator: np.random.Generator) -> Iterator[Measurements]:
    """Measurements of a picture as it is, and of `times` versions of it; blank ones are left out."""
    square = resize_exact(pixels, 224, 224)[:, :, np.newaxis]
    for version in (pixels, *(ways(square, generator)[:, :, 0] for _ in range(times))):
        copy = without_frame(thumbnail(version))
        measured = None if copy is None else measure(copy)
        if measured is not None:
            yield measured


def collect(
    scans: Sequence[np.ndarray], phantoms: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measurements, whether each is of a slice, and its weight: the kinds count about alike."""
    generator = np.random.default_rng(0)
    rows: list[Measurements] = []
    labels: list[bool] = []
    weights: list[float] = []
    for pictures, ways, times, is_slice, plain in (
        (scans, AS_SLICES, 1, True, 0.5),
        (phantoms, AS_SLICES, 0, True, 1.5),
        (others, AS_OTHERS, VARIANTS, False, 6.0),
    ):
        for pixels in pictures:
            found = list(seen(pixels, ways, times, generator))
            rows += found
            labels += [is_slice] * len(found)
            weights += [plain] + [1.0] * (len(found) - 1) if found else []
    return np.array(rows), np.array(labels), np.array(weights)


def main(table: str, folder: str) -> None:
    """Print the weights. table: CSV `path,...,part` of slices, of which those of part `train` are used."""
    import csv

    root = Path(table).parent
    with Path(table).open(newline="") as file:
        scans = [slices.read(root / row["path"]).pixels for row in csv.DictReader(file) if row.get("part") == "train"]
    others = [slices.read(path).pixels for path in slices.find(Path(folder))]
    phantoms = [make_slice(i, i % 8, i % 2 == 0, (64, 96, 224, 512)[i % 4], seed=11).image for i in range(PHANTOMS)]
    found, bias = fit(*collect(scans, phantoms, others))
    for name, value in zip(Measurements._fields, found, strict=True):
        print(f"    {name}={value:.4g},")
    print(f"_BIAS = {bias:.4g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
