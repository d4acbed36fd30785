"""What is wrong with a dataset, before anything is trained on it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from edge_ct import slices
from edge_ct.dataset import load
from edge_ct.errors import InputRejected
from edge_ct.imaging import near_duplicates
from edge_ct.system.progress import QUIET, Progress

from . import contact_sheet, shortcuts
from . import similarity as likeness
from .similarity import Link, Look

# Bits of 256 that two copies of one slice differ in at most, after another window or compression.
SAME = 20
WORST = 12  # pairs of different labels, and of one label, that are listed and drawn


class Unreadable(msgspec.Struct, frozen=True):
    """A file that is not a slice, and why."""

    path: str
    reason: str


class Pair(msgspec.Struct, frozen=True):
    """Two slices alike. distance: Hamming, of 256 bits. overlap, similarity: of lungs and gradients, 0 to 1."""

    first: str
    second: str
    distance: int
    overlap: float = 0.0
    similarity: float = 0.0
    first_label: str = ""
    second_label: str = ""


class Audit(msgspec.Struct, frozen=True):
    """What `data check --json` prints.

    classes, formats, channels, modes, depths: counts. sides: smallest, median and largest side in pixels.
    duplicates: sets of files with the same pixels. near_duplicate_groups: groups of two and more, none of them exact.
    conflicts: the nearest of them, where their labels differ.
    neighbour_pairs: pairs whose lungs and gradients are alike, as `data group` links them. neighbour_groups: groups of
    two and more that these and the near-duplicates make: slices of one patient. neighbour_conflicts: those of the
    pairs whose labels differ.
    worst: the pairs to look at, as `--sheet` draws them: conflicts, then the most alike of different labels, linked or
    not, then the most alike of one label.
    shortcuts: cross-validated AUC of predicting the label from one property at a time, and from all of the container;
    0.5 is chance, None where it does not vary. border and window are of the pixels, along the frame and at the ends
    of the grey scale.
    """

    n: int
    classes: dict[str, int]
    unreadable: list[Unreadable]
    formats: dict[str, int]
    channels: dict[str, int]
    modes: dict[str, int]
    depths: dict[str, int]
    sides: tuple[int, float, int]
    duplicates: list[list[str]]
    near_duplicate_pairs: int
    near_duplicate_groups: int
    slices_in_near_duplicate_groups: int
    conflicts: list[Pair]
    neighbour_pairs: int
    neighbour_groups: int
    slices_in_neighbour_groups: int
    neighbour_conflicts: list[Pair]
    worst: list[Pair]
    shortcuts: dict[str, float | None]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class _Read:
    """What was read of a dataset: a list has one entry a readable slice."""

    classes: tuple[str, str]
    paths: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    properties: list[dict[str, shortcuts.Property]] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)

    def pairs(self, links: Iterable[Link]) -> list[Pair]:
        """The links by name, with their labels."""
        return [
            Pair(
                *(self.names[i] for i in (link.first, link.second)),
                link.distance,
                link.overlap,
                link.similarity,
                *(self.classes[self.labels[i]] for i in (link.first, link.second)),
            )
            for link in links
        ]

    def differ(self, link: Link) -> bool:
        """Whether a pair's labels differ."""
        return self.labels[link.first] != self.labels[link.second]


def check(
    data: Path, positive: str, progress: Progress = QUIET, sheet: Path | None = None, force: bool = False
) -> Audit:
    """Read every slice of a folder or CSV. Raises `DataRejected` where there are not two classes.

    sheet: a PNG of the worst pairs; none is written where there are none.
    """
    if sheet:
        contact_sheet.check_path(sheet, force)
    read = _read(data, positive, progress)
    truth, limits = np.array(read.labels, int), likeness.Limits(distance=near_duplicates.ALIKE)
    with progress.bar("comparing slices", len(read.looks)) as on_done:
        found = likeness.compare(read.looks, limits, truth, WORST, on_done)
    near = [link for link in found.links if link.distance <= near_duplicates.ALIKE]
    neighbours = [link for link in found.links if link.by_lungs(limits)]
    conflicts = sorted((link for link in near if link.distance <= SAME and read.differ(link)), key=_distance)
    neighbour_conflicts = [link for link in neighbours if read.differ(link)]
    worst = [*dict.fromkeys([*conflicts, *neighbour_conflicts, *found.across])][:WORST]
    worst += [link for link in found.links if not read.differ(link)][:WORST]
    near_groups, slices_in_near_groups = _grouped(len(truth), near)
    neighbour_groups, slices_in_neighbour_groups = _grouped(len(truth), found.links)
    sides = [int(side) for row in read.properties for side in (row["width"], row["height"])]
    audit = Audit(
        n=len(truth),
        classes={name: read.labels.count(index) for index, name in enumerate(read.classes)},
        unreadable=read.unreadable,
        formats=_counts(read, "format"),
        channels=_counts(read, "channels"),
        modes=_counts(read, "mode"),
        depths=_counts(read, "depth"),
        sides=(min(sides), float(np.median(sides)), max(sides)) if sides else (0, 0.0, 0),
        duplicates=_duplicates(read.names, read.identities),
        near_duplicate_pairs=sum(read.identities[link.first] != read.identities[link.second] for link in near),
        near_duplicate_groups=near_groups,
        slices_in_near_duplicate_groups=slices_in_near_groups,
        conflicts=read.pairs(conflicts),
        neighbour_pairs=len(neighbours),
        neighbour_groups=neighbour_groups,
        slices_in_neighbour_groups=slices_in_neighbour_groups,
        neighbour_conflicts=read.pairs(neighbour_conflicts),
        worst=read.pairs(worst),
        shortcuts=shortcuts.audit(read.properties, truth),
        warnings=[],
    )
    if sheet and worst:
        files = [(read.paths[link.first], read.paths[link.second]) for link in worst]
        contact_sheet.draw_pairs(files, [_caption(pair) for pair in audit.worst], f"{data}: pairs to look at.", sheet)
    return msgspec.structs.replace(audit, warnings=_warnings(audit))


def _read(data: Path, positive: str, progress: Progress) -> _Read:
    dataset = load(data, positive)
    root = data if data.is_dir() else data.parent
    read = _Read(dataset.classes)
    with progress.bar("reading slices", len(dataset)) as on_done:
        for path, label in zip(dataset.paths, dataset.labels, strict=True):
            name = os.path.relpath(path, root)
            try:
                content = slices.read_bytes(path)
                one = slices.decode(content, name)
            except InputRejected as error:
                read.unreadable.append(Unreadable(name, str(error).removeprefix(f"{name}: ")))
            else:
                read.paths.append(path)
                read.names.append(name)
                read.labels.append(int(label))
                read.looks.append(likeness.look(one.pixels))
                read.identities.append(one.sha256)
                read.properties.append(shortcuts.properties(content, one.pixels))
            on_done(1)
    return read


def _distance(link: Link) -> int:
    return link.distance


def _caption(pair: Pair) -> str:
    first, second = Path(pair.first).name, Path(pair.second).name
    return (
        f"{pair.first_label} {first}, {pair.second_label} {second}: {pair.distance} bits, "
        f"overlap {pair.overlap:.2f}, similarity {pair.similarity:.2f}"
    )


def _grouped(count: int, links: Iterable[Link]) -> tuple[int, int]:
    """How many groups of two and more the links make of `count` slices, and how many slices are in them."""
    roots = near_duplicates.single_linkage(count, ((link.first, link.second) for link in links))
    sizes = [size for size in Counter(roots).values() if size > 1]
    return len(sizes), sum(sizes)


def _counts(read: _Read, name: str) -> dict[str, int]:
    return dict(Counter(str(row[name]) for row in read.properties))


def _duplicates(names: list[str], identities: list[str]) -> list[list[str]]:
    same = defaultdict(list)
    for name, identity in zip(names, identities, strict=True):
        same[identity].append(name)
    return [files for files in same.values() if len(files) > 1]


def _warnings(audit: Audit) -> list[str]:
    found = []
    if audit.unreadable:
        found.append(f"{len(audit.unreadable)} files cannot be read")
    fewest, most = min(audit.classes.values()), max(audit.classes.values())
    if fewest * 3 < most:
        found.append(f"unbalanced: {fewest} slices of one class, {most} of the other")
    if audit.duplicates:
        found.append(f"{sum(map(len, audit.duplicates))} files in {len(audit.duplicates)} sets of equal pixels")
    if audit.neighbour_groups:
        found.append(
            f"{audit.slices_in_near_duplicate_groups} slices in {audit.near_duplicate_groups} near-duplicate groups, "
            f"{audit.slices_in_neighbour_groups} in {audit.neighbour_groups} groups that look like one patient's: "
            "a random split would test on what it trained on; use --split grouped"
        )
    if audit.conflicts:
        found.append(f"{len(audit.conflicts)} pairs of near-duplicates have different labels")
    if audit.neighbour_conflicts:
        found.append(
            f"{len(audit.neighbour_conflicts)} pairs that look like one patient's have different labels: wrong labels, "
            "one patient at two times, or two patients alike; look at them with --sheet"
        )
    for name, auc in audit.shortcuts.items():
        if shortcuts.tells(auc, *audit.classes.values()) and name != "all":
            found.append(f"{name} alone predicts the label (AUC {auc:.2f}): a network may learn that instead")
    return found
