"""Problems of a data set, found before anything is trained on it."""

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
from edge_ct.reporting.counts import count_of
from edge_ct.system.progress import QUIET, Progress

from . import contact_sheet
from .shortcuts import Property, SourceLeak, audit_shortcuts, is_shortcut, measure_source_leak, read_properties
from .similarity import Link, LinkLimits, SliceFeatures, compare_slices, extract_features

# Two copies of one slice differ in at most this many of 256 hash bits after another window or compression.
MAX_COPY_DISTANCE = 20
WORST_PAIRS = 12  # number of pairs with different labels, and with equal labels, that are listed and drawn


class UnreadableFile(msgspec.Struct, frozen=True):
    """A file that cannot be read as a slice, and the reason."""

    path: str
    reason: str


class AuditPair(msgspec.Struct, frozen=True):
    """Two similar slices.

    Attributes:
        first: Path of one slice.
        second: Path of the other.
        distance: Number of differing bits in the 256-bit hashes.
        overlap: Intersection over union of the registered lungs, 0 to 1.
        similarity: Cosine similarity of the gradients, 0 to 1.
        first_label: Class of the first slice.
        second_label: Class of the second slice.
    """

    first: str
    second: str
    distance: int
    overlap: float = 0.0
    similarity: float = 0.0
    first_label: str = ""
    second_label: str = ""


class Audit(msgspec.Struct, frozen=True):
    """Output of `data check --json`.

    Attributes:
        n: Number of readable slices.
        classes: Number of slices by class.
        unreadable: Files that cannot be read.
        formats: Number of slices by file format.
        channels: Number of slices by number of channels.
        modes: Number of slices by colour type.
        depths: Number of slices by bits per sample.
        sides: Smallest, median and largest side in pixels.
        duplicates: Sets of files with the same pixels.
        near_duplicate_pairs: Number of pairs that are nearly the same slice, without exact copies.
        near_duplicate_groups: Number of groups of two or more near-duplicates.
        slices_in_near_duplicate_groups: Number of slices in these groups.
        conflicts: The nearest near-duplicates with different labels.
        neighbour_pairs: Number of pairs whose lungs and gradients are similar, as `data group` links them.
        neighbour_groups: Number of groups of two or more slices linked by similarity or as near-duplicates, which are
            likely to be of one patient.
        slices_in_neighbour_groups: Number of slices in these groups.
        neighbour_conflicts: Similar pairs with different labels.
        worst: Pairs to check, as `--sheet` draws them: conflicts, then the most similar pairs with different labels,
            then the most similar pairs with equal labels.
        shortcuts: Cross-validated AUC of predicting the label from one property at a time, and from all properties
            of the file; 0.5 is chance, None means that the property does not vary. `border` and `window` are computed
            from the pixels along the frame and at the ends of the grey scale.
        warnings: Problems, in sentences.
        sources: How well the label follows from the source; None for data without sources, or of a single one.
    """

    n: int
    classes: dict[str, int]
    unreadable: list[UnreadableFile]
    formats: dict[str, int]
    channels: dict[str, int]
    modes: dict[str, int]
    depths: dict[str, int]
    sides: tuple[int, float, int]
    duplicates: list[list[str]]
    near_duplicate_pairs: int
    near_duplicate_groups: int
    slices_in_near_duplicate_groups: int
    conflicts: list[AuditPair]
    neighbour_pairs: int
    neighbour_groups: int
    slices_in_neighbour_groups: int
    neighbour_conflicts: list[AuditPair]
    worst: list[AuditPair]
    shortcuts: dict[str, float | None]
    warnings: list[str]
    sources: SourceLeak | None = None


@dataclass(frozen=True, eq=False)
class _Read:
    """A data set that was read; every list but the last has one entry per readable slice."""

    classes: tuple[str, str]
    paths: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    features: list[SliceFeatures] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    properties: list[dict[str, Property]] = field(default_factory=list)
    unreadable: list[UnreadableFile] = field(default_factory=list)

    def pairs(self, links: Iterable[Link]) -> list[AuditPair]:
        """Describe links by the names and labels of their slices."""
        return [
            AuditPair(
                first=self.names[link.first],
                second=self.names[link.second],
                distance=link.distance,
                overlap=link.overlap,
                similarity=link.similarity,
                first_label=self.classes[self.labels[link.first]],
                second_label=self.classes[self.labels[link.second]],
            )
            for link in links
        ]

    def differ(self, link: Link) -> bool:
        """Return True if the labels of two linked slices differ."""
        return self.labels[link.first] != self.labels[link.second]


def check_dataset(
    data: Path, positive: str, progress: Progress = QUIET, sheet: Path | None = None, force: bool = False
) -> Audit:
    """Read every slice of a folder or CSV and look for problems.

    Args:
        data: Folder or CSV of slices.
        positive: Name of the positive class.
        progress: Where to report progress.
        sheet: PNG file to draw the worst pairs to; it is not written if there are none.
        force: True to overwrite `sheet`.

    Raises:
        DataRejected: The data do not have two classes.
    """
    if sheet:
        contact_sheet.check_path(sheet, force)
    read = _read(data, positive, progress)
    truth, limits = np.array(read.labels, int), LinkLimits(distance=near_duplicates.ALIKE)
    with progress.bar("comparing slices", len(read.features)) as on_done:
        comparison = compare_slices(read.features, limits, truth, WORST_PAIRS, on_done)
    near = [link for link in comparison.links if link.distance <= near_duplicates.ALIKE]
    neighbours = [link for link in comparison.links if link.by_lungs(limits)]
    conflicts = sorted(
        (link for link in near if link.distance <= MAX_COPY_DISTANCE and read.differ(link)), key=_distance
    )
    neighbour_conflicts = [link for link in neighbours if read.differ(link)]
    worst = [*dict.fromkeys([*conflicts, *neighbour_conflicts, *comparison.across])][:WORST_PAIRS]
    worst += [link for link in comparison.links if not read.differ(link)][:WORST_PAIRS]
    near_groups, slices_in_near_groups = _count_groups(len(truth), near)
    neighbour_groups, slices_in_neighbour_groups = _count_groups(len(truth), comparison.links)
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
        shortcuts=audit_shortcuts(read.properties, truth),
        warnings=[],
        sources=measure_source_leak(read.sources, truth) if read.sources else None,
    )
    if sheet and worst:
        files = [(read.paths[link.first], read.paths[link.second]) for link in worst]
        contact_sheet.draw_pairs(files, [_caption(pair) for pair in audit.worst], f"{data}: pairs to check.", sheet)
    return msgspec.structs.replace(audit, warnings=_warnings(audit))


def _read(data: Path, positive: str, progress: Progress) -> _Read:
    dataset = load(data, positive)
    root = data if data.is_dir() else data.parent
    read = _Read(dataset.classes)
    with progress.bar("reading slices", len(dataset)) as on_done:
        for index, (path, label) in enumerate(zip(dataset.paths, dataset.labels, strict=True)):
            name = os.path.relpath(path, root)
            try:
                content = slices.read_bytes(path)
                slice_ = slices.decode(content, name)
            except InputRejected as error:
                read.unreadable.append(UnreadableFile(name, str(error).removeprefix(f"{name}: ")))
            else:
                read.paths.append(path)
                read.names.append(name)
                read.labels.append(int(label))
                if dataset.sources is not None:
                    read.sources.append(dataset.sources[index])
                read.features.append(extract_features(slice_.pixels))
                read.identities.append(slice_.sha256)
                read.properties.append(read_properties(content, slice_.pixels))
            on_done(1)
    return read


def _distance(link: Link) -> int:
    return link.distance


def _caption(pair: AuditPair) -> str:
    first, second = Path(pair.first).name, Path(pair.second).name
    return (
        f"{pair.first_label} {first}, {pair.second_label} {second}: {pair.distance} bits, "
        f"overlap {pair.overlap:.2f}, similarity {pair.similarity:.2f}"
    )


def _count_groups(count: int, links: Iterable[Link]) -> tuple[int, int]:
    """Return the number of groups of two or more linked slices, and the number of slices in them."""
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
    warnings = []
    if (leak := audit.sources) and is_shortcut(leak.auc, *audit.classes.values()):
        only = f"; {', '.join(leak.one_class)} have one class only" if leak.one_class else ""
        warnings.append(
            f"the source alone predicts the label with AUC {leak.auc:.2f} (balanced accuracy "
            f"{leak.balanced_accuracy:.0%}){only}: train with --balance sources, and test with --split source"
        )
    if audit.unreadable:
        warnings.append(f"{count_of(len(audit.unreadable), 'file')} cannot be read")
    fewest, most = min(audit.classes.values()), max(audit.classes.values())
    if fewest * 3 < most:
        warnings.append(f"classes are unbalanced: {count_of(fewest, 'slice')} of one class, {most} of the other")
    if audit.duplicates:
        sets = count_of(len(audit.duplicates), "set")
        warnings.append(f"{sum(map(len, audit.duplicates))} files in {sets} have the same pixels")
    if audit.neighbour_groups:
        warnings.append(
            f"{audit.slices_in_near_duplicate_groups} slices are in "
            f"{count_of(audit.near_duplicate_groups, 'group')} of "
            f"near-duplicates, {audit.slices_in_neighbour_groups} in "
            f"{count_of(audit.neighbour_groups, 'group')} that look like "
            "one patient: a random split would put the same patient into training and test; use --split grouped"
        )
    if audit.conflicts:
        warnings.append(f"{count_of(len(audit.conflicts), 'pair')} of near-duplicates with different labels")
    if audit.neighbour_conflicts:
        warnings.append(
            f"{count_of(len(audit.neighbour_conflicts), 'pair')} that look like one patient, with different "
            "labels: wrong labels, "
            "one patient at two times, or two similar patients; check them with --sheet"
        )
    for name, auc in audit.shortcuts.items():
        if is_shortcut(auc, *audit.classes.values()) and name != "all":
            warnings.append(
                f"{name} alone predicts the label (AUC {auc:.2f}): a network may learn it instead of the lungs"
            )
    return warnings
