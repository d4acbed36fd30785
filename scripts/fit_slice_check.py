"""Fit the weights of `edge_ct.imaging.slice_check` on slices against X-rays and photographs, with augmentation.

    python scripts/fit_slice_check.py SLICES.csv OTHERS_FOLDER

prints the weights as that module contains them. It was run once for the project; training does not run it.
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

# Ways in which a slice may differ: wider ranges than `travel`, up to the limit of what could still be read.
AS_SLICES = Augment(
    rotate=12, shear=5, scale=0.15, shift=0.06, flip=0.5, skew=0.05, crop=0.2, border=0.2, window=0.35, level=0.15,
    gamma=0.45, blur=1.2, grain=14, markings=0.4, downsample=0.5, jpeg=20,
)  # fmt: skip
AS_OTHERS = Augment(
    rotate=12, scale=0.2, shift=0.1, flip=0.5, crop=0.4, border=0.15, window=0.4, level=0.15, gamma=0.45, blur=1.2,
    grain=10, markings=0.2, downsample=0.5, jpeg=20, invert=0.15,
)  # fmt: skip
# The position of dark areas is known from few pictures and depends on the field of view, so it has half the weight.
GREYS = ("split", "spread", "between", "slopes", "edges", "whole", "pieces")
VARIANTS, PHANTOMS = 12, 600


def fit(measured: np.ndarray, is_slice: np.ndarray, weights: np.ndarray) -> tuple[Measurements, float]:
    """Fit the mean of two logistic regressions, one on all measurements and one on the grey levels alone.

    Args:
        measured: Measurements, float [n, 11].
        is_slice: Whether each is of a slice, bool [n].
        weights: Weight of each sample, float [n].

    Returns:
        Weights and bias.
    """
    columns = [np.arange(measured.shape[1]), np.flatnonzero(np.isin(Measurements._fields, GREYS))]
    total, bias = np.zeros(measured.shape[1]), 0.0
    for chosen in columns:
        scaler = StandardScaler().fit(measured[:, chosen])
        model = LogisticRegression(C=0.1, max_iter=3000)
        model.fit(scaler.transform(measured[:, chosen]), is_slice, weights)
        slopes = model.coef_[0] / scaler.scale_
        total[chosen] += slopes / len(columns)
        bias += (model.intercept_[0] - slopes @ scaler.mean_) / len(columns)
    return Measurements(*total.tolist()), float(bias)


def measure_versions(
    pixels: np.ndarray, augment: Augment, times: int, generator: np.random.Generator
) -> Iterator[Measurements]:
    """Yield the measurements of a picture and of `times` augmented versions, without those that are blank."""
    square = resize_exact(pixels, 224, 224)[:, :, np.newaxis]
    for version in (pixels, *(augment(square, generator)[:, :, 0] for _ in range(times))):
        copy = without_frame(thumbnail(version))
        measured = None if copy is None else measure(copy)
        if measured is not None:
            yield measured


def collect(
    scans: Sequence[np.ndarray], phantoms: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return measurements, whether each is of a slice, and weights that give every kind about the same influence."""
    generator = np.random.default_rng(0)
    rows: list[Measurements] = []
    labels: list[bool] = []
    weights: list[float] = []
    for pictures, augment, times, is_slice, plain in (
        (scans, AS_SLICES, 1, True, 0.5),
        (phantoms, AS_SLICES, 0, True, 1.5),
        (others, AS_OTHERS, VARIANTS, False, 6.0),
    ):
        for pixels in pictures:
            versions = list(measure_versions(pixels, augment, times, generator))
            rows += versions
            labels += [is_slice] * len(versions)
            weights += [plain] + [1.0] * (len(versions) - 1) if versions else []
    return np.array(rows), np.array(labels), np.array(weights)


def main(table: str, folder: str) -> None:
    """Print the weights.

    Args:
        table: CSV `path,...,part` of slices; those of part `train` are used.
        folder: Folder of other pictures.
    """
    import csv

    root = Path(table).parent
    with Path(table).open(newline="") as file:
        scans = [slices.read(root / row["path"]).pixels for row in csv.DictReader(file) if row.get("part") == "train"]
    others = [slices.read(path).pixels for path in slices.find(Path(folder))]
    phantoms = [make_slice(i, i % 8, i % 2 == 0, (64, 96, 224, 512)[i % 4], seed=11).image for i in range(PHANTOMS)]
    fitted, bias = fit(*collect(scans, phantoms, others))
    for name, value in zip(Measurements._fields, fitted, strict=True):
        print(f"    {name}={value:.4g},")
    print(f"_BIAS = {bias:.4g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
