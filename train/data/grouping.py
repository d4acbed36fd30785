"""Groups of slices that belong to one patient: by DICOM identifiers, or else by visual similarity; as a table to edit.

Slices without identifiers are grouped by single linkage of the links that `similarity` finds. On the public
SARS-CoV-2 set this leaves many patients in several groups, and hardly ever joins two patients.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from edge_ct import slices
from edge_ct.dataset import Dataset, load
from edge_ct.dicom import DicomIds
from edge_ct.errors import DataRejected, EdgeCTError, InputRejected
from edge_ct.imaging import near_duplicates
from edge_ct.reporting.counts import count_of
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import refuse_existing, write_text
from edge_ct.system.progress import QUIET, Progress

from . import contact_sheet
from .similarity import Link, LinkLimits, SliceFeatures, compare_slices, extract_features

DOUBTFUL_COUNT = 30  # number of doubtful links that are listed
LARGE_GROUP = 0.1  # fraction of the slices; a larger group is probably a chain of false links


class DoubtfulLink(msgspec.Struct, frozen=True):
    """A link near the limits, for a person to check: the paths of two slices, and the fields of `similarity.Link`."""

    first: str
    second: str
    distance: int
    overlap: float
    similarity: float


class GroupingSummary(msgspec.Struct, frozen=True):
    """Output of `data group --json`.

    Attributes:
        n: Number of slices.
        limits: Limits for links.
        by_dicom: Number of slices grouped by DICOM identifiers; the others are compared with each other.
        without_lungs: Number of compared slices in which no lungs were found; they are compared by hash alone.
        groups: Number of groups.
        largest: Number of slices in the largest group.
        alone: Number of groups with one slice.
        mixed: Groups with both labels.
        links: Number of linked pairs.
        discordant_links: Number of linked pairs with different labels.
        nearest_in_group: Fraction of compared slices whose most similar slice is in their group; None without lungs.
        precision: Of the pairs of slices in one group here, the fraction in one group of the data set too; None if
            the data set has no groups or no pair is in one group.
        recall: Of the pairs of slices in one group of the data set, the fraction in one group here too.
        doubtful: The weakest links, weakest first.
        warnings: Problems, in sentences.
    """

    n: int
    limits: LinkLimits
    by_dicom: int
    without_lungs: int
    groups: int
    largest: int
    alone: int
    mixed: list[str]
    links: int
    discordant_links: int
    nearest_in_group: float | None
    precision: float | None
    recall: float | None
    doubtful: list[DoubtfulLink]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class Grouping:
    """Slices in groups.

    Attributes:
        groups: Group of each slice.
        limits: Limits for links.
        links: Links that joined the slices, strongest first.
        by_dicom: True for slices grouped by DICOM identifiers, bool [n].
        without_lungs: Number of compared slices without lungs.
        nearest: Index of the most similar slice, int [n]; -1 for slices that were not compared or have no lungs.
    """

    groups: tuple[str, ...]
    limits: LinkLimits
    links: list[Link]
    by_dicom: np.ndarray
    without_lungs: int
    nearest: np.ndarray


def group_slices(dataset: Dataset, limits: LinkLimits | None = None, progress: Progress = QUIET) -> Grouping:
    """Group the slices of a data set, ignoring groups that it has.

    DICOM files are grouped by PatientID or else SeriesInstanceUID. All other slices, and DICOM files without either,
    are compared by similarity among themselves.

    Args:
        dataset: The slices.
        limits: Limits for links; None for the defaults.
        progress: Where to report progress.

    Raises:
        DataRejected: A slice cannot be read.
    """
    limits = limits or LinkLimits()
    identities = _read(dataset, progress)
    compared = np.array([i for i, identity in enumerate(identities) if isinstance(identity, SliceFeatures)], int)
    features = [identity for identity in identities if isinstance(identity, SliceFeatures)]
    with progress.bar("comparing slices", len(features)) as on_done:
        comparison = compare_slices(features, limits, on_done=on_done)
    links = [
        replace(link, first=int(compared[link.first]), second=int(compared[link.second])) for link in comparison.links
    ]
    roots = near_duplicates.single_linkage(len(identities), ((link.first, link.second) for link in links))
    nearest = np.full(len(identities), -1)
    nearest[compared] = np.where(comparison.nearest < 0, -1, compared[comparison.nearest])
    return Grouping(
        groups=tuple(
            f"alike-{root:05d}" if isinstance(identity, SliceFeatures) else identity
            for root, identity in zip(roots, identities, strict=True)
        ),
        limits=limits,
        links=links,
        by_dicom=np.array([not isinstance(identity, SliceFeatures) for identity in identities], bool),
        without_lungs=sum(not slice_features.has_lungs for slice_features in features),
        nearest=nearest,
    )


def add_likely_groups(dataset: Dataset, limits: LinkLimits | None = None, progress: Progress = QUIET) -> Dataset:
    """Return the data set with groups: its own or, if it has none, those that `group_slices` finds."""
    if dataset.groups is not None:
        return dataset
    groups = group_slices(dataset, limits, progress).groups
    progress.say(
        f"{count_of(len(dataset), 'slice')} without patient names: put into "
        f"{count_of(len(set(groups)), 'group')} by similarity"
    )
    return replace(dataset, groups=groups)


def _read(dataset: Dataset, progress: Progress, workers: int = 2) -> list[SliceFeatures | str]:
    """Return for each slice the group that its DICOM identifiers name, or else the features to compare it by."""

    def read_slice(path: Path) -> SliceFeatures | str | InputRejected:
        try:
            slice_ = slices.read(path)
        except InputRejected as error:
            return error
        return (slice_.dicom and _patient_or_series(slice_.dicom)) or extract_features(slice_.pixels)

    identities: list[SliceFeatures | str] = []
    failures = []
    with ThreadPoolExecutor(workers) as pool, progress.bar("reading slices", len(dataset)) as on_done:
        for result in pool.map(read_slice, dataset.paths):
            if isinstance(result, InputRejected):
                failures.append(result)
            else:
                identities.append(result)
            on_done(1)
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise DataRejected(f"{failures[0]}{more}; edge-ct data check lists unreadable files")
    return identities


def _patient_or_series(ids: DicomIds) -> str:
    if patient := ids.patient.strip():
        return f"patient-{patient}"
    return f"series-{ids.series.strip()}" if ids.series.strip() else ""


def summarise_grouping(dataset: Dataset, grouping: Grouping, names: list[str]) -> GroupingSummary:
    """Summarise a grouping; `names` are the paths of the slices as they are shown."""
    labels, groups = dataset.labels, np.asarray(grouping.groups)
    sizes = Counter(grouping.groups)
    labels_of = defaultdict(set)
    for name, label in zip(grouping.groups, labels.tolist(), strict=True):
        labels_of[name].add(label)
    with_nearest = np.flatnonzero(grouping.nearest >= 0)
    near = groups[with_nearest] == groups[grouping.nearest[with_nearest]]
    pairs_in_both = _count_pairs(zip(grouping.groups, dataset.groups, strict=True)) if dataset.groups else 0
    pairs_here, pairs_in_data = _count_pairs(grouping.groups), _count_pairs(dataset.groups or ())
    summary = GroupingSummary(
        n=len(dataset),
        limits=grouping.limits,
        by_dicom=int(grouping.by_dicom.sum()),
        without_lungs=grouping.without_lungs,
        groups=len(sizes),
        largest=max(sizes.values(), default=0),
        alone=sum(size == 1 for size in sizes.values()),
        mixed=sorted(name for name, group_labels in labels_of.items() if len(group_labels) > 1),
        links=len(grouping.links),
        discordant_links=sum(bool(labels[link.first] != labels[link.second]) for link in grouping.links),
        nearest_in_group=float(near.mean()) if len(near) else None,
        precision=pairs_in_both / pairs_here if dataset.groups and pairs_here else None,
        recall=pairs_in_both / pairs_in_data if pairs_in_data else None,
        doubtful=[
            DoubtfulLink(names[link.first], names[link.second], link.distance, link.overlap, link.similarity)
            for link in weakest_links(grouping)
        ],
        warnings=[],
    )
    return msgspec.structs.replace(summary, warnings=_warnings(summary, grouping, sizes))


def _count_pairs(groups: Iterable[object]) -> int:
    """Count the pairs of slices that are in one group."""
    return sum(size * (size - 1) // 2 for size in Counter(groups).values())


def weakest_links(grouping: Grouping, count: int = DOUBTFUL_COUNT) -> list[Link]:
    """Return the weakest links, weakest first."""
    return grouping.links[: -count - 1 : -1]


def _warnings(summary: GroupingSummary, grouping: Grouping, sizes: Counter[str]) -> list[str]:
    warnings = []
    if summary.mixed:
        warnings.append(
            f"{count_of(len(summary.mixed), 'group')} with both labels ({', '.join(summary.mixed[:3])}): false "
            "links, or one "
            "patient at two times; check them and edit the table"
        )
    kinds = dict(zip(grouping.groups, grouping.by_dicom, strict=True))
    size, name = max(((sizes[name], name) for name, by_dicom in kinds.items() if not by_dicom), default=(0, ""))
    if size > max(20, LARGE_GROUP * summary.n):
        warnings.append(
            f"{name} holds {size} of {count_of(summary.n, 'slice')}: perhaps a chain of false links; raise --similarity"
        )
    patients = [name for name, by_dicom in kinds.items() if by_dicom]
    if len(patients) == 1 and summary.by_dicom > 1:
        warnings.append(
            f"all DICOM slices are in {patients[0]}: check that this is one patient and not a placeholder for many"
        )
    return warnings


def write_groups(
    data: Path,
    out: Path,
    positive: str,
    limits: LinkLimits | None = None,
    sheet: Path | None = None,
    regroup: bool = False,
    force: bool = False,
    progress: Progress = QUIET,
) -> GroupingSummary:
    """Group the slices of a folder or CSV and write the groups as a CSV table with the columns path,label,group.

    Args:
        data: Folder or CSV of slices.
        out: CSV file to write; paths in it are relative to it.
        positive: Name of the positive class.
        limits: Limits for links; None for the defaults.
        sheet: PNG file to draw the largest groups and the weakest links to.
        regroup: True to ignore groups that `data` names; otherwise data with groups are rejected.
        force: True to overwrite files.
        progress: Where to report progress.

    Raises:
        DataRejected: The data cannot be used or already have groups.
        EdgeCTError: A file exists already or cannot be written.
    """
    refuse_existing(out, force)
    if out.exists() and data.exists() and out.samefile(data):
        raise EdgeCTError(f"{out}: is the table to read; choose another --out")
    if sheet:
        contact_sheet.check_path(sheet, force)
    dataset = load(data, positive, one_class=True)
    if dataset.groups is not None and not regroup:
        raise DataRejected(f"{data}: already has groups; ignore them with --regroup")
    names = [_relative(path, out) for path in dataset.paths]
    table = [(name, dataset.classes[label]) for name, label in zip(names, dataset.labels, strict=True)]
    _check_encodable(table)
    grouping = group_slices(dataset, limits, progress)
    rows = [(*row, name) for row, name in zip(table, grouping.groups, strict=True)]
    _check_encodable(rows)
    summary = summarise_grouping(dataset, grouping, names)
    if sheet:
        contact_sheet.draw_groups(dataset, grouping.groups, weakest_links(grouping), sheet)
    write_text(out, to_csv(("path", "label", "group"), rows))
    return summary


def _relative(path: Path, table: Path) -> str:
    """Return a path relative to the folder of the table; symbolic links are resolved, because `..` follows them."""
    return os.path.relpath(path.parent.resolve() / path.name, table.parent.resolve())


def _check_encodable(rows: Sequence[tuple[str, ...]]) -> None:
    for row in rows:
        try:
            "".join(row).encode()
        except UnicodeEncodeError as error:
            raise DataRejected(
                f"{row[0]!a}: a file name that is not UTF-8 cannot be written to a table; rename the file"
            ) from error
