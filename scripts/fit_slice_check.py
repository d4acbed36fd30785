"""Fit the weights of `edge_ct.imaging.slice_check` on slices against X-rays and photographs, with augmentation.

    python scripts/fit_slice_check.py OTHERS_FOLDER SLICES [SLICES ...]

prints the weights as that module contains them, and how weights perform on a source that they were fitted without. Then
it prints those of `edge_ct.imaging.field_check`, fitted on what passes the first check: the other pictures should be
many and include drawn ones (portraits, objects, text, curves, clouds, heads, screenshots, charts) of 48 to 1024 px. It
is run once for the project; training does not run it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from edge_ct import slices
from edge_ct.dataset import load
from edge_ct.imaging.exact_resize import resize_exact
from edge_ct.imaging.field_check import measure_fields, terms
from edge_ct.imaging.lung_box import find_lung_fields
from edge_ct.imaging.slice_check import REJECT, Measurements, measure, thumbnail, weighted_sum, without_frame
from edge_ct.imaging.slice_files import list_slices
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
VARIANTS, PHANTOMS, MOST = 12, 300, 400  # MOST: slices of one source


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
        measured = measure_picture(version)
        if measured is not None:
            yield measured


def measure_picture(pixels: np.ndarray) -> Measurements | None:
    """Return what `slice_check` measures of a picture, uint8 [h, w]; None if the picture is blank."""
    copy = without_frame(thumbnail(pixels))
    return None if copy is None else measure(copy)


def collect(
    sources: Mapping[str, Sequence[np.ndarray]], others: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure slices and other pictures, each as it is and altered.

    Args:
        sources: Slices by their source, uint8 [h, w] each; every source has the same weight in total.
        others: Pictures that are no slices; together they weigh as much as all sources.

    Returns:
        Measurements [n, 11], whether each is of a slice, bool [n], and sample weights [n].
    """
    generator = np.random.default_rng(0)
    rows: list[Measurements] = []
    labels: list[bool] = []
    weights: list[float] = []
    kinds = [(pictures, AS_SLICES, 2, True, 2.0) for pictures in sources.values()]
    for pictures, augment, times, is_slice, plain in (*kinds, (others, AS_OTHERS, VARIANTS, False, 6.0)):
        before = len(rows)
        for pixels in pictures:
            measured = list(measure_versions(pixels, augment, times, generator))
            rows += measured
            labels += [is_slice] * len(measured)
            weights += [plain] + [1.0] * (len(measured) - 1) if measured else []
        total = sum(weights[before:]) * (len(sources) if is_slice else 1)
        weights[before:] = [weight / total for weight in weights[before:]]
    return np.array(rows), np.array(labels), np.array(weights) * len(rows) / sum(weights)


def fit_fields(
    sources: Mapping[str, Sequence[np.ndarray]], others: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit the weights of `field_check` on the pictures whose sum the first check accepts, and their small versions.

    Args:
        sources: Slices by their source, uint8 [h, w] each; every source has the same weight in total.
        others: Pictures that are no slices; together they weigh as much as all sources.

    Returns:
        Mean and standard deviation of each measurement, [m], and the weights of `terms`.
    """
    generator = np.random.default_rng(5)
    rows: list[list[float]] = []
    labels: list[bool] = []
    weights: list[float] = []
    for pictures, is_slice in (*((found, True) for found in sources.values()), (others, False)):
        before = len(rows)
        for pixels in pictures:
            side = int(generator.integers(48, 160))
            for version in (pixels, resize_exact(pixels, side, side)):
                measured = measure_picture(version)
                if measured is not None and weighted_sum(measured) >= REJECT:
                    rows.append([*measured, *measure_fields(version, find_lung_fields(version))])
        labels += [is_slice] * (len(rows) - before)
        weights += [1 / max(len(rows) - before, 1) / (len(sources) if is_slice else 1)] * (len(rows) - before)
    measurements, shares = np.array(rows), np.array(weights)
    means = np.average(measurements, 0, shares)
    scales = np.sqrt(np.average((measurements - means) ** 2, 0, shares))
    products = terms((measurements - means) / scales)[:, 1:]
    spreads = np.maximum(products.std(0), 1e-9)
    model = LogisticRegression(C=0.1, max_iter=400)
    model.fit(products / spreads, labels, shares * len(rows) / shares.sum())
    # The odds of a slice are higher than here, where half of the weight is on other pictures.
    bias = model.intercept_[0] + 0.5
    return means, scales, np.concatenate([[bias], model.coef_[0] / spreads])


def read_sources(tables: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """Read at most `MOST` slices of each source of the data sets, chosen at random."""
    generator = np.random.default_rng(0)
    paths: dict[str, list[Path]] = {}
    for table in tables:
        dataset = load(Path(table), one_class=True)
        names = dataset.sources or (dataset.name,) * len(dataset)
        for name, path in zip(names, dataset.paths, strict=True):
            paths.setdefault(name, []).append(path)
    chosen = {name: generator.permutation(np.array(found, object))[:MOST] for name, found in paths.items()}
    return {name: [slices.read(path).pixels for path in found] for name, found in chosen.items()}


def report(name: str, measured: np.ndarray, is_slice: np.ndarray, weights: Measurements, bias: float) -> None:
    """Print how many of the pictures the weights call a slice."""
    accepted = measured @ np.array(weights) + bias >= 0
    print(
        f"# {name}: {int(accepted[is_slice].sum())} of {int(is_slice.sum())} slices and their alterations accepted, "
        f"{int(accepted[~is_slice].sum())} of {int((~is_slice).sum())} other pictures"
    )


def main(folder: str, *tables: str) -> None:
    """Print the weights, and how weights fitted without a source do on that source.

    Args:
        folder: Pictures that are no slices.
        tables: Data sets of slices: folders, or CSV files with a `source` column.
    """
    sources = read_sources(tables)
    others = [slices.read(path).pixels for path in list_slices(Path(folder)).paths]
    sizes = (64, 96, 224, 512)
    phantoms = [make_slice(i, i % 8, i % 2 == 0, sizes[i % 4], seed=11).image for i in range(PHANTOMS)]
    for left_out in sources:
        kept = {name: pictures for name, pictures in sources.items() if name != left_out}
        fitted = fit(*collect({**kept, "phantoms": phantoms}, others[::2]))
        measured, is_slice, _ = collect({left_out: sources[left_out]}, others[1::2])
        report(f"without {left_out} and every second other picture", measured, is_slice, *fitted)
    measured, is_slice, sample_weights = collect({**sources, "phantoms": phantoms}, others)
    weights, bias = fit(measured, is_slice, sample_weights)
    report("all", measured, is_slice, weights, bias)
    for name, value in zip(Measurements._fields, weights, strict=True):
        print(f"    {name}={value:.4g},")
    print(f"_BIAS = {bias:.4g}")
    fitted_fields = fit_fields({**sources, "phantoms": phantoms}, others)
    for name, numbers in zip(("_MEANS", "_SCALES", "_WEIGHTS"), fitted_fields, strict=True):
        print(f"{name}:", *(f"{number:.4g}" for number in numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
