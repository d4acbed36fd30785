"""How a bundle fares on slices that were exported worse: one change at a time, from what is usual to what is too much.

    python -m edge_ct.benchmarks.robustness BUNDLE --data SLICES --out robustness.csv [--plot robustness.svg]

On the slices that the bundle was not made with, recognised by their pixels. Changes are made to the slice as it was
read, before everything that the device does. A rejected slice has no probability: it counts in `rejected`, and in
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import msgspec
import numpy as np

from edge_ct import slices
from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.cli import run_program
from edge_ct.dataset import load
from edge_ct.errors import InputRejected
from edge_ct.held_out import Part, parts_known_to_bundle, select_held_out
from edge_ct.imaging import degrade
from edge_ct.metrics import score, wilson
from edge_ct.slices import Slice
from edge_ct.system.csv_text import estimate_columns, to_csv
from edge_ct.system.files import replace_atomically, write_text
from edge_ct.system.progress import Progress

# uint8 [h, w], generator -> uint8 [h, w]
Alteration = Callable[[np.ndarray, np.random.Generator], np.ndarray]
_NONE = "none"


@dataclass(frozen=True)
class Change:
    """What is done to a slice. kind: of changes of growing amount."""

    kind: str
    amount: str
    apply: Alteration


def changes() -> list[Change]:
    """All that are tried; the first leaves slices as they are."""
    found = [Change(_NONE, "", lambda image, generator: image)]
    found += [Change("jpeg", f"{q}", _jpeg(q)) for q in (95, 85, 75, 60, 50, 40, 30)]
    found += [Change("resolution", f"{side}", _side(side)) for side in (512, 384, 256, 192, 128, 96)]
    found += [Change("window", f"{c:+d} %", _tone(contrast=c / 100)) for c in (-40, -20, -10, 10, 20, 40)]
    found += [Change("level", f"{b:+d} %", _tone(brightness=b / 100)) for b in (-20, -10, -5, 5, 10, 20)]
    found += [Change("rotation", f"{angle:+d}", _turned(angle)) for angle in (-20, -10, -5, 5, 10, 20, 90, 180)]
    found += [Change("crop", f"{share} %", _cropped(share / 100)) for share in (5, 10, 20, 30)]
    found += [Change("noise", f"{sigma}", _noise(sigma)) for sigma in (5, 10, 20, 30)]
    found += [Change("burnt in", name, _burnt(draw)) for name, draw in _DRAWN.items()]
    return [*found, Change("inverted", "", _tone(inverted=True))]


def _jpeg(quality: int) -> Alteration:
    return lambda image, generator: degrade.jpeg(image, quality)


def _tone(contrast: float = 0.0, brightness: float = 0.0, inverted: bool = False) -> Alteration:
    return lambda image, generator: degrade.tone(image, contrast, brightness, inverted=inverted)


def _noise(sigma: float) -> Alteration:
    return lambda image, generator: degrade.noisy(image, sigma, generator)


def _side(side: int) -> Alteration:
    """The longer side has so many pixels, and the slice is given so."""

    def change(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        scale = side / max(image.shape)
        shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        return cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)

    return change


def _turned(degrees: int) -> Alteration:
    """About the centre; what comes in from outside repeats the edge. By quarters nothing is resampled."""

    def change(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        if degrees % 90 == 0:
            return np.ascontiguousarray(np.rot90(image, degrees // 90))
        height, width = image.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    return change


def _cropped(share: float) -> Alteration:
    """So much of the width and of the height is cut away, at any place."""

    def change(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        kept = [max(1, round(side * (1 - share))) for side in image.shape]
        top, left = (int(generator.integers(side - own + 1)) for side, own in zip(image.shape, kept, strict=True))
        return np.ascontiguousarray(image[top : top + kept[0], left : left + kept[1]])

    return change


def _burnt(draw: Callable[[np.ndarray, int, np.random.Generator], None]) -> Alteration:
    """Three of them, almost white."""

    def change(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        image = image.copy()
        for _ in range(3):
            draw(image, int(generator.integers(190, 256)), generator)
        return image

    return change


_DRAWN = {"text": degrade.draw_text, "arrows": degrade.draw_arrow, "rulers": degrade.draw_ruler}


def measure(
    path: Path,
    data: Path,
    part: Part = "auto",
    positive: str = "COVID",
    limit: int = 0,
    tried: list[Change] | None = None,
    progress: Progress = Progress(quiet=True),  # noqa: B008  (it has no state)
) -> list[dict[str, object]]:
    """A row a change. part: as `evaluate`. limit: of slices, spread over all; 0 takes all.

    Raises `DataRejected` where the bundle was made with every slice.
    """
    classifier = Classifier(read_bundle(path))
    tried = tried or changes()
    dataset, read = load(data, positive, one_class=True), dict[int, Slice]()
    for index, source in enumerate(dataset.paths):
        try:
            read[index] = slices.read(source)
        except InputRejected as error:
            progress.say(str(error))
    hashes = [read[index].sha256 if index in read else None for index in range(len(dataset))]
    chosen, split, scored = select_held_out(
        hashes, parts_known_to_bundle(classifier.bundle), classifier.manifest.data.split, part
    )
    chosen = [index for index in chosen if index in read]
    chosen = chosen[:: -(-len(chosen) // limit)] if limit else chosen
    labels, said = dataset.labels[chosen], np.full((len(tried), len(chosen)), np.nan)
    with progress.bar("changed slices", said.size) as on_done:
        for place, index in enumerate(chosen):
            for number, change in enumerate(tried):
                generator = np.random.default_rng((number, int(read[index].sha256[:8], 16)))
                pixels = change.apply(read[index].pixels, generator)
                p = classifier.judge_slice(Slice(pixels, "slice", colour=read[index].colour)).result.probability
                said[number, place] = np.nan if p is None else p
                on_done(1)
    about: dict[str, object] = {"model": classifier.manifest.name, "split": split, "part": scored}
    threshold = classifier.manifest.operating_point.threshold
    return [about | _row(change, labels, p, said[0], threshold) for change, p in zip(tried, said, strict=True)]


def _row(change: Change, labels: np.ndarray, p: np.ndarray, before: np.ndarray, threshold: float) -> dict[str, object]:
    seen = ~np.isnan(p)
    both = seen & ~np.isnan(before)
    row: dict[str, object] = {"change": change.kind, "amount": change.amount, "n": len(p)}
    row["rejected"] = int((~seen).sum())
    row |= estimate_columns("rejected_share", msgspec.to_builtins(wilson(int((~seen).sum()), len(p))))
    scores, at = score(labels[seen], p[seen]), score(labels[seen], p[seen], threshold)
    for name in ("accuracy", "sensitivity", "specificity"):
        row |= estimate_columns(name, msgspec.to_builtins(getattr(scores, name)))
    for name in ("sensitivity", "specificity"):
        row |= estimate_columns(f"{name}_at_threshold", msgspec.to_builtins(getattr(at, name)))
    same = ((p >= 0.5) == (before >= 0.5))[both]
    return row | {"same_call": f"{same.mean():.5f}" if len(same) else ""}


def text_of(rows: Iterable[dict[str, object]]) -> str:
    """The rows as CSV."""
    rows = list(rows)
    return to_csv(tuple(rows[0]), (row.values() for row in rows))


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder or CSV of labelled slices.")
@click.option("--part", type=click.Choice(["auto", "validation", "test", "all"]), default="auto", show_default=True)
@click.option("--positive", default="COVID", show_default=True, help="Name of the positive class.")
@click.option("--limit", type=click.IntRange(0), default=0, help="At most so many slices; 0 takes all.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The CSV to write.")
@click.option("--plot", type=click.Path(path_type=Path), help="A picture of it to write, SVG.")
def command(bundle: Path, data: Path, part: Part, positive: str, limit: int, out: Path, plot: Path | None) -> None:
    """Measure a bundle on slices that were changed in one way at a time."""
    rows = measure(bundle, data, part, positive, limit, progress=Progress())
    write_text(out, text_of(rows))
    if plot:
        from edge_ct.reporting import plotting

        with replace_atomically(plot) as temporary:
            temporary.write_text(plotting.robustness(rows), encoding="utf-8")


if __name__ == "__main__":
    run_program(command)
