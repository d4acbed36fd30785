"""The run folder: what `train` leaves behind, and `convert`, `evaluate` and `ensemble` read.

run.json         what was trained, on which data, how           (`RunInfo`)
split.csv        path,label,group,part,sha256: every slice and the part it fell into
seen.csv         sha256,part of slices that are not in split.csv, but which a network this one was trained from had seen
model.keras      the best weights in their network; for an ensemble, its members are named in run.json
history.csv      one row an epoch
predictions.csv  path,part,label,probability for validation and test
metrics.json     scores of each part; metrics.csv the same as a table; curves.png, confusion.png
checkpoint/      what --resume needs; gone when training has finished
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from .dataset import PARTS, Dataset
from .errors import DataRejected
from .manifest import Data, Network
from .preprocess import Preprocess
from .system.csv_text import to_csv
from .system.files import write_bytes, write_text

MODEL = "model.keras"
SEEN = "seen.csv"

# mean of the members' softmax outputs; share of their votes.
Rule = Literal["mean", "vote"]


class RunInfo(msgspec.Struct, frozen=True):
    """The content of `run.json`.

    data_path: the folder that the paths of split.csv are relative to, absolute; the slices themselves are not copied.
    options: the training options as given. members: run folders of an ensemble, relative to this one where possible;
    rule: how their probabilities become one; weights: of the members in a mean, all alike where there are none.
    """

    schema: Literal[1]
    kind: Literal["network", "ensemble"]
    network: Network
    preprocess: Preprocess
    classes: tuple[str, str]
    data: Data
    data_path: str
    options: dict[str, Any]
    versions: dict[str, str]
    members: tuple[str, ...] = ()
    rule: Rule = "mean"
    weights: tuple[float, ...] = ()
    finished: bool = False


@dataclass(frozen=True, eq=False)
class SplitTable:
    """split.csv in memory; every field has one entry a slice."""

    paths: tuple[str, ...]
    labels: np.ndarray
    groups: tuple[str, ...]
    parts: tuple[str, ...]
    sha256: tuple[str, ...]

    def where(self, part: str) -> np.ndarray:
        """Indices of the slices in `part`."""
        return np.flatnonzero(np.asarray(self.parts) == part)

    def part_of(self) -> dict[str, str]:
        """First 16 hex digits of a pixel identity -> the part it fell into.

        Of the same pixels in several files, the part that a network knows best: what it has learned from tests nothing.
        """
        found: dict[str, str] = {}
        for part in reversed(PARTS):
            found |= {self.sha256[i][:16]: part for i in self.where(part)}
        return found


@dataclass(frozen=True)
class Run:
    """A run folder and its run.json."""

    folder: Path
    info: RunInfo

    @property
    def model_path(self) -> Path:
        """Where the Keras model is."""
        return self.folder / MODEL

    @property
    def name(self) -> str:
        """Short name for tables: the architecture and its size, or the ensemble's."""
        return model_name(self.info.network, self.info.preprocess.size)

    def split(self) -> SplitTable:
        """Read split.csv. Raises `DataRejected`."""
        return read_split(self.folder / "split.csv")

    def known(self) -> dict[str, str]:
        """First 16 hex digits of a pixel identity -> part, of all slices that this run or one before it was made with.

        Raises `DataRejected`.
        """
        return {**self.seen(), **self.split().part_of()}

    def seen(self) -> dict[str, str]:
        """As `known`, of those slices alone that are not in split.csv."""
        return _read_seen(self.folder / SEEN)

    def dataset(self, data: Path | None = None) -> Dataset:
        """The slices of split.csv as a dataset; `data` where the folder has moved since training."""
        table = self.split()
        root = data or Path(self.info.data_path)
        root = root.parent if root.is_file() else root
        if not root.is_dir():
            raise DataRejected(f"{root}: the slices of {self.folder} are not there; say where with --data")
        groups = table.groups if any(table.groups) else None
        paths = tuple(root / path for path in table.paths)
        return Dataset(self.info.data.name, paths, table.labels, self.info.classes, groups)

    def load_model(self, loader: Callable[[Path], Any]) -> Any:
        """The network, through `loader`, a Keras API's `saving.load_model` with `compile=False`.

        Raises `DataRejected` for an ensemble, and where the file is missing or damaged.
        """
        if self.info.kind != "network":
            raise DataRejected(f"{self.folder}: an ensemble has no model of its own; name one of its members")
        try:
            return loader(self.model_path)
        except Exception as error:  # zipfile, h5py and Keras raise what they like for a damaged file
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if not self.model_path.exists():
                reason = "there is none (the runs of a study with folds have one where --keep-models was given)"
            raise DataRejected(f"{self.model_path}: cannot be loaded: {reason}") from error

    def members(self) -> tuple[Run, ...]:
        """The runs of an ensemble; of a network, itself."""
        if self.info.kind == "network":
            return (self,)
        return tuple(load_run((self.folder / member).resolve()) for member in self.info.members)


def model_name(network: Network, size: int, variant: str = "") -> str:
    """`mobilenetv2-1.00-224-int8`, `customcnn-96`."""
    alpha = "" if network.alpha is None else f"{network.alpha:.2f}"
    return "-".join(part for part in (network.architecture, alpha, str(size), variant) if part)


def load_run(folder: Path) -> Run:
    """Open a finished or unfinished run. Raises `DataRejected` where `folder` is none."""
    path = folder / "run.json"
    try:
        return Run(folder, msgspec.json.decode(path.read_bytes(), type=RunInfo))
    except OSError as error:
        raise DataRejected(f"{folder}: not a run folder (no run.json); make one with edge-ct train") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataRejected(f"{path}: damaged: {error}") from error


def load_finished_run(folder: Path) -> Run:
    """As `load`; raises `DataRejected` for a run whose training was cut short."""
    run = load_run(folder)
    if not run.info.finished:
        raise DataRejected(f"{folder}: its training has not finished; go on with edge-ct train ... --resume")
    return run


def save_run_info(folder: Path, info: RunInfo) -> None:
    """Write run.json, whole or not at all."""
    write_bytes(folder / "run.json", msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n")


def write_split(path: Path, table: SplitTable) -> None:
    """Write split.csv."""
    rows = zip(table.paths, table.labels.tolist(), table.groups, table.parts, table.sha256, strict=True)
    write_text(path, to_csv(("path", "label", "group", "part", "sha256"), rows))


def read_split(path: Path) -> SplitTable:
    """Read split.csv. Raises `DataRejected`."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise ValueError("no rows")
        for row in rows:
            if row["label"] not in ("0", "1") or row["part"] not in PARTS or len(row["sha256"]) != 64:
                raise ValueError(f"bad row for {row['path']}")
        return SplitTable(
            paths=tuple(row["path"] for row in rows),
            labels=np.array([int(row["label"]) for row in rows], np.int8),
            groups=tuple(row["group"] for row in rows),
            parts=tuple(row["part"] for row in rows),
            sha256=tuple(row["sha256"] for row in rows),
        )
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataRejected(f"{path}: missing or damaged split table: {error}") from error


def write_seen_slices(folder: Path, known: dict[str, str]) -> None:
    """Write seen.csv. known: first 16 hex digits of a pixel identity -> part; nothing is written where it is empty."""
    if known:
        write_text(folder / SEEN, to_csv(("sha256", "part"), sorted(known.items())))


def _read_seen(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = {row["sha256"]: row["part"] for row in csv.DictReader(file)}
        if not all(len(sha256) == 16 and part in PARTS for sha256, part in found.items()):
            raise ValueError("bad row")
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataRejected(f"{path}: damaged: {error}") from error
    return found
