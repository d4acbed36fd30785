"""A bundle on slices that were degraded in one way at a time, from usual amounts to excessive ones.

    python -m edge_ct.benchmarks.robustness BUNDLE --data SLICES --out robustness.csv [--plot robustness.svg]

uses the slices that the bundle was not made with, recognised by their pixels. A change is made to the slice as it was
read, before everything that the device does. A rejected slice has no probability: it counts in `rejected` and in no
other figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from edge_ct.imaging.degrade import draw_arrow, draw_ruler, draw_text, jpeg, noisy, tone
from edge_ct.metrics import score, wilson
from edge_ct.slices import Slice
from edge_ct.system.csv_text import estimate_columns, to_csv
from edge_ct.system.files import write_text
from edge_ct.system.progress import QUIET, Progress

# uint8 [h, w], generator -> uint8 [h, w]
Alteration = Callable[[np.ndarray, np.random.Generator], np.ndarray]
_MARKINGS = {"text": draw_text, "arrows": draw_arrow, "rulers": draw_ruler}


@dataclass(frozen=True)
class Change:
    """One way to degrade a slice.

    Attributes:
        kind: Name of the kind of change; the changes of a kind grow in amount.
        amount: The amount, in words.
        apply: The change itself.
    """

    kind: str
    amount: str
    apply: Alteration


def all_changes() -> list[Change]:
    """Return all changes; the first leaves slices as they are."""
    changes = [Change("none", "", lambda image, generator: image)]
    changes += [Change("jpeg", f"{quality}", _compress(quality)) for quality in (95, 85, 75, 60, 50, 40, 30)]
    changes += [Change("resolution", f"{side}", _resize(side)) for side in (512, 384, 256, 192, 128, 96)]
    changes += [Change("window", f"{c:+d} %", _change_tone(contrast=c / 100)) for c in (-40, -20, -10, 10, 20, 40)]
    changes += [Change("level", f"{b:+d} %", _change_tone(brightness=b / 100)) for b in (-20, -10, -5, 5, 10, 20)]
    changes += [Change("rotation", f"{angle:+d}", _rotate(angle)) for angle in (-20, -10, -5, 5, 10, 20, 90, 180)]
    changes += [Change("crop", f"{share} %", _crop(share / 100)) for share in (5, 10, 20, 30)]
    changes += [Change("noise", f"{sigma}", _add_noise(sigma)) for sigma in (5, 10, 20, 30)]
    changes += [Change("burnt in", name, _burn_in(draw)) for name, draw in _MARKINGS.items()]
    return [*changes, Change("inverted", "", _change_tone(inverted=True))]


def _compress(quality: int) -> Alteration:
    return lambda image, generator: jpeg(image, quality)


def _change_tone(contrast: float = 0.0, brightness: float = 0.0, inverted: bool = False) -> Alteration:
    return lambda image, generator: tone(image, contrast, brightness, inverted=inverted)


def _add_noise(sigma: float) -> Alteration:
    return lambda image, generator: noisy(image, sigma, generator)


def _resize(side: int) -> Alteration:
    """Resize a slice so that its longer side has `side` pixels."""

    def change(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        scale = side / max(image.shape)
        shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        return cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)

    return change


def _rotate(degrees: int) -> Alteration:
    """Rotate about the centre and fill in with the edge; multiples of 90 degrees are not resampled."""

    def change(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        if degrees % 90 == 0:
            return np.ascontiguousarray(np.rot90(image, degrees // 90))
        height, width = image.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    return change


def _crop(share: float) -> Alteration:
    """Cut away this share of the width and of the height, at a random place."""

    def change(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        height, width = (max(1, round(side * (1 - share))) for side in image.shape)
        top = int(generator.integers(image.shape[0] - height + 1))
        left = int(generator.integers(image.shape[1] - width + 1))
        return np.ascontiguousarray(image[top : top + height, left : left + width])

    return change


def _burn_in(draw: Callable[[np.ndarray, int, np.random.Generator], None]) -> Alteration:
    """Draw three markings in light grey."""

    def change(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        image = image.copy()
        for _ in range(3):
            draw(image, int(generator.integers(190, 256)), generator)
        return image

    return change


def measure(
    path: Path,
    data: Path,
    part: Part = "auto",
    positive: str = "COVID",
    limit: int = 0,
    changes: Sequence[Change] = (),
    progress: Progress = QUIET,
) -> list[dict[str, object]]:
    """Score a bundle on changed slices and return one row a change.

    Args:
        path: The bundle.
        data: Folder or CSV of labelled slices.
        part: Part of the slices, as for `edge-ct evaluate`.
        positive: Name of the positive class.
        limit: Maximum number of slices, spread over all; 0 takes all.
        changes: Changes to apply, the first of which leaves slices as they are; empty means all changes.
        progress: Where to show progress.

    Raises:
        DataRejected: The bundle was made with every slice.
    """
    classifier = Classifier(read_bundle(path))
    changes = changes or all_changes()
    dataset, readable = load(data, positive, one_class=True), dict[int, Slice]()
    for index, source in enumerate(dataset.paths):
        try:
            readable[index] = slices.read(source)
        except InputRejected as error:
            progress.say(str(error))
    hashes = [readable[index].sha256 if index in readable else None for index in range(len(dataset))]
    chosen, split, scored_part = select_held_out(
        hashes, parts_known_to_bundle(classifier.bundle), classifier.manifest.data.split, part
    )
    chosen = [index for index in chosen if index in readable]
    chosen = chosen[:: -(-len(chosen) // limit)] if limit else chosen
    labels = dataset.labels[chosen]
    probabilities = _judge_changed(classifier, [readable[index] for index in chosen], changes, progress)
    common: dict[str, object] = {"model": classifier.manifest.name, "split": split, "part": scored_part}
    threshold = classifier.manifest.operating_point.threshold
    return [
        common | _row(change, labels, p, probabilities[0], threshold)
        for change, p in zip(changes, probabilities, strict=True)
    ]


def _judge_changed(
    classifier: Classifier, originals: Sequence[Slice], changes: Sequence[Change], progress: Progress
) -> np.ndarray:
    """Return P(positive), float [changes, slices]; NaN for a rejected slice."""
    probabilities = np.full((len(changes), len(originals)), np.nan)
    with progress.bar("changed slices", probabilities.size) as on_done:
        for column, original in enumerate(originals):
            for row, change in enumerate(changes):
                generator = np.random.default_rng((row, int(original.sha256[:8], 16)))
                pixels = change.apply(original.pixels, generator)
                p = classifier.judge_slice(Slice(pixels, "slice", colour=original.colour)).result.probability
                probabilities[row, column] = np.nan if p is None else p
                on_done(1)
    return probabilities


def _row(
    change: Change, labels: np.ndarray, p: np.ndarray, unchanged: np.ndarray, threshold: float
) -> dict[str, object]:
    accepted = ~np.isnan(p)
    both = accepted & ~np.isnan(unchanged)
    rejected = int((~accepted).sum())
    row: dict[str, object] = {"change": change.kind, "amount": change.amount, "n": len(p), "rejected": rejected}
    row |= estimate_columns("rejected_share", msgspec.to_builtins(wilson(rejected, len(p))))
    scores = score(labels[accepted], p[accepted])
    at_threshold = score(labels[accepted], p[accepted], threshold)
    for name in ("accuracy", "sensitivity", "specificity"):
        row |= estimate_columns(name, msgspec.to_builtins(getattr(scores, name)))
    for name in ("sensitivity", "specificity"):
        row |= estimate_columns(f"{name}_at_threshold", msgspec.to_builtins(getattr(at_threshold, name)))
    same = ((p >= 0.5) == (unchanged >= 0.5))[both]
    return row | {"same_call": f"{same.mean():.5f}" if len(same) else ""}


def rows_csv(rows: Sequence[dict[str, object]]) -> str:
    """Return the rows as CSV."""
    return to_csv(tuple(rows[0]), (row.values() for row in rows))


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder or CSV of labelled slices.")
@click.option(
    "--part",
    type=click.Choice(["auto", "validation", "test", "all"]),
    default="auto",
    show_default=True,
    help="Part of the slices to score, as for `edge-ct evaluate`.",
)
@click.option("--positive", default="COVID", show_default=True, help="Name of the positive class.")
@click.option("--limit", type=click.IntRange(0), default=0, help="Maximum number of slices; 0 takes all slices.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="CSV file to write the scores to.")
@click.option("--plot", type=click.Path(path_type=Path), help="SVG file to draw the scores to.")
def command(bundle: Path, data: Path, part: Part, positive: str, limit: int, out: Path, plot: Path | None) -> None:
    """Measure BUNDLE on slices that were degraded in one way at a time."""
    rows = measure(bundle, data, part, positive, limit, progress=Progress())
    write_text(out, rows_csv(rows))
    if plot:
        from .plots import robustness

        write_text(plot, robustness(rows))


if __name__ == "__main__":
    run_program(command)
