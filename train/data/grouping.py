"""Which slices are one patient's: by the DICOM identifiers, else by how alike they look. A table that can be edited.

Groups of images are single-linkage groups of the links that `likeness` finds. Of the public SARS-CoV-2 set they leave
many a patient in several groups, and hardly ever put two patients into one.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
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
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import refuse_existing, write_text
from edge_ct.system.progress import QUIET, Progress

from . import contact_sheet
from . import similarity as likeness
from .similarity import Limits, Link, Look

LISTED = 30  # doubtful links
LARGE = 0.1  # of the slices: a group larger than that is likely to be a chain of false links


class Doubt(msgspec.Struct, frozen=True):
    """A link near the limits, for a person to look at: two slices' paths, and what `likeness.Link` says of them."""

    first: str
    second: str
    distance: int
    overlap: float
    similarity: float


class Summary(msgspec.Struct, frozen=True):
    """What `data group --json` prints.

    by_dicom: slices whose DICOM identifiers name their group; the others were compared with each other.
    without_lungs: those of the others in which no lungs were found: compared by hash alone.
    groups: how many. largest: slices in the largest. alone: groups of one slice. mixed: groups that hold both labels.
    links, discordant_links: pairs that were linked, and those of them that have two labels.
    nearest_in_group: share of the compared slices whose most similar one is in their group; None where none has lungs.
    precision, recall: of the pairs of slices in one group, the share that the dataset's own groups have in one too, and
    the reverse; None where the dataset has no groups, or no pair is in one.
    doubtful: the weakest links, weakest first.
    """

    n: int
    limits: Limits
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
    doubtful: list[Doubt]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class Grouping:
    """groups: one name a slice, in the dataset's order. links: what joined them, by index, strongest first.

    by_dicom: bool [n]. without_lungs: how many. nearest: int [n], the most similar slice, -1 where none was looked for.
    """

    groups: tuple[str, ...]
    limits: Limits
    links: list[Link]
    by_dicom: np.ndarray
    without_lungs: int
    nearest: np.ndarray


def group(dataset: Dataset, limits: Limits | None = None, progress: Progress = QUIET) -> Grouping:
    """Group the slices of a dataset anew, whatever groups it has.

    DICOM: PatientID, else SeriesInstanceUID, names the group. All else, and DICOM without either, is compared by
    likeness; images are not compared with such DICOM. Raises `DataRejected` naming the first unreadable slices.
    """
    limits = limits or Limits()
    found = _read(dataset, progress)
    compared = np.array([index for index, one in enumerate(found) if isinstance(one, Look)], int)
    looks = [one for one in found if isinstance(one, Look)]
    with progress.bar("comparing slices", len(looks)) as on_done:
        comparison = likeness.compare(looks, limits, on_done=on_done)
    links = [replace(link, first=int(compared[link.first]), second=int(compared[link.second]))
             for link in comparison.links]  # fmt: skip
    roots = near_duplicates.single_linkage(len(found), ((link.first, link.second) for link in links))
    nearest = np.full(len(found), -1)
    nearest[compared] = np.where(comparison.nearest < 0, -1, compared[comparison.nearest])
    return Grouping(
        groups=tuple(f"alike-{root:05d}" if isinstance(one, Look) else one
                     for root, one in zip(roots, found, strict=True)),
        limits=limits,
        links=links,
        by_dicom=np.array([not isinstance(one, Look) for one in found], bool),
        without_lungs=sum(not one.found for one in looks),
        nearest=nearest,
    )  # fmt: skip


def add_likely_groups(dataset: Dataset, limits: Limits | None = None, progress: Progress = QUIET) -> Dataset:
    """The dataset with groups: its own, or where it has none, those that `group` finds."""
    if dataset.groups is not None:
        return dataset
    found = group(dataset, limits, progress).groups
    progress.say(f"{len(dataset)} slices without patient names fall into {len(set(found))} groups")
    return replace(dataset, groups=found)


def _read(dataset: Dataset, progress: Progress, workers: int = 2) -> list[Look | str]:
    """Of each slice what it is compared by, or the group that its DICOM identifiers name."""

    def one(path: Path) -> Look | str | InputRejected:
        try:
            slice_ = slices.read(path)
        except InputRejected as error:
            return error
        return (slice_.dicom and _identity(slice_.dicom)) or likeness.look(slice_.pixels)

    found: list[Look | str] = []
    failures = []
    with ThreadPoolExecutor(workers) as pool, progress.bar("reading slices", len(dataset)) as on_done:
        for result in pool.map(one, dataset.paths):
            if isinstance(result, InputRejected):
                failures.append(result)
            else:
                found.append(result)
            on_done(1)
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise DataRejected(f"{failures[0]}{more}; edge-ct data check lists unreadable files")
    return found


def _identity(ids: DicomIds) -> str:
    if patient := ids.patient.strip():
        return f"patient-{patient}"
    return f"series-{ids.series.strip()}" if ids.series.strip() else ""


def summarise(dataset: Dataset, grouping: Grouping, names: list[str]) -> Summary:
    """Count what was found. names: the slices' paths as they are shown."""
    labels, groups = dataset.labels, np.asarray(grouping.groups)
    sizes = Counter(grouping.groups)
    held = defaultdict(set)
    for name, label in zip(grouping.groups, labels.tolist(), strict=True):
        held[name].add(label)
    looked = np.flatnonzero(grouping.nearest >= 0)
    near = groups[looked] == groups[grouping.nearest[looked]]
    together = _pairs(zip(grouping.groups, dataset.groups, strict=True)) if dataset.groups else 0
    own, theirs = _pairs(grouping.groups), _pairs(dataset.groups or ())
    summary = Summary(
        n=len(dataset),
        limits=grouping.limits,
        by_dicom=int(grouping.by_dicom.sum()),
        without_lungs=grouping.without_lungs,
        groups=len(sizes),
        largest=max(sizes.values(), default=0),
        alone=sum(size == 1 for size in sizes.values()),
        mixed=sorted(name for name, own in held.items() if len(own) > 1),
        links=len(grouping.links),
        discordant_links=sum(bool(labels[link.first] != labels[link.second]) for link in grouping.links),
        nearest_in_group=float(near.mean()) if len(near) else None,
        precision=together / own if dataset.groups and own else None,
        recall=together / theirs if theirs else None,
        doubtful=[
            Doubt(names[link.first], names[link.second], link.distance, link.overlap, link.similarity)
            for link in doubtful(grouping)
        ],
        warnings=[],
    )
    return msgspec.structs.replace(summary, warnings=_warnings(summary, grouping, sizes))


def _pairs(groups: Iterable[object]) -> int:
    """How many pairs of slices are in one group."""
    return sum(size * (size - 1) // 2 for size in Counter(groups).values())


def doubtful(grouping: Grouping, count: int = LISTED) -> list[Link]:
    """The weakest links, weakest first."""
    return grouping.links[: -count - 1 : -1]


def _warnings(summary: Summary, grouping: Grouping, sizes: Counter[str]) -> list[str]:
    found = []
    if summary.mixed:
        found.append(
            f"{len(summary.mixed)} groups hold both labels ({', '.join(summary.mixed[:3])}): false links, or one "
            "patient at two times; look at them and edit the table"
        )
    kinds = dict(zip(grouping.groups, grouping.by_dicom, strict=True))
    size, name = max(((sizes[name], name) for name, by_dicom in kinds.items() if not by_dicom), default=(0, ""))
    if size > max(20, LARGE * summary.n):
        found.append(f"{name} holds {size} of {summary.n} slices: a chain of false links, perhaps; raise --similarity")
    patients = [name for name, by_dicom in kinds.items() if by_dicom]
    if len(patients) == 1 and summary.by_dicom > 1:
        found.append(f"all DICOM slices are of {patients[0]}: one patient, or a placeholder for many?")
    return found


def write(
    data: Path,
    out: Path,
    positive: str,
    limits: Limits | None = None,
    sheet: Path | None = None,
    regroup: bool = False,
    force: bool = False,
    progress: Progress = QUIET,
) -> Summary:
    """Write `out`, a CSV path,label,group of the slices of a folder or CSV; paths are relative to it.

    sheet: a PNG of the largest groups and the weakest links. regroup: leave groups that `data` names out of account;
    without it they are not overruled but refused. Raises `DataRejected`, `EdgeCTError` where a file cannot be written.
    """
    refuse_existing(out, force)
    if out.exists() and data.exists() and out.samefile(data):
        raise EdgeCTError(f"{out}: is the table that is read; give another name")
    if sheet:
        contact_sheet.check_path(sheet, force)
    dataset = load(data, positive, one_class=True)
    if dataset.groups is not None and not regroup:
        raise DataRejected(f"{data}: has groups already; --regroup to group its slices anew all the same")
    names = [_relative(path, out) for path in dataset.paths]
    table = [(name, dataset.classes[label]) for name, label in zip(names, dataset.labels, strict=True)]
    _check_encodable(table)
    grouping = group(dataset, limits, progress)
    rows = [(*row, name) for row, name in zip(table, grouping.groups, strict=True)]
    _check_encodable(rows)
    summary = summarise(dataset, grouping, names)
    if sheet:
        contact_sheet.draw_groups(dataset, grouping.groups, doubtful(grouping), sheet)
    write_text(out, to_csv(("path", "label", "group"), rows))
    return summary


def _relative(path: Path, table: Path) -> str:
    """The path from the table's folder; links among the folders are followed, as `..` will be by the reader."""
    return os.path.relpath(path.parent.resolve() / path.name, table.parent.resolve())


def _check_encodable(rows: list[tuple[str, ...]]) -> None:
    for row in rows:
        try:
            "".join(row).encode()
        except UnicodeEncodeError as error:
            raise DataRejected(f"{row[0]!a}: a name that is not UTF-8 cannot stand in a table; rename it") from error
